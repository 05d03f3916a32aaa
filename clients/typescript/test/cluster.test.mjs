// The scenarios against a real cluster, in Node.js and in Chromium. The cluster is started by tests/gateway/typescript.rs
// (./test clients), which says in WSGATEWAY_TEST_PLAN where it is; endpoints with resume or
// limits, and the service behind them, are made here.
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { WebSocket as WsSocket } from "ws";
import { GatewayClient } from "../dist/index.js";
import { openPage } from "./browser.mjs";
import { closeLines, cutLine, flowLine, mendLine, openLine, stallLine } from "./lines.mjs";
import { scenarios } from "./scenarios.mjs";
import { startService } from "./service.mjs";

const PLAN = process.env["WSGATEWAY_TEST_PLAN"];
assert.ok(PLAN, "these tests need a cluster: run `./test clients` at the top of the repository (npm run test:unit does not)");
const plan = JSON.parse(PLAN);
const LIMIT = { timeout: 60_000 };

async function admin(method, node, path, body) {
  const headers = body === undefined ? {} : { "content-type": "application/json" };
  const sent = body === undefined ? {} : { body: JSON.stringify(body) };
  const signal = AbortSignal.timeout(30_000);
  const answer = await fetch(`http://${plan.nodes[node].admin}${path}`, { method, headers, signal, ...sent });
  return { status: answer.status, text: await answer.text() };
}

let service;

/** Every node serves it when this is done. */
async function createEndpoint(name, more) {
  const path = `/typescript-${name}`;
  const routes = [
    { type: "default", name: "default", backends: [{ type: "echo" }] },
    { type: "disconnect", name: "disconnect", backends: [{ type: "http", destination: service.url("/disconnect") }] },
  ];
  const created = await admin("POST", 0, "/api/v1/endpoints", { path, routes, ...more });
  assert.equal(created.status, 201, created.text);
  const rollout = `/api/v1/endpoints/${JSON.parse(created.text).id}/rollout?wait=all&timeoutSeconds=20`;
  const served = await admin("GET", 0, rollout);
  assert.equal(served.status, 200, served.text);
  plan[name] = path;
}

before(async () => {
  service = await startService();
  const check = { mode: "bearer", authorizationServerUrl: service.url("/check"), tokenQuery: "token" };
  await createEndpoint("resume", { resume: { windowInSeconds: 30 } });
  await createEndpoint("brief", { resume: { windowInSeconds: 1 } });
  await createEndpoint("withdrawn", {
    resume: { windowInSeconds: 30 },
    authentication: { ...check, cacheInSeconds: 0, recheckInSeconds: 1 },
  });
  await createEndpoint("narrow", { throttling: { maxConnections: 1, scope: "node" } });
  await createEndpoint("beating", {
    resume: { windowInSeconds: 30 },
    settings: { heartbeatIntervalInSeconds: 5, heartbeatMaxMissingPingFrames: 1 },
  });
}, LIMIT);
// What is still there would keep the tests from ending.
afterEach(closeLines);
after(() => service?.close());

const given = {
  admin,
  openLine: (node) => openLine(plan, node),
  cutLine,
  mendLine,
  stallLine,
  flowLine,
  disconnects: (id) => service.disconnects(id),
};

function say(where, name, figure) {
  if (figure) console.log(`${where}: ${name}: ${figure}`);
}

const sockets = { "Node.js with ws": WsSocket };
if (globalThis.WebSocket) sockets["Node.js with its own WebSocket"] = undefined;
for (const [where, WebSocket] of Object.entries(sockets)) {
  describe(where, () => {
    for (const [name, run] of Object.entries(scenarios)) {
      test(name, LIMIT, async () => say(where, name, await run({ GatewayClient, WebSocket, plan, ...given })));
    }
  });
}

describe("Chromium", () => {
  let page;
  before(async () => {
    page = await openPage(plan.chromium);
    for (const [name, call] of Object.entries(given)) await page.expose(name, call);
  }, LIMIT);
  after(() => page?.close());
  for (const name of Object.keys(scenarios)) {
    test(name, LIMIT, async () => say("Chromium", name, await page.run(name, plan, Object.keys(given))));
  }
});
