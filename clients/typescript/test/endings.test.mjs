// Ends: what is asked for, what is refused, and that nothing is left behind.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { WebSocket as WsSocket } from "ws";
import { GatewayClient, StoppedError } from "../dist/index.js";
import { client, clock, FakeSocket, last, NpmSocket, opened, sockets, turn } from "./fakes.mjs";

/** Nothing is to happen any more. */
async function isOver(made) {
  assert.equal(made.state, "stopped");
  assert.equal(clock.timers.size, 0, "timers");
  const before = sockets.length;
  clock.tick(3_600_000);
  await turn();
  assert.equal(sockets.length, before);
}

test("closing while the token is asked for, while connecting and while waiting", async () => {
  let give;
  const asking = client({ token: () => new Promise((resolve) => (give = resolve)) });
  asking.made.connect();
  const never = assert.rejects(asking.made.ready(), StoppedError);
  asking.made.close();
  give("too late");
  await turn();
  await never;
  assert.equal(sockets.length, 0);
  await isOver(asking.made);

  const connecting = client();
  connecting.made.connect();
  await turn();
  connecting.made.close();
  assert.ok(last().closedWith);
  last().ends(1006);
  await isOver(connecting.made);

  const waiting = await opened();
  last().ends(1006);
  assert.equal(waiting.made.state, "waiting");
  waiting.made.close();
  await isOver(waiting.made);
  for (const { heard } of [asking, connecting, waiting]) {
    assert.deepEqual(heard.at(-1), ["close", { code: 1000, reason: "", reconnectInMillis: null }]);
  }
});

test("closing from within a listener of any event", async () => {
  const heartbeat = { event: 1, everyMillis: 1000, answerWithinMillis: 1000 };
  for (const at of ["connecting", "open", "waiting"]) {
    const { made, heard } = client({ heartbeat });
    made.on("state", (state) => state === at && made.close());
    made.connect();
    await turn();
    if (at !== "connecting") last().opens();
    if (at === "waiting") last().ends(1006);
    await isOver(made);
    assert.equal(heard.at(-1)[1].reconnectInMillis, null, at);
    if (at !== "waiting") assert.deepEqual(heard.map(([name]) => name), ["close"], at);
  }
  for (const at of ["open", "message", "close", "error", "unparsable"]) {
    const { made } = client({ heartbeat });
    made.on(at, () => made.close());
    made.connect();
    await turn();
    last().opens();
    if (at === "message") last().says(1);
    if (at === "error") last().says({ type: "error", error: { code: "no_route", message: "" }, connectionId: "c" });
    if (at === "unparsable") last().saysText("{");
    if (at === "close") last().ends(1006);
    await isOver(made);
  }
});

test("a code that a WebSocket would not take changes nothing", async () => {
  const { made } = await opened();
  for (const code of [1001, 1006, 2999, 5000, 4000.5, Number.NaN]) assert.throws(() => made.close(code), RangeError);
  assert.throws(() => made.close(4000, "ü".repeat(62)), RangeError);
  assert.deepEqual([made.state, last().closedWith], ["open", undefined]);
  made.close(4000, "ü".repeat(61));
  assert.equal(last().closedWith[0], 4000);
  await isOver(made);
});

test("why it has stopped is told to whoever asks later", async () => {
  const { made } = await opened();
  last().ends(4403, "removed by an operator");
  assert.throws(() => made.send(1), /stopped: 4403 removed by an operator/);
  const { closed } = await made.ready().catch((error) => error);
  assert.deepEqual(closed, { code: 4403, reason: "removed by an operator", reconnectInMillis: null });
});

test("what would fail for ever is said at once", async () => {
  for (const url of [[], "", "/relative", "gateway/chat", "ftp://gateway/chat", ["ws://a/x", "b"]]) {
    assert.throws(() => new GatewayClient({ url, WebSocket: FakeSocket }), TypeError, String(url));
  }
  class Refuses extends FakeSocket {
    constructor() {
      throw new SyntaxError("no subprotocol: a=b");
    }
  }
  const { made, heard } = client({ WebSocket: Refuses });
  made.connect();
  await turn();
  const [, { reconnectInMillis, error }] = heard.at(-1);
  assert.deepEqual([reconnectInMillis, error.message], [null, "no subprotocol: a=b"]);
  await isOver(made);
});

