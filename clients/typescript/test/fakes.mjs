// Sockets that do as they are told, and a clock that is moved by hand.
import { afterEach, beforeEach } from "node:test";
import { GatewayClient } from "../dist/index.js";

/** Those of the test, in the order in which they were made. */
export let sockets;

/** Timers that fire when `tick` says that their time has come. */
export const clock = {
  real: { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout },
  realNow: Date.now,
  begin() {
    this.now = 0;
    this.timers = new Map();
    Date.now = () => this.now;
    let ids = 0;
    globalThis.setTimeout = (call, millis) => {
      this.timers.set(++ids, { call, at: this.now + millis });
      return ids;
    };
    globalThis.clearTimeout = (id) => this.timers.delete(id);
  },
  end() {
    Object.assign(globalThis, this.real);
    Date.now = this.realNow;
  },
  tick(millis) {
    const end = this.now + millis;
    for (;;) {
      const [next] = [...this.timers].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at);
      if (!next) break;
      const [id, { call, at }] = next;
      this.timers.delete(id);
      this.now = at;
      call();
    }
    this.now = end;
  },
};

export class FakeSocket {
  constructor(url, protocols) {
    Object.assign(this, { url, protocols, protocol: "", readyState: 0, bufferedAmount: 0, sent: [] });
    sockets.push(this);
  }
  send(text) {
    this.sent.push(text);
  }
  close(code, reason) {
    this.readyState = 3;
    this.closedWith = [code, reason];
  }
  opens() {
    this.readyState = 1;
    this.onopen({});
  }
  says(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }
  saysText(data) {
    this.onmessage({ data });
  }
  /** As a handshake that fails in Node.js before 24: no close follows, and the state stays. */
  fails() {
    this.onerror({ message: "no handshake" });
  }
  ends(code, reason = "") {
    this.readyState = 3;
    this.onclose({ code, reason });
  }
}

/** What npm's `ws` has beside that: it shows what a refused handshake was answered, and leaves its end to who looks. */
export class NpmSocket extends FakeSocket {
  on(name, listener) {
    this.listens = { ...this.listens, [name]: listener };
  }
  terminate() {
    this.terminated = true;
  }
  answers(statusCode, headers) {
    this.listens["unexpected-response"]({}, { statusCode, headers });
  }
}

beforeEach(() => {
  sockets = [];
  clock.begin();
});
afterEach(() => clock.end());

/** What the client awaits before it makes a socket has no timers in it. */
export const turn = () => new Promise((resolve) => setImmediate(resolve));
export const last = () => sockets.at(-1);

export function client(options = {}) {
  const made = new GatewayClient({ url: "ws://gateway/chat", WebSocket: FakeSocket, random: () => 0.5, ...options });
  const heard = [];
  for (const name of ["open", "message", "unconfirmed", "ack", "error", "close", "session", "unparsable"]) {
    made.on(name, (value) => heard.push([name, value]));
  }
  return { made, heard };
}

export async function opened(options) {
  const it = client(options);
  it.made.connect();
  await turn();
  last().opens();
  return it;
}

export const session = (token, more = {}) => ({
  type: "session",
  connectionId: "c",
  resumeToken: token,
  resumed: false,
  received: 0,
  windowInSeconds: 60,
  ...more,
});
export const queryOf = (socket) => Object.fromEntries(new URL(socket.url).searchParams);
