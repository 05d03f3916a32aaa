// Clients whose network is lost, and what they find when they come back; confirmations, which a loss may delay.
import { allReady, at, begin, eventually, same } from "./rig.mjs";

async function push(rig, id, n, node = n % rig.plan.nodes.length) {
  const answer = await rig.admin("POST", node, `/api/v1/connections/${id}`, { n });
  same(answer.status, 202, `push ${n}: ${answer.text}`);
}

async function expect(it, numbers) {
  for (const n of numbers) same(await it.next("message"), { n }, "a push");
}

/** The client is still there, and has heard nothing but what it was asked about. */
async function isWell(it) {
  it.client.send({ still: "here" });
  same(await it.next("message"), { still: "here" }, "an answer");
  same(it.heard.filter(({ name }) => name === "message"), [], "nothing came twice");
}

async function began(it, expected, what) {
  const session = await it.next("session");
  const { connectionId, ...said } = session;
  same(said, expected, what);
  same(it.client.connectionId, connectionId, "the client's connection");
  return connectionId;
}

const ends = (rig, id) => eventually(`the disconnect event of ${id}`, async () => {
  const events = await rig.disconnects(id);
  return events.length > 0 && events;
});

const NEW = { resumed: false };
const RESUMED = { resumed: true };
const over = (line, path) => `ws://${line}${path}`;

