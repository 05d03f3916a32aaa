// The path of a first visit, by clicks and typing alone: from an empty overview to an endpoint that is served, a console
// that is connected, a custom route, and a pushed message. Somebody new should need minutes, so it must not take long here.
//
//   UI_URL=http://127.0.0.1:9001 ADMIN_TOKEN=… node tests/first_path.mjs
//
// On a cluster that has endpoints already, it begins at the button for a new one.
import assert from 'node:assert/strict';
import { launch, watch } from './browser.mjs';

const { UI_URL = 'http://127.0.0.1:5180', ADMIN_TOKEN = '' } = process.env;
const LIMIT_SECONDS = 180;
/** About as fast as a good typist. */
const KEY_MILLIS = 40;
const PATH = `/first-${Date.now().toString(36)}`;

const browser = await launch();
const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
context.setDefaultTimeout(20_000);
const page = await context.newPage();
const faults = watch(page);
const began = Date.now();
let last = began;

function step(what) {
  console.log(`${((Date.now() - last) / 1000).toFixed(1).padStart(6)} s  ${what}`);
  last = Date.now();
}
async function type(field, text) {
  await field.click();
  await page.keyboard.press('Control+a');
  await page.keyboard.type(text, { delay: KEY_MILLIS });
}
const button = (name) => page.getByRole('button', { name, exact: true });
const link = (name) => page.getByRole('link', { name, exact: true });

let failed = null;
try {
  await page.goto(`${UI_URL}/ui/`);
  if (ADMIN_TOKEN) {
    await type(page.getByLabel('Token'), ADMIN_TOKEN);
    await button('Sign in').click();
  }
  await page.getByRole('heading', { name: 'Overview' }).waitFor();
  const first = page.getByRole('heading', { name: 'Create your first endpoint' });
  await page.getByRole('link', { name: /^Endpoints \d/ }).waitFor();
  if (await first.isVisible()) step('the empty overview offers the first endpoint');
  else {
    await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'Endpoints' }).click();
    await link('New endpoint').click();
    step('there are endpoints already: a new one');
  }

  await link('Begin with Echo').click();
  await type(page.getByRole('textbox', { name: /^path/ }), PATH);
  await page.keyboard.press('Tab');
  await button('Create and serve').click();
  await page.getByText(/handshake \d+ ms/).waitFor();
  step('an echo endpoint is served, and the console is connected to it');

  await type(page.getByLabel('Message', { exact: true }), '{"hello": "gateway"}');
  await page.keyboard.press('Control+Enter');
  await page.locator('article.received').getByText('gateway').waitFor();
  step('a message comes back');

  await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'Endpoints' }).click();
  await link(PATH).click();
  await link('Edit').click();
  await page.getByText('Add a route').click();
  await type(page.getByLabel('Name of the route'), 'Orders');
  await type(page.getByLabel('Field, as JSONPath'), '$.action');
  await type(page.getByLabel('Value', { exact: true }), 'order');
  await button('Put it into the document').click();
  await page.locator('.cm-line').filter({ hasText: '"Orders"' }).waitFor();
  await button('Save and activate').click();
  await page.getByText('Version 2 is active').first().waitFor();
  step('a custom route is active');

  await link('Routes').click();
  await page.getByRole('link', { name: /Orders.*\$\.action = "order"/ }).waitFor();
  await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: /Console/ }).click();
  await type(page.getByLabel('Message', { exact: true }), '{"action": "order", "amount": 3}');
  // The connection that was opened before the route was added follows the new version.
  await button('Send').click();
  await page.locator('article.received').getByText('"order"').waitFor();
  step('the connection is still open, and an event of the new route comes back');

  await page.locator('a[href^="#/connections/"]').filter({ hasText: 'See it among the connections' }).click();
  await page.getByRole('heading', { name: 'Connection', exact: true }).waitFor();
  await page.getByText('Live', { exact: true }).nth(1).waitFor();
  await type(page.getByLabel('Message, JSON'), '{"pushed": "by an operator"}');
  await button('Push').click();
  await page.getByText('In the client’s socket or its outbox').waitFor();
  await page.getByRole('grid').getByRole('row').filter({ hasText: 'out' }).first().waitFor();
  step('a message is pushed, and seen in the connection’s own tail');

  await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: /Console/ }).click();
  await page.locator('article.received').getByText('by an operator').waitFor();
  step('the client has it');
  assert.deepEqual(faults, [], 'nothing is written to the console');
  const seconds = (Date.now() - began) / 1000;
  assert.ok(seconds < LIMIT_SECONDS, `the path took ${seconds.toFixed(0)} s, which is more than ${LIMIT_SECONDS} s`);
} catch (error) {
  failed = error;
  if (process.env.PICTURES) await page.screenshot({ path: `${process.env.PICTURES}/first-path.png` }).catch(() => {});
}
console.log(`${failed ? 'FAIL' : 'ok  '}  a first visit: ${((Date.now() - began) / 1000).toFixed(1)} s`);
if (failed) console.error(failed.stack ?? failed);

const headers = ADMIN_TOKEN ? { authorization: `Bearer ${ADMIN_TOKEN}` } : {};
const { items } = await (await fetch(`${UI_URL}/api/v1/endpoints?path=${PATH}`, { headers })).json();
for (const { id } of items) await fetch(`${UI_URL}/api/v1/endpoints/${id}`, { method: 'DELETE', headers });
await browser.close();
process.exit(failed ? 1 : 0);
