// Drives every page and every act of the UI against a running cluster, in Chromium, and looks at each page with axe in
// light and dark.
//
//   UI_URL=http://127.0.0.1:9001 ADMIN_TOKEN=… node tests/pages.mjs [part of a test's name]
//
// UI_URL is the admin address of a node that serves /ui/ (or of dev/serve.mjs). Without ADMIN_TOKEN the node must let
// calls without a token in. It makes what it needs below /ui-test-… and takes it away again. Clients must be able to
// connect to the addresses that GET /api/v1/cluster names. No node is drained or removed, unless DRAIN_NODE names one.
// Meanwhile twenty clients send some hundred events a second (LOAD=0: none), so that pages are looked at while they change.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { figures } from '../dev/mock.mjs';
import { launch, watch } from './browser.mjs';
import { load } from './load.mjs';

const { UI_URL = 'http://127.0.0.1:5180', ADMIN_TOKEN = '', DRAIN_NODE, LOAD = '300' } = process.env;
const ONLY = process.argv[2];
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const AXE_TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];
const RUN = Date.now().toString(36);
const PATH = `/ui-test-${RUN}`;

/** A call beside the page, to prepare and to look behind it. */
async function api(method, path, body, headers = {}) {
  const all = { 'content-type': 'application/json', ...(ADMIN_TOKEN ? { authorization: `Bearer ${ADMIN_TOKEN}` } : {}), ...headers };
  const answer = await fetch(UI_URL + path, { method, headers: all, body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body) });
  const text = await answer.text();
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : null;
}

const browser = await launch();
const faults = [];

/** A page of its own for each test: nothing is left over from the one before. */
async function open(hash = '#/', { token = ADMIN_TOKEN, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, acceptDownloads: true, ...options });
  context.setDefaultTimeout(15_000);
  if (token) await context.addInitScript((text) => location.protocol !== 'about:' && (sessionStorage.getItem('wsgateway.token') ?? sessionStorage.setItem('wsgateway.token', text)), token);
  const page = await context.newPage();
  faults.push(watch(page));
  if (hash.startsWith('#')) await page.goto(`${UI_URL}/ui/${hash}`);
  return page;
}
const go = async (page, hash) => page.evaluate((to) => (location.hash = to), hash);
const button = (page, name) => page.getByRole('button', { name, exact: true });
const see = (page, text) => page.getByText(text).first().waitFor();

/** Puts a text into the editor as a person would. */
async function write(page, text) {
  const editor = page.locator('.cm-content').first();
  await editor.click();
  await page.keyboard.press('Control+a');
  await page.keyboard.insertText(text);
}
const written = (page) => page.locator('.cm-content').first().innerText();

const echo = (path, more = '') => `{\n  "path": "${path}",${more}\n  "routes": [{"type": "default", "name": "d", "backends": [{"type": "echo"}]}]\n}\n`;
const made = [];
async function endpoint(path, document = echo(path)) {
  const { id } = await api('POST', '/api/v1/endpoints?message=prepared', document);
  made.push(id);
  return id;
}

/** Whether the tab is seen is not up to the page. */
const hide = (page, hidden) =>
  page.evaluate((value) => {
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => value });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);

/** The endpoint that has traffic all the time. */
const loaded = { path: `${PATH}-load`, id: '' };
const LOADED = {
  path: loaded.path,
  routes: [
    { type: 'custom', name: 'load-buying', expression: { equal: { path: '$.action', value: 'buy' } }, backends: [{ type: 'echo' }] },
    { type: 'custom', name: 'load-silent', expression: { exists: { path: '$.never' } }, backends: [{ type: 'echo' }] },
    { type: 'default', name: 'rest', backends: [{ type: 'echo' }] },
  ],
};
let generator = null;
async function begin() {
  ({ id: loaded.id } = await api('POST', '/api/v1/endpoints?message=load', LOADED));
  if (LOAD === '0') return;
  const { node, nodes } = await api('GET', '/api/v1/cluster');
  const address = nodes.find((each) => each.name === node).clientAddr;
  for (let tries = 0; !generator; tries++) {
    // The version is on its way to the nodes.
    generator = await load(address, loaded.path, { perSecond: Number(LOAD) }).catch((error) => {
      if (tries > 50) throw error;
      return new Promise((resolve) => setTimeout(() => resolve(null), 200));
    });
  }
}

