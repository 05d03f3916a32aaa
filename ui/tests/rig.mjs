// What the browser tests have in common: calls beside the page, a page of its own for each test, an endpoint with traffic.
import assert from 'node:assert/strict';
import { launch, watch } from './browser.mjs';
import { load } from './load.mjs';

export const { UI_URL = 'http://127.0.0.1:5180', ADMIN_TOKEN = '', DRAIN_NODE } = process.env;
const { LOAD = '300' } = process.env;
export const RUN = Date.now().toString(36);
export const PATH = `/ui-test-${RUN}`;
const authorized = (token) => (token ? { authorization: `Bearer ${token}` } : {});

/** A call beside the page, to prepare and to look behind it. */
export async function api(method, path, body, headers = {}) {
  const all = { 'content-type': 'application/json', ...authorized(ADMIN_TOKEN), ...headers };
  const answer = await fetch(UI_URL + path, { method, headers: all, body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body) });
  const text = await answer.text();
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : null;
}
/** What is gone already is well. */
const drop = (path) => fetch(UI_URL + path, { method: 'DELETE', headers: authorized(ADMIN_TOKEN) });

export const browser = await launch();
export const faults = [];

/** A page of its own for each test: nothing is left over from the one before. */
export async function open(hash = '#/', { token = ADMIN_TOKEN, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, acceptDownloads: true, ...options });
  context.setDefaultTimeout(15_000);
  if (token) await context.addInitScript((text) => location.protocol !== 'about:' && (sessionStorage.getItem('wsgateway.token') ?? sessionStorage.setItem('wsgateway.token', text)), token);
  const page = await context.newPage();
  faults.push(watch(page));
  if (hash.startsWith('#')) await page.goto(`${UI_URL}/ui/${hash}`);
  return page;
}
export const go = async (page, hash) => page.evaluate((to) => (location.hash = to), hash);
export const hashOf = (page) => page.evaluate(() => location.hash);
export const button = (page, name) => page.getByRole('button', { name, exact: true });
export const see = (page, text) => page.getByText(text).first().waitFor();

/** Asks until the answer is one; so long as there is none, it is undefined, false or null. */
export async function until(what, ask, seconds = 15) {
  const began = Date.now();
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    assert.ok(Date.now() - began < seconds * 1000, `${what}: not within ${seconds} s`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** Puts a text into the editor as a person would. */
export async function write(page, text) {
  const editor = page.locator('.cm-content').first();
  await editor.click();
  await page.keyboard.press('Control+a');
  await page.keyboard.insertText(text);
}
export const written = (page) => page.locator('.cm-content').first().innerText();

export const echo = (path, more = '') => `{\n  "path": "${path}",${more}\n  "routes": [{"type": "default", "name": "d", "backends": [{"type": "echo"}]}]\n}\n`;
export const made = [];
export async function endpoint(path, document = echo(path)) {
  const { id } = await api('POST', '/api/v1/endpoints?message=prepared', document);
  made.push(id);
  return id;
}

/** Whether the tab is seen is not up to the page. */
export const hide = (page, hidden) =>
  page.evaluate((value) => {
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => value });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);

export const liveNodes = async () => (await api('GET', '/api/v1/cluster')).nodes.filter((node) => node.live);

/** The address of a node's clients, from another place than the node itself. */
export const clientsOf = (node) => node.clientAddr.replace(/^(0\.0\.0\.0|\[::\])(?=:)/, '127.0.0.1');

/** Connects a client as soon as the endpoint is served there: a version is on its way to the nodes for a moment. */
export async function connect(node, path, options) {
  for (let tries = 0; ; tries++) {
    try {
      return await load(clientsOf(node), path, options);
    } catch (error) {
      if (tries > 50) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

/** The endpoint that has traffic all the time, on all nodes. */
export const loaded = { path: `${PATH}-load`, id: '' };
const LOADED = {
  path: loaded.path,
  routes: [
    { type: 'custom', name: 'load-buying', expression: { equal: { path: '$.action', value: 'buy' } }, backends: [{ type: 'echo' }] },
    { type: 'custom', name: 'load-silent', expression: { exists: { path: '$.never' } }, backends: [{ type: 'echo' }] },
    { type: 'default', name: 'rest', backends: [{ type: 'echo' }] },
  ],
};
/** null: without traffic. */
export let generator = null;
export async function begin() {
  ({ id: loaded.id } = await api('POST', '/api/v1/endpoints?message=load', LOADED));
  if (LOAD === '0') return;
  const nodes = await liveNodes();
  const each = { connections: Math.ceil(20 / nodes.length), perSecond: Number(LOAD) / nodes.length };
  const loads = [];
  for (const node of nodes) loads.push(await connect(node, loaded.path, each));
  generator = {
    nodes: nodes.map((node) => node.name),
    get sent() {
      return loads.reduce((sum, one) => sum + one.sent, 0);
    },
    end: () => loads.forEach((one) => one.end()),
  };
}

/** Runs those of the tests whose names contain `only`; returns how many did not pass. */
export async function runAll(tests, only = '') {
  let failed = 0;
  let done = 0;
  for (const [name, run] of Object.entries(tests)) {
    if (!name.includes(only)) continue;
    const began = Date.now();
    faults.length = 0;
    try {
      await run();
      assert.deepEqual([...new Set(faults.flat())], [], 'nothing is written to the console, and the CSP keeps nothing out');
      console.log(`ok    ${name} (${Date.now() - began} ms)`);
    } catch (error) {
      failed += 1;
      console.error(`FAIL  ${name}\n      ${String(error.stack ?? error).split('\n').slice(0, 14).join('\n      ')}`);
      const page = browser.contexts().at(-1)?.pages()[0];
      if (process.env.PICTURES && page) await page.screenshot({ path: `${process.env.PICTURES}/failed-${failed}.png` }).catch(() => {});
    }
    done += 1;
    for (const context of browser.contexts()) await context.close();
    // At once: the overview looks at 50 endpoints, in the order of their ids.
    for (const id of made.splice(0)) await drop(`/api/v1/endpoints/${id}`);
  }
  generator?.end();
  if (loaded.id) await drop(`/api/v1/endpoints/${loaded.id}`);
  await browser.close();
  if (generator) console.log(`${generator.sent} events were sent meanwhile, to ${generator.nodes.join(', ')}`);
  console.log(`${done - failed} of ${done} passed`);
  return failed;
}

/** A token of a role for the time of a test. */
export async function withToken(role, run) {
  const name = `ui-test-${role}-${RUN}-${Math.random().toString(36).slice(2, 6)}`;
  const { id, token } = await api('POST', '/api/v1/tokens', { name, role });
  try {
    await run(token, { id, name });
  } finally {
    await drop(`/api/v1/tokens/${id}`);
  }
}
