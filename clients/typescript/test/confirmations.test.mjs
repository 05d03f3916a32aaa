// Messages whose sender waits for the client's word.
import assert from "node:assert/strict";
import { test } from "node:test";
import { clock, last, opened, session, turn } from "./fakes.mjs";

const frame = (id, data) => ({ type: "message", id, data });
const said = (...ids) => ids.map((id) => JSON.stringify({ type: "ack", id }));
const [ONE, TWO] = ["9f4c1c2f5a7b3e60", "0000000000000002"];

test("a message is handed on without its frame, and confirmed when the listeners have returned", async () => {
  const { made, heard } = await opened();
  const sentThen = [];
  made.on("message", () => sentThen.push(last().sent.length));
  last().says(frame(ONE, { order: 1234 }));
  last().says(frame(TWO, null));
  assert.deepEqual(heard.slice(1), [["message", { order: 1234 }], ["message", null]]);
  assert.deepEqual(sentThen, [0, 1]);
  assert.deepEqual(last().sent, said(ONE, TWO));
});

test("what only looks like one is a message like any other", async () => {
  const { heard } = await opened();
  const others = [
    frame("7", 1),
    frame(7, 1),
    frame("9F4C1C2F5A7B3E60", 1),
    { type: "message", id: ONE },
    { ...frame(ONE, 1), more: 1 },
    { ...frame(ONE, 1), type: "other" },
  ];
  for (const other of others) last().says(other);
  assert.deepEqual(heard.slice(1), others.map((other) => ["message", other]));
  assert.deepEqual(last().sent, []);
});

test("what nobody has is not confirmed", async () => {
  const { made, heard } = await opened();
  const known = process.listeners("uncaughtException");
  process.removeAllListeners("uncaughtException");
  const faults = [];
  process.once("uncaughtException", (error) => faults.push(error.message));
  const forget = made.on("message", () => {
    throw new Error("of a listener");
  });
  last().says(frame(ONE, 1));
  await turn();
  for (const listener of known) process.on("uncaughtException", listener);
  assert.deepEqual([faults, last().sent], [["of a listener"], []]);
  forget();
  last().says(frame(TWO, 2));
  assert.deepEqual(last().sent, said(TWO));
  assert.deepEqual(heard.slice(1), [["message", 1], ["message", 2]]);
});

test("the application can take its time, and refuse", async () => {
  const asked = [];
  const confirm = (message) => new Promise((resolve, reject) => asked.push({ message, resolve, reject }));
  const { heard } = await opened({ confirm });
  last().says(frame(ONE, 1));
  last().says(frame(TWO, 2));
  last().says("no confirmation wanted");
  await turn();
  assert.deepEqual([asked.map(({ message }) => message), last().sent], [[1, 2], []]);
  asked[1].resolve();
  await turn();
  assert.deepEqual(last().sent, said(TWO));
  const error = new Error("the disk is full");
  asked[0].reject(error);
  await turn();
  assert.deepEqual(last().sent, said(TWO));
  assert.deepEqual(heard.at(-1), ["unconfirmed", { message: 1, error }]);
});

/** Loses the socket while a confirmation is thought about, and gets another one. */
async function lostMeanwhile(options) {
  const asked = [];
  const it = await opened({ confirm: () => new Promise((resolve) => asked.push(resolve)), ...options });
  last().says(session("one"));
  last().says(frame(ONE, 1));
  const before = last();
  before.ends(1006);
  asked[0]();
  await turn();
  clock.tick(500);
  await turn();
  last().opens();
  assert.deepEqual([before.sent, last().sent], [[], []], "not before it is known which connection this is");
  return { ...it, asked };
}

test("a word that could not be said is said when the connection is resumed", async () => {
  const { asked } = await lostMeanwhile();
  last().says(session("two", { resumed: true, received: 1 }));
  assert.deepEqual(last().sent, said(ONE));
  last().says(frame(TWO, 2));
  asked[1]();
  await turn();
  assert.deepEqual(last().sent, said(ONE, TWO));
  // What was said is not said again: it would be an event now.
  last().ends(1006);
  clock.tick(1000);
  await turn();
  last().opens();
  last().says(session("three", { resumed: true, received: 2 }));
  assert.deepEqual(last().sent, []);
});

test("it is never said on another connection, where it would be an event", async () => {
  await lostMeanwhile();
  last().says(session("two", { connectionId: "d", reason: "unknown" }));
  assert.deepEqual(last().sent, []);
  await lostMeanwhile();
  last().says("no session");
  assert.deepEqual(last().sent, []);
  // Without resume each socket is another connection.
  const asked = [];
  const { made } = await opened({ confirm: () => new Promise((resolve) => asked.push(resolve)) });
  last().says(frame(ONE, 1));
  last().ends(1006);
  clock.tick(500);
  await turn();
  last().opens();
  last().says("first");
  asked[0]();
  await turn();
  assert.deepEqual(last().sent, []);
  last().says(frame(TWO, 1));
  made.close();
  asked[1]();
  await turn();
  assert.deepEqual(last().sent, []);
});