const TESTS = {
  async 'a wrong token is refused in the server’s words'() {
    const page = await open('#/endpoints', { token: 'wrong-token-of-a-test' });
    await page.getByRole('heading', { name: 'Sign in to WSGateway' }).waitFor();
    await see(page, 'the token is not valid');
    await page.getByLabel('Token').fill(`wrong-${RUN}`);
    await button(page, 'Sign in').click();
    await page.getByRole('alert').getByText('the token is not valid').waitFor();
    if (ADMIN_TOKEN) {
      await page.getByLabel('Token').fill(ADMIN_TOKEN);
      await page.keyboard.press('Enter');
      // The address is kept: one lands where one wanted to go.
      await page.getByRole('heading', { name: 'Endpoints' }).waitFor();
      assert.equal(await page.evaluate(() => localStorage.getItem('wsgateway.token')), null, 'the token must not outlive the tab');
      await button(page, 'Sign out').click();
      await page.getByRole('heading', { name: 'Sign in to WSGateway' }).waitFor();
    }
  },

  async 'keys: pages, search, help, and switching them off'() {
    await endpoint(`${PATH}-keys`);
    const page = await open();
    await page.getByRole('heading', { name: 'Overview' }).waitFor();
    for (const [letter, name] of [['e', 'Endpoints'], ['c', 'Connections'], ['l', 'Live'], ['w', 'Console'], ['n', 'Cluster'], ['a', 'Access'], ['o', 'Overview']]) {
      await page.keyboard.press('g');
      await page.keyboard.press(letter);
      await page.getByRole('heading', { name, exact: true, level: 1 }).waitFor();
    }
    await page.keyboard.press('/');
    await page.getByRole('combobox').fill(`${PATH}-keys`);
    await page.getByRole('option').filter({ hasText: `Endpoint ${PATH}-keys` }).first().waitFor();
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: `${PATH}-keys` }).waitFor();
    await page.goBack();
    await page.getByRole('heading', { name: 'Overview' }).waitFor();
    // Routes are found by their names, and pages of the documentation by what they are about.
    await page.keyboard.press('/');
    await page.getByRole('combobox').fill('load-buying');
    await page.getByRole('option').filter({ hasText: 'Route load-buying' }).first().waitFor();
    await page.getByRole('combobox').fill('quorum');
    await page.getByRole('option').filter({ hasText: 'Docs Three in the morning' }).waitFor();
    await page.keyboard.press('Escape');
    await page.keyboard.press('?');
    await page.getByRole('dialog').getByRole('checkbox').uncheck();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    await page.keyboard.press('/');
    await page.waitForTimeout(200);
    assert.equal(await page.getByRole('dialog').count(), 0, 'keys are switched off');
  },

  async 'an endpoint from a template ends in a connected console'() {
    const page = await open('#/endpoints/new');
    for (const name of ['Echo', 'HTTP service', 'Kafka topic']) await page.getByRole('link', { name: `Begin with ${name}` }).waitFor();
    await page.getByRole('link', { name: 'Begin with Echo' }).click();
    await page.getByRole('textbox', { name: /^path/ }).fill(`${PATH}-new`);
    await page.keyboard.press('Tab');
    await page.locator('.cm-content').getByText(`${PATH}-new`).waitFor();
    await button(page, 'Create and serve').click();
    await see(page, /^Open/);
    await see(page, /handshake \d+ ms/);
    await page.getByLabel('Message', { exact: true }).fill('{"n": 1.50}');
    await page.keyboard.press('Control+Enter');
    await page.locator('article.received').getByText('1.50').waitFor();
    await see(page, /ms after the last sent/);
    await button(page, 'Close').click();
    await see(page, /Closed: 1000/);
    const { items } = await api('GET', `/api/v1/endpoints?path=${PATH}-new`);
    made.push(items[0].id);
    assert.equal(items[0].activeVersion, 1);
  },

  async 'the other templates are accepted by the server'() {
    const page = await open('#/endpoints/new?template=http');
    for (const template of ['http', 'kafka']) {
      await go(page, `#/endpoints/new?template=${template}`);
      await page.getByRole('textbox', { name: /^path/ }).fill(`${PATH}-${template}`);
      await page.keyboard.press('Tab');
      await button(page, 'Store as a draft').click();
      await page.getByRole('heading', { name: `${PATH}-${template}` }).waitFor();
      await see(page, 'Draft');
      made.push(await page.evaluate(() => location.hash.split('/')[2].split('?')[0]));
    }
  },

  async 'a taken path is refused in the server’s words'() {
    await endpoint(`${PATH}-taken`);
    const page = await open('#/endpoints/new?template=echo');
    await page.getByRole('textbox', { name: /^path/ }).fill(`${PATH}-taken`);
    await page.keyboard.press('Tab');
    await button(page, 'Create and serve').click();
    await page.getByRole('alert').getByText('409 path_taken').waitFor();
  },

  async 'the editor marks what is wrong, completes, saves, and undoes'() {
    const id = await endpoint(`${PATH}-edit`);
    const page = await open(`#/endpoints/${id}?tab=edit`);
    await page.locator('.cm-content').waitFor();
    await write(page, echo(`${PATH}-edit`, '\n  "settings": {"maxInFlight": 0},\n  "rutes": 1,'));
    await see(page, 'must be 1–1024, is 0');
    await see(page, 'did you mean "routes"?');
    await page.locator('.cm-lintRange-error').nth(1).waitFor();
    const marked = await page.locator('.cm-lintRange-error').allInnerTexts();
    assert.deepEqual(marked, ['"maxInFlight": 0', '"rutes": 1'], 'the faults are marked where they stand');
    assert.ok(await button(page, 'Save and activate').isDisabled());
    // Completion by the schema.
    await write(page, '{"settings": {"outbox": {');
    await page.keyboard.press('Control+Space');
    await page.locator('.cm-completionLabel').getByText('whenFull').waitFor();
    await page.keyboard.press('Escape');
    // The form and the text are one.
    await write(page, echo(`${PATH}-edit`));
    await page.getByRole('spinbutton', { name: /^maxInFlight/ }).fill('32');
    await page.keyboard.press('Tab');
    await page.locator('.cm-line').filter({ hasText: '"maxInFlight": 32' }).waitFor();
    await page.getByText('What changes').waitFor();
    await page.getByLabel('Why (kept with the version)').fill('fewer at once');
    await page.locator('.cm-content').first().click();
    await page.keyboard.press('Control+Enter');
    await see(page, 'Version 2 is active');
    assert.equal((await api('GET', `/api/v1/endpoints/${id}`)).document.settings.maxInFlight, 32);
    await button(page, 'Undo').click();
    await see(page, 'Version 1 is active again');
    assert.equal((await api('GET', `/api/v1/endpoints/${id}`)).activeVersion, 1);
  },

  async 'somebody else’s change in between is a conflict, not lost'() {
    const id = await endpoint(`${PATH}-conflict`);
    const page = await open(`#/endpoints/${id}?tab=edit`);
    await page.locator('.cm-content').waitFor();
    await write(page, echo(`${PATH}-conflict`, '\n  "name": "mine",'));
    await page.getByText('What changes').waitFor();
    // The page must not hear of it before it saves.
    await page.route(`**/api/v1/endpoints/${id}`, (route) => (route.request().method() === 'GET' ? route.abort() : route.continue()));
    await api('PUT', `/api/v1/endpoints/${id}?message=in+between`, echo(`${PATH}-conflict`, '\n  "name": "theirs",'));
    await button(page, 'Save and activate').click();
    await page.waitForTimeout(500);
    assert.equal((await api('GET', `/api/v1/endpoints/${id}`)).document.name, 'theirs', 'If-Match keeps theirs');
    await page.unroute(`**/api/v1/endpoints/${id}`);
    await see(page, 'Version 2 is active now; you began from version 1.');
    await see(page, '“in between”');
    assert.match(await written(page), /"mine"/, 'what was written is kept');
    await button(page, 'Compare theirs with yours').click();
    await page.locator('.cm-mergeView').getByText('theirs').waitFor();
    await button(page, 'Keep mine, to save it over theirs').click();
    await button(page, 'Save and activate').click();
    await see(page, 'Version 3 is active');
    assert.equal((await api('GET', `/api/v1/endpoints/${id}`)).document.name, 'mine');
  },

  async 'unsaved work is asked about before it is left'() {
    const id = await endpoint(`${PATH}-leave`);
    const page = await open(`#/endpoints/${id}?tab=edit`);
    await page.locator('.cm-content').waitFor();
    await write(page, echo(`${PATH}-leave`, '\n  "name": "unsaved",'));
    // Another view of the same endpoint keeps it.
    await page.getByRole('link', { name: 'Rollout' }).click();
    await see(page, 'is served by');
    await page.getByRole('link', { name: 'Edit', exact: true }).click();
    await page.locator('.cm-content').getByText('unsaved').waitFor();
    let asked = '';
    page.once('dialog', (dialog) => {
      asked = dialog.message();
      void dialog.dismiss();
    });
    await page.getByRole('link', { name: 'Cluster' }).click();
    await page.waitForTimeout(300);
    assert.match(asked, /not saved/);
    assert.match(await page.evaluate(() => location.hash), new RegExp(id), 'the page is kept');
    page.once('dialog', (dialog) => void dialog.accept());
    await page.getByRole('link', { name: 'Cluster' }).click();
    await page.getByRole('heading', { name: 'Cluster' }).waitFor();
  },

  async 'versions: who, when, why, the differences, and the way back'() {
    const id = await endpoint(`${PATH}-versions`);
    await api('PUT', `/api/v1/endpoints/${id}?message=named`, echo(`${PATH}-versions`, '\n  "name": "second",'));
    const page = await open(`#/endpoints/${id}?tab=versions&from=1&to=2`);
    await page.getByRole('row').filter({ hasText: 'named' }).waitFor();
    await page.getByRole('heading', { name: 'From version 1 to version 2' }).waitFor();
    await page.getByRole('listitem').filter({ hasText: 'added name "second"' }).waitFor();
    await page.locator('.cm-merge-b').getByText('second').waitFor();
    await button(page, 'Activate version 1').click();
    await see(page, 'Version 1 is active');
    await button(page, 'Undo').click();
    await see(page, 'Version 2 is active');
    assert.equal((await api('GET', `/api/v1/endpoints/${id}`)).activeVersion, 2);
  },

  async 'routes are drawn, and lead to their place in the document'() {
    const id = await endpoint(
      `${PATH}-routes`,
      JSON.stringify({
        path: `${PATH}-routes`,
        routeSelector: '$.action',
        routes: [
          { type: 'custom', name: 'buying', key: 'buy', backends: [{ type: 'http', destination: 'http://127.0.0.1:9/buy' }] },
          { type: 'default', name: 'rest', backends: [{ type: 'echo' }] },
        ],
      }),
    );
    const page = await open(`#/endpoints/${id}`);
    await page.getByRole('link', { name: /rest.*what no other route took/ }).waitFor();
    await page.getByRole('link', { name: /buying.*\$\.action = buy/ }).click();
    await page.locator('.cm-content').waitFor();
    assert.match(await page.evaluate(() => location.hash), /at=routes/);
    // Explain: the key decides, and a number stays as it is written.
    await page.getByRole('link', { name: 'Explain' }).click();
    await page.getByLabel('Event, JSON').fill('{"action": "buy", "n": 1.50}');
    await page.keyboard.press('Control+Enter');
    await see(page, 'Forwarded');
    await see(page, 'http://127.0.0.1:9/buy');
    await page.getByLabel('Event, JSON').fill('oops');
    await page.getByLabel('Take it as it is').check();
    await button(page, 'Explain').click();
    await see(page, 'Rejected: the client gets an error frame');
    await page.getByRole('link', { name: 'Rollout' }).click();
    await see(page, /Version 1 is served by/);
    await page.getByRole('row').nth(1).waitFor();
  },

  async 'deleting says what will happen and wants the path typed'() {
    const id = await endpoint(`${PATH}-delete`);
    const page = await open(`#/endpoints/${id}`);
    await button(page, 'Delete…').click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText(/This closes .* with 4410/).waitFor();
    const act = dialog.getByRole('button', { name: `Delete ${PATH}-delete` });
    assert.ok(await act.isDisabled());
    await dialog.getByLabel(/^Type/).fill(`${PATH}-delete`);
    await act.click();
    await page.getByRole('heading', { name: 'Endpoints' }).waitFor();
    assert.equal((await api('GET', `/api/v1/endpoints?path=${PATH}-delete`)).items.length, 0);
    await go(page, `#/endpoints/${id}`);
    await page.getByText('404 endpoint_not_found').waitFor();
  },

  async 'the console says what it can about a refused handshake'() {
    const page = await open(`#/console?path=${encodeURIComponent(`${PATH}-nowhere`)}`);
    await page.locator('input[list=addresses]').waitFor();
    await page.waitForFunction(() => !document.querySelector('input[list=addresses]').value.endsWith(':8080') || document.querySelectorAll('#addresses option').length > 0);
    await button(page, 'Connect').click();
    await see(page, /Browsers do not tell a page why/);
    await page.getByText(/^wsgateway ws '/).waitFor();
  },

  async 'connections: found, looked at, pushed to, grouped, tagged, closed'() {
    const id = await endpoint(`${PATH}-connections`);
    const client = await open(`#/console?endpoint=${id}&connect=1`);
    await see(client, /handshake \d+ ms/);
    const page = await open(`#/connections?endpoint=${id}`);
    await page.getByText('1 connection', { exact: true }).waitFor();
    await page.getByLabel('Order').selectOption('rate');
    assert.match(await page.evaluate(() => location.hash), /sort=rate/);
    await page.getByLabel('Condition, as in custom routes').fill('{"equal": {"path": "$.path"');
    await page.keyboard.press('Enter');
    await page.getByRole('alert').getByText('400 invalid_query').waitFor();
    await page.getByLabel('Condition, as in custom routes').fill(`{"equal": {"path": "$.path", "value": "${PATH}-connections"}}`);
    await page.keyboard.press('Enter');
    await page.getByText('1 connection', { exact: true }).waitFor();
    await page.locator('tbody a').first().click();
    await page.getByRole('heading', { name: 'Connection', exact: true }).waitFor();
    await page.getByLabel('Message, JSON').fill('{"pushed": 2.50}');
    await button(page, 'Push').click();
    await see(page, 'In the client’s socket or its outbox');
    await client.locator('article.received').getByText('2.50').waitFor();
    await page.getByPlaceholder('Group').fill('a/b c');
    await button(page, 'Put it in').click();
    await page.getByRole('link', { name: 'a/b c' }).waitFor();
    await button(page, 'Take it out of a/b c').click();
    await see(page, 'In no group.');
    await button(page, 'Change').click();
    await page.getByLabel(/^An object of texts/).fill('{"beta": true}');
    await button(page, 'Save').click();
    await page.locator('pre').getByText('"beta"').waitFor();
    await button(page, 'Close…').click();
    await page.getByRole('dialog').getByLabel(/^Reason/).fill('enough');
    await button(page, 'Close it').click();
    await see(page, 'This connection is gone');
    await client.getByText(/Closed: 4403 “enough” – removed by an operator/).waitFor();
    await client.getByText(/must change something/).waitFor();
    await go(page, '#/connections/abc');
    await page.getByText('400 malformed_connection_id').waitFor();
  },

  async 'the cluster, a backup, and what draining would do'() {
    const page = await open('#/cluster');
    const { nodes } = await api('GET', '/api/v1/cluster');
    for (const node of nodes) await page.getByRole('row').filter({ hasText: node.nodeId }).getByText(node.live ? 'Ready' : 'Gone').waitFor();
    const [download] = await Promise.all([page.waitForEvent('download'), button(page, 'Download a backup').click()]);
    assert.match(download.suggestedFilename(), /^wsgateway-backup-.*\.ndjson$/);
    for (const line of readFileSync(await download.path(), 'utf8').trim().split('\n')) JSON.parse(line);
    const victim = DRAIN_NODE ?? nodes.at(-1).name;
    for (const act of ['Remove', 'Drain']) {
      await button(page, `${act} ${victim}`).click();
      const dialog = page.getByRole('dialog');
      await dialog.getByText(act === 'Drain' ? /This closes .* with 1012/ : /out of the cluster for good|removed for good/).waitFor();
      const sure = dialog.getByRole('button', { name: `${act} ${victim}` });
      assert.ok(await sure.isDisabled(), 'the name must be typed');
      await dialog.getByLabel(/^Type/).fill(victim);
      assert.ok(await sure.isEnabled());
      if (act === 'Drain' && DRAIN_NODE) {
        await sure.click();
        await see(page, `${victim} leaves`);
      } else await page.keyboard.press('Escape');
      await dialog.waitFor({ state: 'detached' });
    }
  },

  async 'tokens: shown once, and revoked; the audit log knows, page by page'() {
    const page = await open('#/access');
    await button(page, 'New token').click();
    const name = `ui-test-${RUN}`;
    await page.getByLabel(/^Name/).fill(name);
    await page.getByLabel('Role').selectOption('viewer');
    await page.getByLabel('Expires').selectOption('in 1 day');
    await button(page, 'Make it').click();
    await see(page, 'This is shown once.');
    const text = await page.locator('[data-token]').innerText();
    assert.match(text, /^wsg_/);
    await button(page, 'I have it').click();
    await page.getByRole('row').filter({ hasText: name }).waitFor();
    assert.ok(!(await page.content()).includes(text), 'the token is not shown again');
    // The same name again: the server says no.
    await button(page, 'New token').click();
    await page.getByLabel(/^Name/).fill(name);
    await button(page, 'Make it').click();
    await page.getByText('409 name_taken').waitFor();
    await page.keyboard.press('Escape');
    await button(page, `Revoke ${name}`).click();
    await page.getByRole('dialog').getByLabel(/^Type/).fill(name);
    await page.getByRole('dialog').getByRole('button', { name: `Revoke ${name}` }).click();
    await see(page, `The token ${name} is revoked`);
    await page.getByRole('row').filter({ hasText: name }).waitFor({ state: 'detached' });
    await page.getByRole('link', { name: 'Audit log' }).click();
    await page.getByRole('row').filter({ hasText: 'DELETE /tokens/{id}' }).first().waitFor();
    for (let more = (await api('GET', '/api/v1/audit?limit=1000')).items.length; more < 55; more++) await api('DELETE', `/api/v1/endpoints/${await endpoint(`${PATH}-audit`)}`);
    await page.reload();
    const newest = await page.locator('tbody time').first().getAttribute('datetime');
    await button(page, 'Older').click();
    await page.waitForFunction((time) => document.querySelector('tbody time')?.getAttribute('datetime') < time, newest);
    await button(page, 'Newest').click();
    await page.getByLabel('Author').fill('nobody-of-that-name');
    await page.keyboard.press('Tab');
    await see(page, 'Nothing was done that fits.');
  },

  async 'a viewer sees no buttons that it may not press'() {
    const name = `ui-test-viewer-${RUN}`;
    const { id: token, token: text } = await api('POST', '/api/v1/tokens', { name, role: 'viewer' });
    try {
      const id = await endpoint(`${PATH}-viewer`);
      await api('PUT', `/api/v1/endpoints/${id}`, echo(`${PATH}-viewer`, '\n  "name": "b",'));
      const page = await open('#/endpoints', { token: text });
      await page.getByText(`${name} · viewer`).waitFor();
      await page.getByRole('link', { name: `${PATH}-viewer`, exact: true }).waitFor();
      assert.equal(await page.getByRole('link', { name: 'New endpoint' }).count(), 0);
      assert.equal(await page.getByRole('link', { name: 'Access' }).count(), 0);
      await go(page, `#/endpoints/${id}?tab=edit`);
      await page.locator('.cm-content').getByText('"routes"').waitFor();
      assert.equal(await page.getByRole('button', { name: /Save|Delete|Format/ }).count(), 0);
      await page.locator('.cm-content').click();
      await page.keyboard.insertText('x');
      assert.ok(!(await written(page)).startsWith('x'), 'the document cannot be written to');
      await go(page, `#/endpoints/${id}?tab=versions`);
      await page.getByRole('row').nth(2).waitFor();
      assert.equal(await page.getByRole('button', { name: /Activate/ }).count(), 0);
      await go(page, '#/cluster');
      await page.getByRole('row').nth(1).waitFor();
      assert.equal(await page.getByRole('button', { name: /Drain|Remove|backup/ }).count(), 0);
      await go(page, '#/access');
      await see(page, 'a token with the role admin is needed');
      // A token that is revoked while the page is open.
      await api('DELETE', `/api/v1/tokens/${token}`);
      await go(page, '#/endpoints');
      await see(page, /You were signed out/);
    } finally {
      await fetch(`${UI_URL}/api/v1/tokens/${token}`, { method: 'DELETE', headers: ADMIN_TOKEN ? { authorization: `Bearer ${ADMIN_TOKEN}` } : {} });
    }
  },

  async 'what a role may not do after all is refused in the server’s words'() {
    const { id, token } = await api('POST', '/api/v1/tokens', { name: `ui-test-lowered-${RUN}`, role: 'viewer' });
    try {
      const page = await open('about:blank', { token });
      await page.route('**/api/v1/whoami', async (route) => route.fulfill({ json: { ...(await (await route.fetch()).json()), role: 'editor' } }));
      await page.goto(`${UI_URL}/ui/#/endpoints/new?template=echo`);
      await see(page, `ui-test-lowered-${RUN} · editor`);
      await page.locator('.cm-content').waitFor();
      await button(page, 'Create and serve').click();
      await page.getByRole('alert').getByText(/this needs the role editor; .* has viewer/).first().waitFor();
    } finally {
      await api('DELETE', `/api/v1/tokens/${id}`);
    }
  },

  async 'a cluster without endpoints teaches how to begin'() {
    const page = await open('about:blank');
    await page.route('**/api/v1/endpoints?*', (route) => route.fulfill({ json: { items: [], nextCursor: null } }));
    await page.goto(`${UI_URL}/ui/#/endpoints`);
    await page.getByRole('heading', { name: 'Create your first endpoint' }).waitFor();
    await page.getByRole('link', { name: 'Begin with Kafka topic' }).click();
    await page.getByRole('heading', { name: 'New endpoint: Kafka topic' }).waitFor();
    // So does the overview.
    await page.route('**/api/v1/traffic', (route) => route.fulfill({ json: { overSeconds: 10, nodes: 1, unreachable: [], items: [] } }));
    await go(page, '#/');
    await page.getByRole('heading', { name: 'Create your first endpoint' }).waitFor();
    for (const name of ['Echo', 'HTTP service', 'Kafka topic']) await page.getByRole('link', { name: `Begin with ${name}` }).waitFor();
  },

  async 'the overview draws figures: one cross-hair, ranges, each node, the buckets'() {
    const page = await open('about:blank');
    await page.route('**/api/v1/stats?*', (route) => route.fulfill({ json: figures(new URL(route.request().url()).searchParams) }));
    // Without the stream, readings take its place.
    await page.route('**/api/v1/live?*', (route) => route.fulfill({ status: 403, json: { title: 'Forbidden', status: 403, detail: 'no stream in this test', code: 'forbidden' } }));
    await page.goto(`${UI_URL}/ui/#/`);
    await page.getByRole('heading', { name: 'Backend latency' }).waitFor();
    await page.waitForFunction(() => document.querySelectorAll('canvas').length === 7);
    await see(page, /The live stream cannot be had.*no stream in this test/);
    await page.getByRole('listitem').filter({ hasText: /delivery_failed [\d.]+ \/s/ }).first().waitFor();
    await page.getByRole('listitem').filter({ hasText: /≤ 5 ms.*p50/ }).waitFor();
    await page.getByRole('listitem').filter({ hasText: /≤ 50 ms.*p99/ }).waitFor();
    // One cross-hair for all charts.
    const plot = await page.locator('.u-over').first().boundingBox();
    await page.mouse.move(plot.x + plot.width / 2, plot.y + plot.height / 2);
    await page.waitForFunction(() => new Set([...document.querySelectorAll('.u-cursor-x')].map((line) => line.style.transform)).size === 1);
    await button(page, 'Each node').click();
    await page.getByRole('listitem').filter({ hasText: 'n2 opened' }).waitFor();
    await button(page, '1 hour').click();
    assert.match(await page.evaluate(() => location.hash), /range=1h/);
    await page.waitForFunction(() => document.querySelectorAll('canvas').length === 7);
    await page.unroute('**/api/v1/stats?*');
    await page.route('**/api/v1/stats?*', (route) => route.fulfill({ status: 503, json: { title: 'Unavailable', status: 503, detail: 'no figures in this test', code: 'unavailable' } }));
    await page.reload();
    await see(page, /The figures could not be read: no figures in this test/);
    await page.getByText('Open connections').first().waitFor();
  },

  async 'the overview is live: figures of this cluster, from the stream, and none while the tab is hidden'() {
    const page = await open('about:blank');
    const asked = [];
    page.on('request', (request) => asked.push(new URL(request.url()).pathname + new URL(request.url()).search));
    await page.goto(`${UI_URL}/ui/#/`);
    await page.waitForFunction(() => document.querySelectorAll('canvas').length === 7);
    const tile = page.getByRole('link', { name: /^Events in/ });
    if (generator) await page.waitForFunction(() => Number(/Events in ?([\d,]+)/.exec(document.querySelector('.tiles').innerText.replaceAll('\n', ' '))?.[1].replace(',', '')) > 100, null, { timeout: 20_000 });
    await tile.waitFor();
    await page.getByRole('listitem').filter({ hasText: /^\s*in [\d,.]+ events\/s/ }).waitFor();
    if (generator) await page.getByRole('listitem').filter({ hasText: /invalid_json [\d.]+ \/s/ }).waitFor();
    asked.length = 0;
    await page.waitForTimeout(6000);
    const readings = asked.filter((url) => url.startsWith('/api/v1/stats?range=5m')).length;
    assert.ok(readings <= 1, `the stream brings what is new, and there were ${readings} readings in 6 s`);
    assert.equal(asked.filter((url) => url.startsWith('/api/v1/live')).length, 0, 'one stream, and it stays open');
    await hide(page, true);
    asked.length = 0;
    await page.waitForTimeout(3000);
    assert.deepEqual(asked, [], 'a hidden tab asks nothing');
    await hide(page, false);
    await page.waitForTimeout(500);
    assert.equal(asked.filter((url) => url.startsWith('/api/v1/live?topics=cluster%2Csamples')).length, 1);
  },

  async 'live: what passes, its details, and where they lead'() {
    const page = await open(`#/live?endpoint=${loaded.id}`);
    const line = page.getByRole('grid').getByRole('row');
    await line.filter({ hasText: loaded.path }).filter({ hasText: 'load-buying' }).first().waitFor();
    await line.filter({ hasText: 'invalid_json' }).first().waitFor();
    // The list is of what is on screen only.
    await page.waitForFunction(() => Number(document.querySelector('[role=grid]').getAttribute('aria-rowcount')) > 100);
    assert.ok((await line.count()) < 60, 'rows that are not seen are not in the page');
    await button(page, 'Pause').click();
    await see(page, 'Paused');
    const top = await line.first().innerText();
    await page.getByRole('button', { name: /^↑ [\d,]+ newer/ }).waitFor();
    assert.equal(await line.first().innerText(), top, 'a paused list stands still');
    // By keyboard: the first, the next; the panel follows.
    await page.getByRole('grid').focus();
    await page.keyboard.press('ArrowDown');
    const panel = page.getByRole('complementary', { name: 'Details of the event' });
    await panel.waitFor();
    for (let more = 0; more < 200 && !(await panel.getByText('From the client: message').isVisible() && (await panel.getByText('load-buying').first().isVisible())); more++) await page.keyboard.press('ArrowDown');
    await panel.getByText('"buy"').waitFor();
    await panel.getByText(/‹\d+ chars›|‹number›/).first().waitFor();
    assert.equal(await panel.getByRole('link', { name: loaded.path }).getAttribute('href'), `#/endpoints/${loaded.id}`);
    const connection = await panel.locator('a.mono').innerText();
    await panel.getByRole('link', { name: 'Explain where it goes' }).click();
    await see(page, 'From the live page.');
    await see(page, /Taken by custom route “load-buying”/);
    await page.goBack();
    await button(page, 'Pause').waitFor();
    await line.filter({ hasText: 'load-buying' }).first().waitFor();
    // Only one connection, from the panel.
    await button(page, 'Pause').click();
    await line.filter({ hasText: 'load-buying' }).first().click();
    await panel.getByRole('button', { name: 'only these of this connection' }).click();
    await page.waitForFunction(() => /connection=/.test(location.hash));
    const asked = new URLSearchParams((await page.evaluate(() => location.hash)).split('?')[1]).get('connection');
    assert.equal(asked.length, connection.length);
    await button(page, 'Show everything').first().click();
    assert.ok(!(await page.evaluate(() => location.hash)).includes('connection='));
    assert.equal(await panel.count(), 0, 'other rows, no panel');
  },

  async 'live: filters, what is left out, scrolling, clearing, and a question that is refused'() {
    const page = await open(`#/live?endpoint=${loaded.id}&limit=10`);
    const line = page.getByRole('grid').getByRole('row');
    if (generator) await see(page, /[\d,]+ more left out/);
    await page.getByLabel('Outcome').fill('invalid_json');
    await page.keyboard.press('Enter');
    await line.filter({ hasText: 'invalid_json' }).first().waitFor();
    await page.waitForTimeout(500);
    assert.equal(await line.filter({ hasText: 'delivered' }).count(), 0, 'rows of before are not kept');
    await page.getByLabel('Outcome').fill('');
    await page.keyboard.press('Enter');
    await page.getByLabel('Direction').selectOption('out');
    await page.getByLabel('At most').selectOption('250');
    await line.filter({ hasText: '← out' }).first().waitFor();
    assert.equal(await line.filter({ hasText: '→ in' }).count(), 0);
    assert.match(await page.evaluate(() => location.hash), /direction=out/);
    assert.match(await page.evaluate(() => location.hash), /limit=250/);
    // Who has scrolled away keeps his place.
    await page.waitForFunction(() => Number(document.querySelector('[role=grid]').getAttribute('aria-rowcount')) > 60);
    await page.getByRole('grid').hover();
    await page.mouse.wheel(0, 500);
    const newer = page.getByRole('button', { name: /^↑ [\d,]+ newer/ });
    await newer.waitFor();
    const first = await line.first().innerText();
    await page.waitForTimeout(700);
    assert.equal(await line.first().innerText(), first);
    await newer.click();
    await page.waitForFunction(() => document.querySelector('[role=grid]').scrollTop === 0);
    await button(page, 'Clear').click();
    await page.getByLabel('User').fill('nobody-of-that-name');
    await page.keyboard.press('Enter');
    await see(page, 'Nothing has passed that fits');
    await page.getByLabel('Has, by JSONPath').fill('$[?');
    await page.keyboard.press('Enter');
    await page.getByRole('alert').getByText('400 invalid_query').waitFor();
    await button(page, 'Show everything').first().click();
    await page.getByText('Refused', { exact: true }).waitFor({ state: 'detached' });
    await see(page, 'Live');
  },

  async 'live: a stream that breaks off is opened again, and what was not heard is said'() {
    // Slowly, so that the row that says it is still on screen.
    const page = await open(`#/live?endpoint=${loaded.id}&limit=10`);
    const line = page.getByRole('grid').getByRole('row');
    await line.first().waitFor();
    await hide(page, true);
    await page.waitForTimeout(2500);
    await page.route('**/api/v1/live?*', (route) => route.abort());
    await hide(page, false);
    await see(page, /Broken off, tried again; as of \d+ s ago/);
    await page.unroute('**/api/v1/live?*');
    await line.filter({ hasText: /not heard for \d+ s/ }).first().waitFor({ state: 'attached' });
  },

  async 'live: it teaches while there is nothing, and says which node it cannot hear'() {
    const id = await endpoint(`${PATH}-silent`);
    const page = await open('about:blank');
    await page.route('**/api/v1/live?*', (route) =>
      route.fulfill({ contentType: 'text/event-stream', body: ': hello\n\nevent: unreachable\ndata: {"nodes": [{"node": "n9", "reason": "it does not answer"}]}\n\n' }),
    );
    await page.goto(`${UI_URL}/ui/#/live?endpoint=${id}`);
    await see(page, 'n9 cannot be heard, so its events are not here: it does not answer');
    await page.unroute('**/api/v1/live?*');
    await see(page, 'Nothing has passed that fits');
    await page.unroute('**/api/v1/live?*');
    await page.goto(`${UI_URL}/ui/#/live?user=nobody`);
    await button(page, 'Show everything').first().waitFor();
  },

  async 'the console’s connection stays while other pages are looked at, and its own tail shows what is sent to it'() {
    const id = await endpoint(`${PATH}-tail`);
    const page = await open(`#/console?endpoint=${id}&connect=1`);
    await see(page, /handshake \d+ ms/);
    await page.getByRole('link', { name: 'See it among the connections' }).click();
    await page.locator('tbody a.mono').first().click();
    await see(page, 'Nothing has passed since this page is open.');
    await see(page, 'keeps up');
    await page.waitForTimeout(500);
    await page.getByLabel('Message, JSON').fill('{"pushed": true}');
    await button(page, 'Push').click();
    const line = page.getByRole('grid').getByRole('row').filter({ hasText: '← out' });
    await line.first().waitFor();
    await page.getByText('Last to it').waitFor();
    await line.first().click();
    await page.getByRole('complementary').getByText('To the client: message').waitFor();
    await page.getByRole('link', { name: /Console.*a connection is open/ }).click();
    await page.locator('article.received').getByText('pushed').waitFor();
    assert.equal(await button(page, 'Close').count(), 1, 'it is still open');
    await button(page, 'Close').click();
    await see(page, /Closed: 1000/);
  },

  async 'the picture of routes says how much flows, and what is silent'() {
    const page = await open(`#/endpoints/${loaded.id}`);
    if (generator) {
      await see(page, /[1-9]\d* events\/s/);
      await page.locator('text.rate').nth(2).waitFor();
    }
    await page.locator('g.silent').filter({ hasText: 'load-silent' }).first().waitFor();
    assert.equal(await page.locator('g.silent').filter({ hasText: 'load-buying' }).count(), 0);
    await page.getByRole('link', { name: 'Watch its events' }).click();
    await page.getByRole('heading', { name: 'Live', level: 1 }).waitFor();
    assert.match(await page.evaluate(() => location.hash), new RegExp(`endpoint=${loaded.id}`));
  },

  async 'the list of endpoints has figures, is sorted by them, and does not jump'() {
    const quiet = [await endpoint(`${PATH}-list-a`), await endpoint(`${PATH}-list-b`)];
    const page = await open('#/endpoints');
    const paths = () => page.locator('tbody a.path').allInnerTexts();
    await page.getByRole('row').filter({ hasText: `${PATH}-list-a` }).getByText('Served').waitFor();
    await page.getByRole('row').filter({ hasText: loaded.path }).getByRole('link', { name: /\d+ \/s events in/ }).waitFor();
    await page.getByRole('button', { name: 'Events in' }).click();
    assert.match(await page.evaluate(() => location.hash), /sort=in/);
    await page.waitForFunction((path) => document.querySelector('tbody a.path').innerText === path, loaded.path);
    assert.equal(await page.getByRole('columnheader', { name: 'Events in' }).getAttribute('aria-sort'), 'descending');
    const before = await paths();
    await page.waitForTimeout(5000);
    assert.deepEqual(await paths(), before, 'rows stay where they are');
    await page.getByRole('button', { name: 'Events in' }).click();
    await page.waitForFunction((path) => [...document.querySelectorAll('tbody a.path')].at(-1).innerText === path, loaded.path);
    await button(page, 'Sort again').click();
    await page.getByRole('searchbox').fill(`${PATH}-list`);
    await page.waitForFunction(() => document.querySelectorAll('tbody a.path').length === 2);
    await see(page, '2 endpoints');
    await page.getByRole('button', { name: 'Path' }).click();
    await page.waitForFunction((path) => document.querySelector('tbody a.path').innerText === path, `${PATH}-list-a`);
    assert.equal(quiet.length, 2);
  },

  async 'a route is added by the form'() {
    const id = await endpoint(`${PATH}-add`);
    const page = await open(`#/endpoints/${id}?tab=edit`);
    await page.getByText('Add a route').click();
    assert.ok(await button(page, 'Put it into the document').isDisabled());
    await page.getByLabel('Name of the route').fill('to a service');
    await page.getByLabel('It takes events').selectOption('exists');
    await page.getByLabel('Field, as JSONPath').fill('$.amount');
    await page.getByLabel('They go to').selectOption('http');
    await page.getByLabel('URL').fill('http://127.0.0.1:9/');
    await button(page, 'Put it into the document').click();
    await page.locator('.cm-line').filter({ hasText: 'to a service' }).first().waitFor();
    await page.getByText('What changes').waitFor();
    await button(page, 'Save and activate').click();
    await see(page, 'Version 2 is active');
    const { document } = await api('GET', `/api/v1/endpoints/${id}`);
    assert.deepEqual(document.routes.at(-1).expression, { exists: { path: '$.amount' } });
  },

  async 'alerts: no leader, a node that is gone, an endpoint that is not served somewhere'() {
    const page = await open('about:blank');
    const real = await api('GET', '/api/v1/cluster');
    const id = await endpoint(`${PATH}-alerts`);
    await page.route('**/api/v1/cluster', (route) =>
      route.fulfill({ json: { ...real, leader: null, nodes: real.nodes.map((node) => ({ ...node, live: node.nodeId === real.nodeId })) } }),
    );
    await page.route('**/api/v1/traffic', async (route) => {
      const answer = await (await route.fetch()).json();
      for (const item of answer.items) if (item.endpointId === id) item.served = { ...item.served, complete: 0, degraded: 1 };
      await route.fulfill({ json: answer });
    });
    await page.route('**/api/v1/live?*', (route) => route.abort());
    await page.route(`**/api/v1/endpoints/${id}/rollout*`, async (route) => {
      const answer = await (await route.fetch()).json();
      // Not one that is drained.
      Object.assign(answer.nodes.find((node) => node.live), { complete: false, degraded: 'a file is missing' });
      answer.complete = false;
      await route.fulfill({ json: answer });
    });
    await page.goto(`${UI_URL}/ui/#/`);
    await see(page, 'No leader');
    if (real.nodes.length > 1) await see(page, /is gone/);
    await page.getByText(/a file is missing/).first().waitFor({ timeout: 30_000 });
  },

  async 'a lost connection says so and offers the other nodes'() {
    const page = await open('#/cluster');
    await page.getByRole('row').nth(1).waitFor();
    await page.route('**/api/**', (route) => route.abort());
    await see(page, /is lost/);
    if ((await api('GET', '/api/v1/cluster')).nodes.length > 1) await see(page, /Other nodes:/);
    await page.unroute('**/api/**');
    await page.getByText(/is lost/).waitFor({ state: 'detached' });
  },

  async 'axe finds nothing, in light and dark; nothing is wider than a phone'() {
    const id = await endpoint(`${PATH}-axe`);
    await api('PUT', `/api/v1/endpoints/${id}`, echo(`${PATH}-axe`, '\n  "name": "b",'));
    const client = await open(`#/console?endpoint=${id}&connect=1`);
    await see(client, /handshake \d+ ms/);
    const connection = (await api('GET', `/api/v1/connections?endpoint=${id}`)).items[0].id;
    const pages = {
      overview: '#/', live: '#/live', live_empty: '#/live?user=nobody-of-that-name', sorted: '#/endpoints?sort=in', endpoints: '#/endpoints', new: '#/endpoints/new', template: '#/endpoints/new?template=kafka', routes: `#/endpoints/${id}`, edit: `#/endpoints/${id}?tab=edit`,
      versions: `#/endpoints/${id}?tab=versions&from=1&to=2`, rollout: `#/endpoints/${id}?tab=rollout`, explain: `#/endpoints/${id}?tab=explain`, console: '#/console',
      connections: '#/connections', connection: `#/connections/${connection}`, cluster: '#/cluster', tokens: '#/access', audit: '#/access?tab=audit', nowhere: '#/nowhere',
    };
    const acts = {
      details: async (page) => {
        await go(page, `#/live?endpoint=${loaded.id}`);
        await page.getByRole('grid').getByRole('row').nth(2).waitFor();
        await button(page, 'Pause').click();
        await page.getByRole('grid').getByRole('row').nth(2).click();
        await page.getByRole('complementary').waitFor();
      },
      route: async (page) => {
        await go(page, `#/endpoints/${id}?tab=edit`);
        await page.getByText('Add a route').click();
      },
      search: async (page) => page.keyboard.press('/'),
      help: async (page) => page.keyboard.press('?'),
      explained: async (page) => {
        await go(page, `#/endpoints/${id}?tab=explain`);
        await button(page, 'Explain').click();
        await see(page, 'Forwarded');
      },
      draining: async (page) => {
        await go(page, '#/cluster');
        await page.getByRole('button', { name: /^Drain/ }).first().click();
      },
      token: async (page) => {
        await go(page, '#/access');
        await button(page, 'New token').click();
      },
      mistakes: async (page) => {
        await go(page, `#/endpoints/${id}?tab=edit`);
        await page.locator('.cm-content').waitFor();
        await write(page, '{"path": "/x", "rutes": 1}');
        await see(page, 'did you mean');
      },
    };
    const found = [];
    for (const colorScheme of ['light', 'dark']) {
      const page = await open('about:blank', { colorScheme, reducedMotion: 'reduce' });
      page.on('dialog', (dialog) => void dialog.accept());
      await page.route('**/api/v1/stats?*', (route) => route.fulfill({ json: figures(new URL(route.request().url()).searchParams) }));
      const look = async (name) => {
        await page.evaluate(AXE);
        const { violations } = await page.evaluate((tags) => globalThis.axe.run(document, { runOnly: tags }), AXE_TAGS);
        for (const each of violations) found.push(`${name}, ${colorScheme}: ${each.id}: ${each.help}: ${each.nodes.map((node) => `${node.target.flat().join(' ')} (${node.any[0]?.message ?? ''})`).slice(0, 3).join('; ')}`);
      };
      for (const [name, hash] of Object.entries(pages)) {
        await page.goto(`${UI_URL}/ui/${hash}`);
        await page.getByRole('heading', { level: 1 }).waitFor();
        await page.getByText('Loading', { exact: true }).first().waitFor({ state: 'detached' });
        await page.waitForTimeout(300);
        await look(name);
        if (colorScheme === 'light') {
          await page.setViewportSize({ width: 390, height: 800 });
          const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
          if (over > 0) found.push(`${name}: ${over} px wider than a phone`);
          await page.setViewportSize({ width: 1280, height: 800 });
        }
      }
      for (const [name, act] of Object.entries(acts)) {
        await page.goto(`${UI_URL}/ui/#/endpoints`);
        await page.getByRole('heading', { name: 'Endpoints' }).waitFor();
        await act(page);
        await page.waitForTimeout(300);
        await look(name);
        await page.goto('about:blank');
      }
      await page.context().close();
    }
    assert.deepEqual(found, []);
  },
};

await begin();
let failed = 0;
let done = 0;
for (const [name, run] of Object.entries(TESTS)) {
  if (ONLY && !name.includes(ONLY)) continue;
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
  for (const id of made.splice(0)) {
    await fetch(`${UI_URL}/api/v1/endpoints/${id}`, { method: 'DELETE', headers: ADMIN_TOKEN ? { authorization: `Bearer ${ADMIN_TOKEN}` } : {} });
  }
}
generator?.end();
await fetch(`${UI_URL}/api/v1/endpoints/${loaded.id}`, { method: 'DELETE', headers: ADMIN_TOKEN ? { authorization: `Bearer ${ADMIN_TOKEN}` } : {} });
await browser.close();
if (generator) console.log(`${generator.sent} events were sent meanwhile`);
console.log(`${done - failed} of ${done} passed`);
process.exit(failed ? 1 : 0);