export const ofResume = {
  async "a line is cut and mended: what was missed comes in order, and services hear nothing"(rig) {
    const line = await rig.openLine(0);
    const it = begin(rig, { url: over(line, rig.plan.resume) });
    const id = await began(it, NEW, "the first session");
    for (const n of [1, 2]) await push(rig, id, n);
    await expect(it, [1, 2]);
    for (const [from, to] of [[3, 5], [6, 6]]) {
      await rig.cutLine(line);
      same((await it.next("close")).code, 1006, "a cut line says nothing");
      for (let n = from; n <= to; n++) await push(rig, id, n);
      await rig.mendLine(line);
      same(await began(it, RESUMED, "after the cut"), id, "the same connection");
      for (let n = from; n <= to; n++) await expect(it, [n]);
      await isWell(it);
    }
    same(await rig.disconnects(id), [], "no event in between");
    it.client.close();
    same((await ends(rig, id)).map(({ code }) => code), [1000], "one in the end");
  },

  async "the same by another node, by a third one, and home again"(rig) {
    const lines = [];
    for (const node of [0, 1, 2]) lines.push(await rig.openLine(node));
    for (const line of lines.slice(1)) await rig.cutLine(line);
    const it = begin(rig, { url: lines.map((line) => over(line, rig.plan.resume)) });
    const id = await began(it, NEW, "the first session");
    same((await it.next("open")).url, over(lines[0], rig.plan.resume), "the first node");
    let n = 0;
    for (const [from, to] of [[0, 1], [1, 2], [2, 0]]) {
      await push(rig, id, ++n);
      await expect(it, [n]);
      await rig.cutLine(lines[from]);
      same((await it.next("close")).code, 1006, "a cut line says nothing");
      const missed = [++n, ++n, ++n];
      for (const one of missed) await push(rig, id, one);
      await rig.mendLine(lines[to]);
      same((await it.next("open")).url, over(lines[to], rig.plan.resume), "the other node");
      same(await began(it, RESUMED, "by the other node"), id, "the same connection");
      await expect(it, missed);
      await isWell(it);
    }
    same(await rig.disconnects(id), [], "no event in between");
    it.client.close();
    same((await ends(rig, id)).map(({ code }) => code), [1000], "one in the end");
  },

  async "who comes too late is told so, and goes on in a new connection"(rig) {
    const line = await rig.openLine(1);
    const it = begin(rig, { url: over(line, rig.plan.brief) });
    const id = await began(it, NEW, "the first session");
    await rig.cutLine(line);
    const [end] = await ends(rig, id);
    same([end.code, end.reason], [1006, "connection lost"], "the event");
    await rig.mendLine(line);
    const next = await began(it, { ...NEW, reason: "unknown" }, "too late");
    same(next !== id, true, "another connection");
    await push(rig, next, 1);
    await expect(it, [1]);
    await isWell(it);
    same((await rig.disconnects(id)).length, 1, "events of the first");
  },

  async "who is closed in order begins a new session"(rig) {
    const it = begin(rig, { url: at(rig, 1, rig.plan.resume) });
    const id = await began(it, NEW, "the first session");
    for (const code of [1012, 4408]) {
      const from = it.client.connectionId;
      same((await rig.admin("DELETE", 0, `/api/v1/connections/${from}?code=${code}`)).status, 204, "delete");
      same((await it.next("close")).code, code, "the end");
      same((await began(it, NEW, "nothing to resume")) !== id, true, "another connection");
    }
    await isWell(it);
  },

  async "a credential that is withdrawn meanwhile ends the session, and the next one begins another"(rig) {
    const line = await rig.openLine(2);
    const tokens = [`once-${Math.random()}`];
    const it = begin(rig, {
      url: over(line, rig.plan.withdrawn),
      token: () => tokens.shift() ?? `good-${Math.random()}`,
      tokenIn: { query: "token" },
    });
    const id = await began(it, NEW, "the first session");
    await rig.cutLine(line);
    const [end] = await ends(rig, id);
    same(end.code, 4401, "the event");
    await rig.mendLine(line);
    same((await began(it, { ...NEW, reason: "unknown" }, "it had ended")) !== id, true, "another connection");
    await isWell(it);
    same((await rig.disconnects(id)).length, 1, "events of the first");
  },

  async "a line that is silent is given up for another, and ends nothing when it speaks again"(rig) {
    const lines = [await rig.openLine(0), await rig.openLine(1)];
    const it = begin(rig, {
      url: lines.map((line) => over(line, rig.plan.resume)),
      heartbeat: { event: { action: "beat" }, everyMillis: 1500, answerWithinMillis: 1500 },
    });
    const id = await began(it, NEW, "the first session");
    await rig.stallLine(lines[0]);
    for (const n of [1, 2]) await push(rig, id, n);
    same((await it.next("close")).reason, "the heartbeat was not answered", "the client's own finding");
    same(await began(it, RESUMED, "on the other line"), id, "the same connection");
    await expect(it, [1, 2]);
    // What was said to the old socket, goodbyes too, arrives now.
    await rig.flowLine(lines[0]);
    await push(rig, id, 3);
    const heard = async () => {
      const message = await it.next("message");
      return message.action === "beat" ? await heard() : message;
    };
    same(await heard(), { n: 3 }, "a push");
    await it.next("message"); // of the next beat
    same([it.client.state, await rig.disconnects(id)], ["open", []], "it goes on");
  },

  async "a client whose heartbeat the gateway misses has not left"(rig) {
    const line = await rig.openLine(0);
    const it = begin(rig, { url: over(line, rig.plan.beating) });
    const id = await began(it, NEW, "the first session");
    const away = async () => Number(/^wsgateway_connections_away (\d+)$/m.exec((await rig.admin("GET", 0, "/metrics")).text)[1]);
    const before = await away();
    await rig.stallLine(line);
    await eventually("the gateway to miss its pongs", async () => (await away()) > before);
    await push(rig, id, 1);
    await rig.flowLine(line);
    same((await it.next("close")).code, 1006, "no close frame, of no code");
    same(await began(it, RESUMED, "after the silence"), id, "the same connection");
    await expect(it, [1]);
    await isWell(it);
    same(await rig.disconnects(id), [], "no event in between");
  },

  async "a session ends with its node, which the next one says"(rig) {
    const it = begin(rig, { url: [at(rig, 0, rig.plan.resume), at(rig, 1, rig.plan.resume)] });
    const id = await began(it, NEW, "the first session");
    const order = begin(rig, { url: at(rig, 0, rig.plan.echo) });
    await order.client.ready();
    order.client.send({ action: "die" });
    same((await it.next("close")).code, 1006, "a killed node says nothing");
    order.client.close();
    same((await began(it, { ...NEW, reason: "node_lost" }, "on another node")) !== id, true, "another connection");
    await isWell(it);
    await allReady(rig);
  },

  async "a message is confirmed, also when its client was away"(rig) {
    const line = await rig.openLine(1);
    const it = begin(rig, { url: over(line, rig.plan.resume) });
    const id = await began(it, NEW, "the first session");
    const confirmed = (n, node) => rig.admin("POST", node, `/api/v1/connections/${id}?confirm=client&timeoutSeconds=20`, { n });
    const answer = async (n, given) => {
      const { status, text } = await given;
      same([status, text && JSON.parse(text).status], [200, "confirmed"], `the answer to push ${n}: ${text}`);
    };
    await answer(1, confirmed(1, 0));
    await expect(it, [1]);
    await rig.cutLine(line);
    await it.next("close");
    const waits = confirmed(2, 2);
    await push(rig, id, 3);
    await rig.mendLine(line);
    await began(it, RESUMED, "after the cut");
    await answer(2, waits);
    const numbers = [(await it.next("message")).n, (await it.next("message")).n];
    same(numbers.sort(), [2, 3], "both, in the order in which they were taken");
    await isWell(it);
  },
};
