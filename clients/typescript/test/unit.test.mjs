// The client over sockets that do as they are told, with a clock that is moved by hand.
import assert from "node:assert/strict";
import { test } from "node:test";
import { after, delayMillis, QueueFullError, RefreshError, StoppedError } from "../dist/index.js";
import { client, clock, last, opened, queryOf, session, sockets, turn } from "./fakes.mjs";

test("each close code has its verdict", () => {
  const reconnect = [1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1011, 1012, 1013, 3000, 4000, 4399, 4408];
  for (const code of reconnect) assert.equal(after(code), "reconnect", String(code));
  for (const code of [4400, 4402, 4403, 4407, 4409, 4410, 4999]) assert.equal(after(code), "stop", String(code));
  assert.equal(after(4401), "new-token");
});

test("the wait is anything up to a bound that doubles to its maximum", () => {
  const backoff = { firstMillis: 100, maxMillis: 1000 };
  const most = (attempt) => delayMillis(attempt, backoff, () => 0.999999);
  assert.deepEqual([0, 1, 2, 3, 4, 50, 5000].map(most), [99, 199, 399, 799, 999, 999, 999]);
  assert.equal(delayMillis(7, backoff, () => 0), 0);
});

test("it comes back with growing waits, to the next URL, and begins anew after a while", async () => {
  const { made, heard } = await opened({ url: ["ws://a/x", "ws://b/x"], backoff: { firstMillis: 1000 } });
  const waits = [];
  for (let round = 0; round < 3; round++) {
    last().ends(1006);
    waits.push(heard.at(-1)[1].reconnectInMillis);
    assert.equal(made.state, "waiting");
    clock.tick(waits.at(-1));
    await turn();
    last().opens();
  }
  assert.deepEqual(waits, [500, 1000, 2000]);
  assert.deepEqual(sockets.map((socket) => socket.url), ["ws://a/x", "ws://b/x", "ws://a/x", "ws://b/x"]);
  assert.equal(heard.at(-1)[1].failedAttempts, 3);
  clock.tick(5000);
  last().ends(1012, "node restarting, reconnect");
  assert.equal(heard.at(-1)[1].reconnectInMillis, 500);
});

test("from 4400 on it stays away until it is told to come", async () => {
  for (const code of [4403, 4410]) {
    const { made, heard } = await opened();
    last().ends(code, "why");
    assert.deepEqual(heard.at(-1), ["close", { code, reason: "why", reconnectInMillis: null }]);
    assert.equal(made.state, "stopped");
    assert.throws(() => made.send(1), StoppedError);
    await assert.rejects(made.ready(), StoppedError);
    const before = sockets.length;
    clock.tick(3_600_000);
    await turn();
    assert.equal(sockets.length, before);
    made.connect();
    await turn();
    last().opens();
    await made.ready();
    made.close();
  }
});

test("4401 wants a token that is another one", async () => {
  const tokens = ["one", "two", "two"];
  const { made, heard } = await opened({ token: () => tokens.shift(), protocols: ["chat.v1"] });
  assert.deepEqual(last().protocols, ["chat.v1", "bearer.one"]);
  last().ends(4401);
  clock.tick(500);
  await turn();
  assert.deepEqual(last().protocols, ["chat.v1", "bearer.two"]);
  last().opens();
  last().ends(4401);
  clock.tick(500);
  await turn();
  clock.tick(60_000);
  await turn();
  assert.equal(made.state, "stopped", JSON.stringify(heard));
  assert.equal(sockets.length, 2);
  const without = await opened();
  last().ends(4401);
  assert.equal(without.made.state, "stopped");
});

test("a token in the query, one that fails, and none any more", async () => {
  const said = [() => Promise.resolve("a&b"), () => Promise.reject(new Error("no network")), () => null];
  const { made, heard } = client({ token: () => said.shift()(), tokenIn: { query: "token" } });
  made.connect();
  await turn();
  assert.equal(last().url, "ws://gateway/chat?token=a%26b");
  assert.deepEqual(last().protocols, []);
  last().ends(1006);
  clock.tick(500);
  await turn();
  assert.equal(heard.at(-1)[1].error.message, "no network");
  clock.tick(1000);
  await turn();
  assert.equal(made.state, "stopped");
  assert.equal(sockets.length, 1);
});

test("events wait for a connection, in order and not without end", async () => {
  const { made } = client({ queueMax: 2 });
  made.connect();
  assert.deepEqual([made.send(1), made.send({ n: 2 })], ["queued", "queued"]);
  assert.throws(() => made.send(3), QueueFullError);
  await turn();
  last().opens();
  assert.equal(made.send(4), "sent");
  assert.deepEqual(last().sent, ["1", '{"n":2}', "4"]);
  assert.throws(() => made.send(undefined), TypeError);
  last().ends(1013);
  assert.equal(made.send(5), "queued");
  made.close();
  assert.equal(made.queued, 0);
});

