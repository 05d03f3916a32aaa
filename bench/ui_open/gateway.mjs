// Nodes of the real program on free ports of loopback, in a folder that is removed, with one endpoint that echoes.
import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

export const ENDPOINT = '/ui-open';
const DOCUMENT = { path: ENDPOINT, routes: [{ type: 'default', name: 'echo', backends: [{ type: 'echo' }] }] };
const READY_WITHIN_MILLIS = 30_000;
/** A node that leaves closes its connections, finishes what is under way and hands over. */
const ENDS_WITHIN_MILLIS = 10_000;

function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  return Promise.all(
    servers.map((server) => new Promise((resolve, reject) => server.on('error', reject).on('listening', () => resolve(server.address().port)))),
  ).finally(() => servers.forEach((server) => server.close()));
}

async function until(what, done) {
  const deadline = Date.now() + READY_WITHIN_MILLIS;
  while (!(await done().catch(() => false))) {
    if (Date.now() > deadline) throw new Error(`${what} within ${READY_WITHIN_MILLIS} ms`);
    await sleep(100);
  }
}

/** Nodes that are a cluster and serve the endpoint. `end` ends them and removes their folder. */
export async function start(binary, count) {
  const folder = mkdtempSync(join(tmpdir(), 'wsgateway-ui-open-'));
  const ports = await freePorts(3 * count);
  const addresses = Array.from({ length: count }, (_, place) => ports.slice(3 * place, 3 * place + 3).map((port) => `127.0.0.1:${port}`));
  const seeds = addresses.map(([, , cluster]) => cluster).join(',');
  const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('WSGATEWAY')));
  const children = addresses.map(([client, admin, cluster], place) => {
    const log = openSync(join(folder, `n${place + 1}.log`), 'w');
    const flags = ['--name', `n${place + 1}`, '--data-dir', join(folder, `n${place + 1}`), '--client-listen', client, '--admin-listen', admin];
    flags.push('--cluster-listen', cluster, '--seeds', seeds, '--bootstrap-expect', `${count}`, '--drain-seconds', '0');
    const child = spawn(binary, ['serve', ...flags], { env: environment, stdio: ['ignore', log, log] });
    closeSync(log);
    return child;
  });
  const running = () => children.filter((child) => child.pid && child.exitCode === null && child.signalCode === null);
  const gone = Promise.race(children.map((child) => new Promise((_, reject) => child.on('error', reject).on('exit', () => reject(new Error(`${binary} has ended`))))));
  gone.catch(() => {});

  const remove = () => rmSync(folder, { recursive: true, force: true });
  // However this program ends, no node is left.
  process.once('exit', () => {
    for (const child of running()) child.kill('SIGKILL');
    remove();
  });

  async function end() {
    for (const child of running()) child.kill('SIGTERM');
    const deadline = Date.now() + ENDS_WITHIN_MILLIS;
    while (running().length && Date.now() < deadline) await sleep(50);
    for (const child of running()) child.kill('SIGKILL');
    remove();
  }

  const admins = addresses.map(([, admin]) => `http://${admin}`);
  async function made() {
    for (const admin of admins) await until(`${admin} is not ready`, async () => (await fetch(`${admin}/readyz`)).ok);
    if (!(await fetch(`${admins[0]}/ui/`)).ok) throw new Error(`${binary} was built without the admin UI`);
    const headers = { 'content-type': 'application/json' };
    await until('no endpoint was made', async () => (await fetch(`${admins[0]}/api/v1/endpoints`, { method: 'POST', headers, body: JSON.stringify(DOCUMENT) })).ok);
    const serves = async () => (await (await fetch(`${admins[0]}/api/v1/endpoints`)).json()).items[0].id;
    const id = await serves();
    await until('the endpoint is not everywhere', async () => (await (await fetch(`${admins[0]}/api/v1/endpoints/${id}/rollout?wait=all`)).json()).complete);
  }
  try {
    await Promise.race([made(), gone]);
  } catch (error) {
    console.error(readFileSync(join(folder, 'n1.log'), 'utf8').slice(-2000));
    await end();
    throw error;
  }
  return {
    admin: admins[0],
    clients: addresses.map(([client]) => client),
    pids: children.map((child) => child.pid),
    /** How many live tails the first node sends. */
    async watches() {
      const shown = await (await fetch(`${admins[0]}/metrics`)).text();
      return Number(/^wsgateway_tail_watches (\d+)/m.exec(shown)?.[1] ?? Number.NaN);
    },
    end,
  };
}