test("options that are given as undefined are not given", async () => {
  const { made, heard } = await opened({ backoff: { firstMillis: undefined, maxMillis: 100 }, token: undefined });
  last().ends(1006);
  assert.equal(heard.at(-1)[1].reconnectInMillis, 50);
  made.close();
});

test("an end that says that something was too much is not followed at once", async () => {
  for (const [code, reason, wait] of [
    [1013, "slow consumer", 1250],
    [1008, "throttled", 1250],
    [1008, "maximum connection duration reached", 250],
    [1012, "node restarting, reconnect", 250],
  ]) {
    const { made, heard } = await opened();
    last().ends(code, reason);
    assert.equal(heard.at(-1)[1].reconnectInMillis, wait, reason);
    made.close();
  }
});

test("a refused handshake of npm's ws tells its status, and when to come back", async () => {
  const tokens = ["one", "two"];
  const it = client({ token: () => tokens.shift() ?? "last", WebSocket: NpmSocket });
  const refuse = (status, headers = {}) => {
    last().answers(status, headers);
    assert.ok(last().terminated);
    last().ends(1006);
    return it.heard.at(-1)[1];
  };
  it.made.connect();
  await turn();
  const busy = refuse(503, { "retry-after": "7" });
  assert.deepEqual([busy.status, busy.reconnectInMillis, busy.error.message], [503, 7250, "the handshake was answered 503"]);
  globalThis.dispatchEvent?.(new Event("online"));
  clock.tick(7249);
  assert.equal(sockets.length, 1);
  clock.tick(1);
  await turn();
  assert.equal(refuse(429, { "retry-after": "Thu, 01 Jan 1970 00:00:17 GMT" }).reconnectInMillis, 9750 + 500);
  clock.tick(10_250);
  await turn();
  assert.equal(refuse(404).reconnectInMillis, 1000);
  clock.tick(1000);
  await turn();
  // The token was not good: another one, or none.
  assert.equal(refuse(401).reconnectInMillis, 2000);
  clock.tick(2000);
  await turn();
  assert.deepEqual([it.made.state, it.heard.at(-1)[1].reason], ["stopped", "the token is the one that was refused"]);
  it.made.connect();
  await turn();
  const no = refuse(403);
  assert.deepEqual([no.status, no.reconnectInMillis], [403, null]);
  await isOver(it.made);
});

test("a handshake that fails is over, whether a close follows or not", async () => {
  for (const closeFollows of [false, true]) {
    const { made, heard } = client();
    made.connect();
    await turn();
    last().fails();
    if (closeFollows) last().ends(1006);
    clock.tick(0);
    const closed = { code: 1006, reason: "", reconnectInMillis: 250, error: "no handshake" };
    assert.deepEqual(heard, [["close", closed]], String(closeFollows));
    made.close();
    await isOver(made);
  }
});

test("a real ws is refused, and closed in the middle of a handshake", async () => {
  clock.end();
  let requests = 0;
  const server = createServer();
  server.on("upgrade", (_request, socket) => {
    requests += 1;
    socket.on("error", () => undefined).on("end", () => socket.end()).resume();
    if (requests === 1) socket.end("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const unhandled = [];
  const note = (error) => unhandled.push(error);
  process.on("unhandledRejection", note);
  const url = `ws://127.0.0.1:${server.address().port}/chat`;
  const made = new GatewayClient({ url, WebSocket: WsSocket, random: () => 0 });
  const closed = new Promise((resolve) => made.on("close", resolve));
  made.connect();
  const { code, status, reconnectInMillis } = await closed;
  assert.deepEqual([code, status, reconnectInMillis], [1006, 429, 3000]);
  made.close();
  // The server says nothing to the next one.
  made.connect();
  const begun = Date.now();
  while (requests < 2 && Date.now() - begun < 10_000) await new Promise((resolve) => setTimeout(resolve, 5));
  const stopped = assert.rejects(made.ready(), StoppedError);
  made.close();
  await stopped;
  await turn();
  const connections = await new Promise((resolve) => {
    const look = () => server.getConnections((_, count) => (count === 0 || Date.now() - begun > 10_000 ? resolve(count) : setTimeout(look, 5)));
    look();
  });
  assert.deepEqual([requests, connections, unhandled], [2, 0, []]);
  process.off("unhandledRejection", note);
  server.close();
});
