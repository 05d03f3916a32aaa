// What scenarios are made of; the same in Node.js and in a browser, so without imports. A scenario gets the rig:
//
//   GatewayClient, WebSocket (or undefined)
//   plan                              where the nodes are, and the paths of endpoints
//   admin(method, node, path, body)   → { status, text }
//   openLine(node)                    → address of a line to the node's client listener
//   cutLine(line), mendLine(line)     ends what goes over it without a word and lets nobody through; lets them through again
//   stallLine(line), flowLine(line)   carries nothing, without an end; goes on where it stopped
//   disconnects(id)                   → the disconnect events of this connection
//   clients                           those that `begin` made: they are closed whatever becomes of the scenario

export function same(actual, expected, what) {
  const [a, e] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== e) throw new Error(`${what}: ${a}, expected ${e}`);
}

/** What a client tells, in order, and the wait for the next of a kind. */
function follow(client) {
  const heard = [];
  let look = () => {};
  for (const name of ["open", "message", "ack", "error", "close", "session"]) {
    client.on(name, (value) => {
      heard.push({ name, value });
      look();
    });
  }
  const next = (name, within = 15_000) =>
    new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`no ${name} in ${within} ms: ${JSON.stringify(heard)}`)), within);
      look = () => {
        const at = heard.findIndex((one) => one.name === name);
        if (at < 0) return;
        clearTimeout(late);
        look = () => {};
        resolve(heard.splice(at, 1)[0].value);
      };
      look();
    });
  return { heard, next };
}

export function begin(rig, options) {
  const socket = rig.WebSocket ? { WebSocket: rig.WebSocket } : {};
  const backoff = { firstMillis: 200, maxMillis: 1000 };
  const client = new rig.GatewayClient({ backoff, ...socket, ...options });
  rig.clients.push(client);
  const { heard, next } = follow(client);
  client.connect();
  return { client, heard, next };
}

export const at = (rig, node, path) => `ws://${rig.plan.nodes[node].client}${path}`;

export async function idOf({ client, next }) {
  client.send({ action: "whoami" });
  return (await next("message")).id;
}

/** Looks again and again until `look` finds something. */
export async function eventually(what, look, within = 20_000) {
  for (const end = Date.now() + within; ; await new Promise((resolve) => setTimeout(resolve, 50))) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited ${within} ms for ${what}`);
  }
}

/** All nodes are ready, and reach each other by both of their links: one that broke is tried again within a second. */
export const allReady = (rig) =>
  eventually("all nodes to be ready and to reach each other", async () => {
    for (const node of rig.plan.nodes.keys()) {
      const ready = await rig.admin("GET", node, "/readyz").catch(() => undefined);
      if (ready?.status !== 200) return false;
      const looked = await rig.admin("GET", node, "/api/v1/connections?limit=0");
      const pushed = await rig.admin("POST", node, "/api/v1/groups/nobody", {});
      for (const { status, text } of [looked, pushed]) {
        if (status >= 300 || JSON.parse(text).nodes !== rig.plan.nodes.length) return false;
      }
    }
    return true;
  });
