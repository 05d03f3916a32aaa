// The load, in a thread of its own: WebSocket clients upon bare sockets, at a fixed pace or each with so many events outstanding.
// What is echoed comes in the order in which it was sent, connection by connection, so a queue of times is enough for latency.
import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { performance } from 'node:perf_hooks';
import { parentPort } from 'node:worker_threads';

const TEXT = 0x81;
const PING = 0x9;
const PONG = 0x8a;
const CLOSE = 0x8;
const TICK_MILLIS = 5;
/** A gateway that is behind by more than that is not sent more. */
const BEHIND_SECONDS_MAX = 1;
/** Frames of a client that are written at once. */
const BURST = 64;
/** Times of events outstanding, a power of two. */
const OUTSTANDING_MAX = 1 << 16;
/** Latency in steps of 1/50 of a decade, from a microsecond to a hundred seconds: to 5 %. */
const STEPS_PER_DECADE = 50;
const STEPS = 8 * STEPS_PER_DECADE;

/** A frame of a client; with a key of zeroes the masked payload is the payload. */
function frame(kind, payload) {
  const head = payload.length < 126 ? [kind, 0x80 | payload.length] : [kind, 0x80 | 126, payload.length >> 8, payload.length & 0xff];
  return Buffer.concat([Buffer.from([...head, 0, 0, 0, 0]), payload]);
}

function event(bytes) {
  const text = (filler) => JSON.stringify({ action: 'load', text: filler });
  return Buffer.from(text('x'.repeat(Math.max(0, bytes - text('').length))));
}

class Client {
  constructor(run, socket) {
    this.run = run;
    this.socket = socket;
    this.rest = Buffer.alloc(0);
    this.times = new Float64Array(OUTSTANDING_MAX);
    this.sent = 0;
    this.received = 0;
    socket.on('data', (piece) => this.read(piece));
    socket.on('close', () => run.fail('a connection was closed'));
    socket.on('error', () => {});
  }

  send(count) {
    const now = performance.now();
    for (let left = count; left > 0; left -= BURST) this.socket.write(this.run.bursts[Math.min(left, BURST)]);
    for (let number = 0; number < count; number += 1) this.times[this.sent++ & (OUTSTANDING_MAX - 1)] = now;
  }

  read(piece) {
    const data = this.rest.length ? Buffer.concat([this.rest, piece]) : piece;
    const now = performance.now();
    let at = 0;
    let echoed = 0;
    while (data.length - at >= 2) {
      const short = data[at + 1] & 0x7f;
      const head = short === 126 ? 4 : short === 127 ? 10 : 2;
      if (data.length - at < head) break;
      const length = short === 126 ? data.readUInt16BE(at + 2) : short === 127 ? Number(data.readBigUInt64BE(at + 2)) : short;
      if (data.length - at < head + length) break;
      const opcode = data[at] & 0xf;
      if (opcode === PING) this.socket.write(frame(PONG, data.subarray(at + head, at + head + length)));
      else if (opcode === CLOSE) this.run.fail(`a connection was closed with ${length >= 2 ? data.readUInt16BE(at + head) : 'no code'}`);
      else if (length !== this.run.payload.length) this.run.fail(`an answer that is no echo: ${data.subarray(at + head, at + head + length)}`);
      else {
        this.run.note(now - this.times[this.received++ & (OUTSTANDING_MAX - 1)]);
        echoed += 1;
      }
      at += head + length;
    }
    this.rest = data.subarray(at);
    if (this.run.window && echoed && !this.run.ended) this.send(echoed);
  }
}

class Run {
  constructor({ eventBytes, window, perSecond }) {
    this.window = window;
    this.perSecond = perSecond;
    this.payload = event(eventBytes);
    const one = frame(TEXT, this.payload);
    this.bursts = Array.from({ length: BURST + 1 }, (_, count) => Buffer.concat(Array(count).fill(one)));
    this.clients = [];
    this.ended = false;
    this.failed = null;
    this.reset();
  }

  reset() {
    this.began = performance.now();
    this.received = 0;
    this.steps = new Uint32Array(STEPS);
    this.busy = performance.eventLoopUtilization();
  }

  fail(why) {
    if (!this.ended) this.failed ??= why;
  }

  note(millis) {
    this.received += 1;
    this.steps[Math.max(0, Math.min(STEPS - 1, Math.round(STEPS_PER_DECADE * Math.log10(millis * 1000))))] += 1;
  }

  percentileMillis(share) {
    let left = share * this.received;
    const step = this.steps.findIndex((count) => (left -= count) <= 0);
    return 10 ** (step / STEPS_PER_DECADE) / 1000;
  }

  async start({ targets, path, connections }) {
    const places = Array.from({ length: connections }, (_, place) => targets[place % targets.length]);
    const sockets = await Promise.all(places.map((target) => open(target, path)));
    this.clients = sockets.map((socket) => new Client(this, socket));
    if (this.window) for (const client of this.clients) client.send(this.window);
    else this.pace();
  }

  /** By the clock, so that a late tick sends what it owes; whole events to the clients in turn. */
  pace() {
    const began = performance.now();
    const owed = new Uint32Array(this.clients.length);
    let sent = 0;
    this.timer = setInterval(() => {
      const outstanding = this.clients.reduce((sum, client) => sum + client.sent - client.received, 0);
      const due = Math.floor(((performance.now() - began) / 1000) * this.perSecond);
      if (outstanding > this.perSecond * BEHIND_SECONDS_MAX) {
        // What was not sent is missing in the events received, and shows there.
        sent = due;
        return;
      }
      for (; sent < due; sent += 1) owed[sent % owed.length] += 1;
      this.clients.forEach((client, place) => client.send(owed[place]));
      owed.fill(0);
    }, TICK_MILLIS);
  }

  report() {
    const { received } = this;
    const seconds = (performance.now() - this.began) / 1000;
    const busy = performance.eventLoopUtilization(this.busy).utilization;
    return { received, seconds, busy, p50Millis: this.percentileMillis(0.5), p99Millis: this.percentileMillis(0.99) };
  }

  stop() {
    this.ended = true;
    clearInterval(this.timer);
    for (const client of this.clients) client.socket.destroy();
  }
}

/** A socket after its handshake. */
function open(target, path) {
  return new Promise((resolve, reject) => {
    const [host, port] = target.split(':');
    const socket = connect({ host, port: Number(port), noDelay: true });
    let head = Buffer.alloc(0);
    const read = (piece) => {
      head = Buffer.concat([head, piece]);
      if (!head.includes('\r\n\r\n')) return;
      socket.off('data', read);
      const status = head.toString().split('\r\n')[0];
      if (status.includes(' 101 ')) resolve(socket);
      else reject(new Error(`${path}: ${status}`));
    };
    const key = randomBytes(16).toString('base64');
    socket.on('error', reject);
    socket.on('data', read);
    socket.on('connect', () => socket.write(`GET ${path} HTTP/1.1\r\nHost: ${target}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`));
  });
}

let run = null;
parentPort.on('message', async (question) => {
  try {
    let answer = {};
    if (question.start) {
      run = new Run(question.start);
      await run.start(question.start);
    } else if (question.reset) run.reset();
    else if (question.report) answer = run.report();
    else run.stop();
    parentPort.postMessage(run.failed ? { error: run.failed } : answer);
  } catch (error) {
    parentPort.postMessage({ error: error.message });
  }
});
