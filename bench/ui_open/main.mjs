// Rounds of two turns each, with the pages open and without, in an order that changes from round to round, so that what drifts
// on the machine falls on both alike. Run by ../ui-open.sh, which says how it is used.
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Worker } from 'node:worker_threads';
import { table } from './figures.mjs';
import { ENDPOINT, start } from './gateway.mjs';
import { openPages } from './pages.mjs';
import { cpuSeconds, cpuSecondsBelow } from './processes.mjs';

const { values: given } = parseArgs({
  options: {
    binary: { type: 'string' },
    rounds: { type: 'string', default: '9' },
    seconds: { type: 'string', default: '10' },
    nodes: { type: 'string', default: '1' },
    only: { type: 'string' },
    output: { type: 'string', default: 'table' },
  },
});
const ROUNDS = Number(given.rounds);
const SECONDS = Number(given.seconds);
const NODES = Number(given.nodes);

/** Each way to load a gateway. The pace is that of the promise; the other shows what is left of what it can do. */
const LOADS = {
  paced: { connections: 20, perSecond: 20_000, eventBytes: 128 },
  saturated: { connections: 64, window: 16, eventBytes: 128 },
};
/** Load and pages before it is measured: connections are warm, the pages have read what they show at first. */
const SETTLE_SECONDS = 3;
/** For Chromium to start and to end. More than that, and the machine is too busy to measure anything. */
const BROWSER_SECONDS_MAX = 20;
const START_SECONDS_MAX = 60;

const loads = Object.entries(LOADS).filter(([name]) => !given.only || name === given.only);
if (!loads.length || !(ROUNDS >= 1 && SECONDS >= 1 && NODES >= 1 && NODES <= 5) || !['table', 'json'].includes(given.output)) {
  console.error('usage: bench/ui-open.sh [--rounds N] [--seconds S] [--nodes 1-5] [--only paced|saturated] [--binary PATH] [--output table|json]');
  process.exit(2);
}

let gateway = null;
let pages = null;
let loader = null;

async function end(status, why) {
  if (why) console.error(why);
  await pages?.close().catch(() => {});
  await loader?.terminate();
  await gateway?.end();
  process.exit(status);
}
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => end(130, `ended by ${signal}`));
const longest = START_SECONDS_MAX + loads.length * ROUNDS * 2 * (SECONDS + SETTLE_SECONDS + BROWSER_SECONDS_MAX);
setTimeout(() => end(1, `no end within ${longest} s`), longest * 1000).unref();

/** Asks the loader's thread, which answers each question once. */
function ask(question) {
  return new Promise((resolve, reject) => {
    loader.once('message', (answer) => (answer.error ? reject(new Error(answer.error)) : resolve(answer)));
    loader.postMessage(question);
  });
}

async function turn(load, open) {
  if (open) pages = await openPages(gateway.admin);
  await ask({ start: { ...load, targets: gateway.clients, path: ENDPOINT } });
  await sleep(SETTLE_SECONDS * 1000);
  const watches = await gateway.watches();
  if (watches > 0 !== open) throw new Error(`${watches} tails are watched while the pages are ${open ? 'open' : 'closed'}`);
  const browser = () => (open ? cpuSecondsBelow(process.pid, gateway.pids) : new Map());
  const before = { browser: browser(), cpu: cpuSeconds(gateway.pids) };
  await ask({ reset: true });
  await sleep(SECONDS * 1000);
  const flow = await ask({ report: true });
  const cpu = cpuSeconds(gateway.pids) - before.cpu;
  let shown = 0;
  for (const [pid, seconds] of browser()) shown += seconds - (before.browser.get(pid) ?? 0);
  await ask({ stop: true });
  await pages?.close();
  pages = null;
  return {
    perSecond: flow.received / flow.seconds,
    cores: cpu / flow.seconds,
    cpuPer100k: (cpu / flow.received) * 100_000,
    p50Millis: flow.p50Millis,
    p99Millis: flow.p99Millis,
    loaderBusy: flow.busy,
    browserCores: shown / flow.seconds,
  };
}

try {
  gateway = await start(given.binary, NODES);
  loader = new Worker(new URL('./load.mjs', import.meta.url));
  loader.on('error', (error) => end(1, error.stack));
  const found = {};
  for (const [name, load] of loads) {
    found[name] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      const turns = {};
      for (const open of round % 2 ? [true, false] : [false, true]) turns[open ? 'open' : 'closed'] = await turn(load, open);
      found[name].push(turns);
      console.error(`${name}, round ${round + 1} of ${ROUNDS}: ${Math.round(turns.closed.perSecond)} events/s closed, ${Math.round(turns.open.perSecond)} open`);
    }
  }
  console.log(given.output === 'json' ? JSON.stringify(found) : Object.entries(found).map(([name, rounds]) => table(name, rounds)).join('\n\n'));
  await end(0);
} catch (error) {
  await end(1, error.stack);
}