test("the gateway's frames are told from messages", async () => {
  const { heard } = await opened();
  const ack = { type: "ack", eventId: "e", status: "received", clientEventId: 7 };
  const error = { type: "error", error: { code: "no_route", message: "m" }, connectionId: "c", eventId: "e" };
  const others = [{ type: "ack", of: "ours" }, { type: "error", error: "ours" }, [1], null, "text", 1.5];
  for (const message of [ack, error, ...others]) last().says(message);
  last().saysText("{");
  assert.deepEqual(heard.slice(1), [
    ["ack", ack],
    ["error", error],
    ...others.map((message) => ["message", message]),
    ["unparsable", "{"],
  ]);
});

test("a handshake that hangs and a silent connection are given up", async () => {
  const heartbeat = { event: { action: "ping" }, everyMillis: 10_000, answerWithinMillis: 2000 };
  const { made, heard } = client({ handshakeTimeoutMillis: 3000, heartbeat });
  made.connect();
  await turn();
  clock.tick(3000);
  assert.deepEqual(heard.at(-1)[1].reason, "no connection in time");
  clock.tick(500);
  await turn();
  last().opens();
  clock.tick(9000);
  last().says(1);
  clock.tick(9000);
  assert.deepEqual(last().sent, [], "something had arrived");
  clock.tick(1000);
  assert.deepEqual(last().sent, ['{"action":"ping"}']);
  const silent = last();
  clock.tick(2000);
  assert.equal(made.state, "waiting");
  assert.ok(silent.closedWith);
  silent.says("too late");
  assert.notEqual(heard.at(-1)[0], "message");
});

test("closing is for good, and a listener's fault is its own", async () => {
  const { made, heard } = await opened();
  const faults = [];
  const known = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  process.once("uncaughtException", (error) => faults.push(error.message));
  made.on("message", () => {
    throw new Error("of a listener");
  });
  const also = [];
  const forget = made.on("message", (message) => also.push(message));
  last().says(1);
  forget();
  await turn();
  for (const listener of known) process.on("uncaughtException", listener);
  assert.deepEqual([faults, also], [["of a listener"], [1]]);
  made.close(1000, "bye");
  assert.deepEqual(last().closedWith, [1000, "bye"]);
  last().ends(1000, "bye");
  clock.tick(3_600_000);
  await turn();
  assert.equal(sockets.length, 1);
  assert.equal(heard.filter(([name]) => name === "close").length, 1);
});

test("a lost socket is resumed, with what was received", async () => {
  const { made, heard } = await opened({ token: () => "t", tokenIn: { query: "token" } });
  assert.deepEqual(queryOf(last()), { token: "t" });
  last().says(session("one"));
  assert.equal(made.connectionId, "c");
  for (const message of [1, { type: "ack", eventId: "e", status: "received" }, session("not the first")]) last().says(message);
  last().saysText("{");
  for (const [token, received] of [["one", 4], ["two", 5]]) {
    last().ends(1006);
    // A handshake that fails changes nothing about it.
    clock.tick(30_000);
    await turn();
    assert.deepEqual(queryOf(last()), { token: "t", resume: token, received: String(received) });
    last().ends(1006);
    clock.tick(29_000);
    await turn();
    assert.deepEqual(queryOf(last()), { token: "t", resume: token, received: String(received) });
    last().opens();
    last().says(session(token === "one" ? "two" : "three", { resumed: true, received }));
    last().says("missed");
  }
  const told = heard.filter(([name]) => name === "session").map(([, value]) => value);
  assert.deepEqual(told, [
    { connectionId: "c", resumed: false },
    { connectionId: "c", resumed: true },
    { connectionId: "c", resumed: true },
  ]);
  assert.equal(heard.filter(([name, value]) => name === "message" && value === "missed").length, 2);
});

test("a session ends with its window, with other close codes and with the client", async () => {
  for (const code of [1000, 1012, 1013, 4408]) {
    await opened();
    last().says(session("one"));
    const ended = last();
    ended.ends(code);
    clock.tick(1500);
    await turn();
    assert.notEqual(last(), ended);
    assert.deepEqual(queryOf(last()), {}, String(code));
  }
  const late = await opened({ backoff: { firstMillis: 122_000, maxMillis: 122_000 } });
  last().says(session("one"));
  last().ends(1006);
  clock.tick(61_000);
  await turn();
  assert.deepEqual(queryOf(last()), {}, "the window is over");
  last().ends(1006);
  clock.tick(61_000);
  await turn();
  last().opens();
  last().says(session("two", { connectionId: "d" }));
  const told = { connectionId: "d", resumed: false, reason: "unknown" };
  assert.deepEqual(late.heard.at(-1), ["session", told], "the gateway was not asked, and the application is told all the same");
  const { made } = await opened();
  last().says(session("one"));
  made.close();
  assert.equal(made.connectionId, undefined);
  made.connect();
  await turn();
  assert.deepEqual(queryOf(last()), {}, "it had left");
});

