// The scenarios against a real cluster, in Node.js and in Chromium. The cluster is started by tests/gateway/typescript.rs
// (./test clients), which says in WSGATEWAY_TEST_PLAN where it is.
import assert from "node:assert/strict";
import { createServer, connect } from "node:net";
import { after, before, describe, test } from "node:test";
import { WebSocket as WsSocket } from "ws";
import { GatewayClient } from "../dist/index.js";
import { openPage } from "./browser.mjs";
import { scenarios } from "./scenarios.mjs";

const PLAN = process.env["WSGATEWAY_TEST_PLAN"];
assert.ok(PLAN, "these tests need a cluster: run `./test clients` at the top of the repository (npm run test:unit does not)");
const plan = JSON.parse(PLAN);
const LIMIT = { timeout: 60_000 };

async function admin(method, node, path, body) {
  const headers = body === undefined ? {} : { "content-type": "application/json" };
  const sent = body === undefined ? {} : { body: JSON.stringify(body) };
  const answer = await fetch(`http://${plan.nodes[node].admin}${path}`, { method, headers, ...sent });
  return { status: answer.status, text: await answer.text() };
}

/** Lines to nodes, by their address: what stands between a client and its gateway, and breaks. */
const lines = new Map();

async function openLine(node) {
  const [host, port] = plan.nodes[node].client.split(":");
  const ends = new Set();
  const server = createServer((near) => {
    const far = connect(Number(port), host);
    for (const [end, other] of [[near, far], [far, near]]) {
      ends.add(end);
      end.pipe(other);
      end.on("error", () => other.destroy());
      end.on("close", () => ends.delete(end));
    }
  });
  server.unref();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = `127.0.0.1:${server.address().port}`;
  lines.set(address, { server, ends });
  return address;
}

/** Both ends are lost without a word, and the line is gone. */
async function cutLine(address) {
  const { server, ends } = lines.get(address);
  server.close();
  for (const end of ends) end.resetAndDestroy();
}

function say(where, name, figure) {
  if (figure) console.log(`${where}: ${name}: ${figure}`);
}

const sockets = { "Node.js with ws": WsSocket };
if (globalThis.WebSocket) sockets["Node.js with its own WebSocket"] = undefined;
for (const [where, WebSocket] of Object.entries(sockets)) {
  describe(where, () => {
    for (const [name, run] of Object.entries(scenarios)) {
      test(name, LIMIT, async () => say(where, name, await run({ GatewayClient, WebSocket, plan, admin, openLine, cutLine })));
    }
  });
}

describe("Chromium", () => {
  let page;
  before(async () => {
    page = await openPage(plan.chromium);
    for (const given of [admin, openLine, cutLine]) await page.expose(given.name, given);
  }, LIMIT);
  after(() => page?.close());
  for (const name of Object.keys(scenarios)) {
    test(name, LIMIT, async () => say("Chromium", name, await page.run(name, plan)));
  }
});
