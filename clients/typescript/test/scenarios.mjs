// What the client does against a real cluster; rig.mjs says what there is to do it with.
import { allReady, at, begin, idOf, same } from "./rig.mjs";
import { ofResume } from "./resume.scenarios.mjs";

const ofConnections = {
  async "messages, subprotocol, acks, errors and pushes"(rig) {
    const it = begin(rig, { url: at(rig, 0, rig.plan.echo), protocols: ["chat.v9", "chat.v1"] });
    it.client.send({ before: "the connection" });
    await it.client.ready();
    same((await it.next("open")).protocol, "chat.v1", "subprotocol");
    same(await it.next("message"), { before: "the connection" }, "what waited");
    it.client.send({ text: "grüße 🦀", big: "x".repeat(100_000) });
    same((await it.next("message")).text, "grüße 🦀", "text");
    it.client.send({ action: "acked", id: 7 });
    const ack = await it.next("ack");
    same([ack.status, ack.clientEventId], ["received", 7], "ack");
    await it.next("message");
    it.client.send({ action: "fails", id: "f" });
    const error = await it.next("error");
    same([error.error.code, error.clientEventId], ["delivery_failed", "f"], "error");
    const id = await idOf(it);
    same((await rig.admin("POST", 2, `/api/v1/connections/${id}`, { pushed: true })).status, 202, "push");
    same(await it.next("message"), { pushed: true }, "the push");
    it.client.close();
    same(it.client.state, "stopped", "state");
  },

  async "an end below 4400 is followed by another connection"(rig) {
    const it = begin(rig, { url: at(rig, 1, rig.plan.echo) });
    const first = await idOf(it);
    for (const code of [1012, 1013, 4000, 4408]) {
      const id = await idOf(it);
      same((await rig.admin("DELETE", 0, `/api/v1/connections/${id}?code=${code}`)).status, 204, "delete");
      const closed = await it.next("close");
      same([closed.code, closed.reconnectInMillis !== null], [code, true], "closed");
      it.client.send({ sent: code });
      same(await it.next("message"), { sent: code }, "what waited");
    }
    same((await idOf(it)) !== first, true, "another connection");
    it.client.close();
  },

  async "an operator's removal is for good"(rig) {
    const it = begin(rig, { url: at(rig, 0, rig.plan.echo) });
    const id = await idOf(it);
    await rig.admin("DELETE", 1, `/api/v1/connections/${id}`);
    const closed = await it.next("close");
    same([closed.code, closed.reconnectInMillis, it.client.state], [4403, null, "stopped"], "closed");
    it.client.connect();
    await it.client.ready();
    it.client.close();
  },

  async "a token for each handshake, in a subprotocol and in the query"(rig) {
    for (const tokenIn of ["subprotocol", { query: "token" }]) {
      const it = begin(rig, {
        url: at(rig, 2, rig.plan.token),
        protocols: ["chat.v1"],
        token: async () => `good-${Math.random()}`,
        tokenIn,
      });
      same((await it.next("open")).protocol, "chat.v1", "only the real subprotocol");
      it.client.close();
    }
  },

  async "a token that is no longer good is replaced"(rig) {
    const tokens = [`once-${Math.random()}`, `good-${Math.random()}`];
    let asked = 0;
    const it = begin(rig, {
      url: at(rig, 0, rig.plan.token),
      protocols: ["chat.v1"],
      token: () => tokens[Math.min(asked++, 1)],
    });
    await it.next("open");
    const closed = await it.next("close");
    same([closed.code, closed.reconnectInMillis !== null], [4401, true], "closed");
    await it.next("open");
    same(asked, 2, "tokens asked for");
    it.client.close();
    // One that does not change is not tried again.
    const same_ = begin(rig, {
      url: at(rig, 0, rig.plan.token),
      protocols: ["chat.v1"],
      token: ((token) => () => token)(`once-${Math.random()}`),
    });
    same((await same_.next("close")).code, 4401, "closed");
    same((await same_.next("close")).reconnectInMillis, null, "stopped");
    same(same_.client.state, "stopped", "state");
  },

  async "a new token is shown while connected"(rig) {
    const tokens = [`once-${Math.random()}`, `good-${Math.random()}`];
    const it = begin(rig, { url: at(rig, 1, rig.plan.token), protocols: ["chat.v1"], token: () => tokens.shift() });
    await it.next("open");
    same(await it.client.refreshToken(), null, "a token without an end");
    // The first one would have been found out by now.
    await new Promise((resolve) => setTimeout(resolve, 2500));
    it.client.send({ still: "here" });
    same(await it.next("message"), { still: "here" }, "an answer");
    same(it.heard.filter(({ name }) => name === "close"), [], "no end in between");
    it.client.close();
  },

  async "a refused handshake is tried again, and when it is told then not before"(rig) {
    const first = begin(rig, { url: at(rig, 0, rig.plan.narrow) });
    await first.client.ready();
    const it = begin(rig, { url: at(rig, 0, rig.plan.narrow) });
    const { code, status, reconnectInMillis } = await it.next("close");
    // Only npm's ws tells the status, and with it Retry-After: 5.
    same([code, status], [1006, rig.WebSocket ? 429 : undefined], "refused");
    same(reconnectInMillis >= 5000, Boolean(rig.WebSocket), `a wait of ${reconnectInMillis} ms`);
    first.client.close();
    await it.next("open");
  },

  async "the next node takes over when one is killed"(rig) {
    const nodes = rig.plan.nodes.map((_, node) => at(rig, node, rig.plan.echo));
    const it = begin(rig, { url: nodes });
    same((await it.next("open")).url, nodes[0], "the first node");
    const begun = Date.now();
    it.client.send({ action: "die" });
    const closed = await it.next("close");
    same(closed.code, 1006, "a killed node says nothing");
    it.client.send({ after: "the kill" });
    same((await it.next("open")).url !== nodes[0], true, "another node");
    same(await it.next("message"), { after: "the kill" }, "what waited");
    it.client.close();
    const took = Date.now() - begun;
    await allReady(rig);
    return `back on another node ${took} ms after the order to kill its node`;
  },
};

/** A client that is left open would keep the tests from ending, so none is. */
function tidy(run) {
  return async (rig) => {
    const clients = [];
    try {
      return await run({ ...rig, clients });
    } finally {
      for (const client of clients) client.close();
    }
  };
}

export const scenarios = Object.fromEntries(
  Object.entries({ ...ofConnections, ...ofResume }).map(([name, run]) => [name, tidy(run)]),
);