test("one that could not be resumed is a new connection", async () => {
  const { heard, made } = await opened();
  last().says(session("one"));
  last().says(1);
  last().ends(1006);
  clock.tick(500);
  await turn();
  last().opens();
  last().says(session("two", { connectionId: "d", reason: "missed_too_much" }));
  assert.deepEqual(heard.at(-1), ["session", { connectionId: "d", resumed: false, reason: "missed_too_much" }]);
  assert.equal(made.connectionId, "d");
  last().ends(1006);
  clock.tick(1000);
  await turn();
  assert.deepEqual(queryOf(last()), { resume: "two", received: "0" });
});

test("a silent socket is not told goodbye before its session is resumed", async () => {
  const heartbeat = { event: 1, everyMillis: 1000, answerWithinMillis: 1000 };
  await opened({ heartbeat });
  last().says(session("one"));
  const silent = last();
  clock.tick(2000);
  assert.equal(silent.closedWith, undefined, "a close frame would end the session");
  clock.tick(500);
  await turn();
  assert.deepEqual(queryOf(last()), { resume: "one", received: "0" });
  last().opens();
  last().says(session("two", { resumed: true }));
  assert.ok(silent.closedWith);
});

test("what a silent socket still brings counts until another one is tried", async () => {
  const heartbeat = { event: 1, everyMillis: 1000, answerWithinMillis: 1000 };
  const { heard } = await opened({ heartbeat });
  last().says(session("one"));
  last().says("first");
  const silent = last();
  clock.tick(2000);
  // Its WebSocket answers pings, so the gateway takes this for received.
  silent.says("second");
  assert.deepEqual(heard.at(-1), ["message", "second"]);
  clock.tick(500);
  await turn();
  assert.deepEqual(queryOf(last()), { resume: "one", received: "2" });
  silent.says("third");
  assert.notDeepEqual(heard.at(-1), ["message", "third"], "comes again, on the new one");
  last().opens();
  last().says(session("two", { resumed: true, received: 2 }));
  last().says("third");
  assert.deepEqual(heard.at(-1), ["message", "third"]);
});

test("a close frame on a socket that was silent ends its session", async () => {
  const heartbeat = { event: 1, everyMillis: 1000, answerWithinMillis: 1000 };
  await opened({ heartbeat });
  last().says(session("one"));
  const silent = last();
  clock.tick(2000);
  silent.ends(1012);
  clock.tick(500);
  await turn();
  assert.deepEqual(queryOf(last()), {});
});

test("a handshake that hangs is ended, and not left to take the session", async () => {
  await opened({ handshakeTimeoutMillis: 1000 });
  last().says(session("one"));
  last().ends(1006);
  clock.tick(500);
  await turn();
  const hangs = last();
  clock.tick(1000);
  assert.ok(hangs.closedWith, "a close before it is open is no close frame");
  clock.tick(1000);
  await turn();
  assert.deepEqual(queryOf(last()), { resume: "one", received: "0" });
});

test("an endpoint that resumes no more is not asked to", async () => {
  const { made } = await opened();
  last().says(session("one"));
  last().ends(1006);
  clock.tick(500);
  await turn();
  last().opens();
  last().says("no session");
  assert.equal(made.connectionId, undefined);
  last().ends(1006);
  clock.tick(1000);
  await turn();
  assert.deepEqual(queryOf(last()), {});
});

test("a new token is shown on the open connection", async () => {
  const tokens = ["one", "two", "three", "four"];
  const { made, heard } = await opened({ token: () => tokens.shift() });
  const told = made.refreshToken();
  await assert.rejects(made.refreshToken(), RefreshError, "one at a time");
  await turn();
  assert.deepEqual(last().sent, ['{"type":"refresh","token":"two"}']);
  last().says({ type: "refreshed", expiresAt: "2026-11-25T09:14:00.000Z" });
  assert.equal(await told, "2026-11-25T09:14:00.000Z");
  const refused = made.refreshToken();
  await turn();
  const error = { code: "refresh_refused", message: "another user's" };
  last().says({ type: "error", error, connectionId: "c", eventId: "e" });
  await assert.rejects(refused, /another user's/);
  assert.equal(heard.at(-1)[0], "error");
  const cut = made.refreshToken();
  await turn();
  last().ends(1006);
  await assert.rejects(cut, /has ended/);
  await assert.rejects(made.refreshToken(), RefreshError, "there is no connection");
});

test("an exchange of tokens has an end, whatever hangs", async () => {
  const tokens = ["one", new Promise(() => undefined), "three", "four"];
  const { made } = await opened({ token: () => tokens.shift(), handshakeTimeoutMillis: 1000 });
  const hangs = made.refreshToken();
  await turn();
  clock.tick(1000);
  await assert.rejects(hangs, /nothing answered in time/);
  const unanswered = made.refreshToken();
  await turn();
  assert.deepEqual(last().sent, ['{"type":"refresh","token":"three"}']);
  clock.tick(1000);
  await assert.rejects(unanswered, /nothing answered in time/);
  assert.equal(made.state, "open");
  tokens[0] = new Promise(() => undefined);
  const closed = made.refreshToken();
  await turn();
  made.close();
  await assert.rejects(closed, /the connection has ended/);
  assert.equal(clock.timers.size, 0);
});
