// What must not be lost: what somebody writes, where he came from, and what he is told, when the node, the token or the
// answer goes away, somebody else saves, or he changes his mind.
//
//   UI_URL=http://127.0.0.1:9001 ADMIN_TOKEN=… node tests/editing.mjs [part of a test's name]
//
// As pages.mjs: UI_URL is the admin address of a node that serves /ui/, or of dev/serve.mjs; without ADMIN_TOKEN the node
// must let calls without a token in. It makes what it needs below /ui-edit-… and takes it away again.
import assert from 'node:assert/strict';
import { watch } from './browser.mjs';
import * as rig from './rig.mjs';
import { ADMIN_TOKEN, api, browser, button, go, hashOf, RUN, runAll, see, UI_URL, until, write, written } from './rig.mjs';

const PATH = `/ui-edit-${RUN}`;

/** The token is given to it once: these tests sign out, and in with another. */
async function open(hash, { token = ADMIN_TOKEN, ...options } = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(15_000);
  if (token) await context.addInitScript((text) => location.protocol !== 'about:' && !sessionStorage.getItem('tested') && (sessionStorage.setItem('tested', '1'), sessionStorage.setItem('wsgateway.token', text)), token);
  const page = await context.newPage();
  rig.faults.push(watch(page));
  if (hash) await page.goto(`${UI_URL}/ui/${hash}`);
  return page;
}
const gone = (page, text) => page.getByText(text).first().waitFor({ state: 'detached' });
const tab = (page, name) => page.getByRole('navigation', { name: 'Views of the endpoint' }).getByRole('link', { name, exact: true });

const named = (path, name) => `{\n  "path": "${path}",\n  "name": "${name}",\n  "routes": [{"type": "default", "name": "d", "backends": [{"type": "echo"}]}]\n}\n`;
const endpoint = (path, document = named(path, 'first')) => rig.endpoint(path, document);
const read = (id) => api('GET', `/api/v1/endpoints/${id}`);

const TESTS = {
  async 'a save that gets no answer says that it may be repeated, until the node answers again'() {
    const path = `${PATH}-lost`;
    const id = await endpoint(path);
    const page = await open(`#/endpoints/${id}?tab=edit`);
    await page.locator('.cm-content').waitFor();
    await write(page, named(path, 'mine'));
    await see(page, 'What changes');
    await page.route('**/api/**', (route) => route.abort());
    await button(page, 'Save and activate').click();
    const notSaved = page.getByRole('alert').filter({ hasText: 'Not saved:' });
    await notSaved.getByText('Press Save again; repeating it is safe.').waitFor();
    assert.equal(await notSaved.getByText('It is asked again').count(), 0);
    await page.unroute('**/api/**');
    await notSaved.waitFor({ state: 'detached' });
    assert.match(await written(page), /"mine"/);
    // Done, and only the answer is lost: it is not a conflict with oneself.
    const itself = new RegExp(`/endpoints/${id}(\\?|$)`);
    await page.route(itself, async (route) => {
      if (route.request().method() !== 'PUT' || /dryRun/.test(route.request().url())) return route.continue();
      await route.fetch();
      await route.abort();
    });
    await button(page, 'Save and activate').click();
    await until('the version is there', async () => (await read(id)).activeVersion === 2);
    await until('it counts as saved', async () => (await button(page, 'Discard').isDisabled()) && (await page.getByText(/you began from version/).count()) === 0);
    assert.equal(await page.getByText('Version 2 is active').count(), 0, 'the answer was lost');
    await page.unroute(itself);
    // What cannot be read again is saved all the same.
    await page.route(itself, (route) => (route.request().method() === 'GET' ? route.abort() : route.continue()));
    await write(page, named(path, 'again'));
    await see(page, 'What changes');
    await button(page, 'Save and activate').click();
    await see(page, 'Version 3 is active');
    assert.equal(await notSaved.count(), 0);
    assert.match(await written(page), /again/);
  },

  async 'a write without a key does not promise that it may be repeated'() {
    const id = await endpoint(`${PATH}-unsure`);
    await api('PUT', `/api/v1/endpoints/${id}?activate=false`, named(`${PATH}-unsure`, 'second'));
    const page = await open(`#/endpoints/${id}?tab=versions`);
    await page.route('**/activate?**', (route) => route.abort());
    await page.route('**/activate', (route) => route.abort());
    await button(page, 'Activate version 2').click();
    await page.getByRole('alert').filter({ hasText: 'Not activated' }).getByText(/not known/).waitFor();
  },

  async 'what is written is there again after signing in anew'() {
    if (!ADMIN_TOKEN) return;
    const path = `${PATH}-token`;
    const id = await endpoint(path);
    const token = await api('POST', '/api/v1/tokens', { name: `ui-edit-${RUN}`, role: 'editor' });
    const page = await open(`#/endpoints/${id}?tab=edit`, { token: token.token });
    await page.locator('.cm-content').waitFor();
    await write(page, named(path, 'kept'));
    await page.getByLabel('Why (kept with the version)').fill('the reason');
    await api('DELETE', `/api/v1/tokens/${token.id}`);
    await page.getByRole('heading', { name: 'Sign in to WSGateway' }).waitFor();
    await see(page, 'is kept in this tab');
    await page.getByLabel('Token').fill('wrong-é');
    await see(page, '“é” is in no token');
    assert.ok(await button(page, 'Sign in').isDisabled());
    await page.getByLabel('Token').fill(ADMIN_TOKEN);
    await button(page, 'Sign in').click();
    await page.locator('.cm-content').getByText('kept').waitFor();
    assert.equal(await page.getByLabel('Why (kept with the version)').inputValue(), 'the reason');
    await button(page, 'Save and activate').click();
    await see(page, 'Version 2 is active');
    assert.equal((await read(id)).document.name, 'kept');
  },

  async 'a new endpoint that is being written is there again after signing in anew'() {
    if (!ADMIN_TOKEN) return;
    const token = await api('POST', '/api/v1/tokens', { name: `ui-edit-new-${RUN}`, role: 'editor' });
    const page = await open('#/endpoints/new?template=echo', { token: token.token });
    await page.locator('.cm-content').waitFor();
    await write(page, named(`${PATH}-unmade`, 'unmade'));
    await api('DELETE', `/api/v1/tokens/${token.id}`);
    await page.getByRole('heading', { name: 'Sign in to WSGateway' }).waitFor();
    await page.getByLabel('Token').fill(ADMIN_TOKEN);
    await button(page, 'Sign in').click();
    await page.locator('.cm-content').getByText('unmade').first().waitFor();
  },

  async 'a version that is saved without activating it stays open, and can be opened, explained and edited again'() {
    const path = `${PATH}-version`;
    const id = await endpoint(path);
    const page = await open(`#/endpoints/${id}?tab=edit`);
    await page.locator('.cm-content').waitFor();
    await write(page, named(path, 'second'));
    await page.getByLabel('Activate now').uncheck();
    await see(page, 'What changes');
    await button(page, 'Save without activating').click();
    await see(page, 'Version 2 is stored and not active');
    await see(page, 'This is version 2, which is not active; version 1 is.');
    assert.match(await written(page), /second/);
    await page.reload();
    await page.locator('.cm-content').getByText('second').waitFor();
    // From the header, from wherever one is.
    await go(page, `#/endpoints/${id}`);
    await page.getByRole('link', { name: 'version 2 is not active' }).click();
    await page.locator('.cm-content').getByText('second').waitFor();
    assert.ok(await button(page, 'Discard').isDisabled(), 'to look at it is no change');
    await page.getByRole('link', { name: 'Explain an event with it' }).click();
    assert.equal(await page.getByLabel('With the document').inputValue(), '2');
    const asked = page.waitForRequest((request) => request.url().endsWith('/explain'));
    await button(page, 'Explain').click();
    assert.equal(JSON.parse((await asked).postData()).version, 2);
    await see(page, 'Forwarded');
    await tab(page, 'Versions').click();
    await page.getByRole('link', { name: 'Edit from this version: 2' }).click();
    await page.locator('.cm-content').getByText('second').waitFor();
    await write(page, named(path, 'third'));
    await see(page, 'began from version 2');
    await see(page, 'What changes');
    await button(page, 'Save and activate').click();
    await see(page, 'Version 3 is active');
    assert.equal((await read(id)).document.name, 'third');
    assert.ok(!(await hashOf(page)).includes('version='));
    // What is being written is not given up for another version without a question.
    await write(page, named(path, 'fourth'));
    await tab(page, 'Versions').click();
    await page.getByRole('link', { name: 'Edit from this version: 1' }).click();
    await page.locator('.cm-content').getByText('fourth').waitFor();
    await button(page, 'Open version 1 instead').click();
    await page.locator('.cm-content').getByText('first').waitFor();
    await button(page, 'Undo').last().click();
    await page.locator('.cm-content').getByText('fourth').waitFor();
  },

  async 'pages that were not visited yet can be used when the node is gone, and the way to another node is that of this page'() {
    const loaded = new Set();
    const page = await open();
    page.on('requestfinished', (request) => loaded.add(request.url().replace(/.*\/assets\/(\w+)-.*/, '$1')));
    await page.goto(`${UI_URL}/ui/#/`);
    await page.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
    await until('the pages are loaded ahead', () => ['Endpoints', 'Cluster', 'Console', 'Access', 'Live', 'editor'].every((name) => loaded.has(name)));
    await page.route('**/*', (route) => route.abort());
    for (const name of ['Live', 'Cluster', 'Connections', 'Endpoints']) {
      await page.getByRole('link', { name, exact: true }).click();
      await page.getByRole('heading', { name, level: 1 }).waitFor();
      if ((await api('GET', '/api/v1/cluster')).nodes.length === 1) continue;
      const other = page.getByRole('alert').getByRole('link').first();
      await other.waitFor();
      assert.ok((await other.getAttribute('href')).endsWith(`/#/${name.toLowerCase()}`), await other.getAttribute('href'));
      await see(page, 'what is not saved is not taken along');
    }
  },

  async 'a page that could not be loaded is tried again by itself'() {
    const page = await open();
    await page.route('**/assets/Cluster-*', (route) => route.abort());
    await page.goto(`${UI_URL}/ui/#/cluster`);
    await see(page, 'This page could not be loaded; it is tried again.');
    await page.unroute('**/assets/Cluster-*');
    await page.getByRole('heading', { name: 'Cluster', level: 1 }).waitFor();
  },

  async 'going back and staying all the same leaves the history as it was'() {
    const path = `${PATH}-back`;
    const id = await endpoint(path);
    const page = await open('#/endpoints');
    await page.getByRole('heading', { name: 'Endpoints' }).waitFor();
    await go(page, '#/cluster');
    await page.getByRole('heading', { name: 'Cluster' }).waitFor();
    await go(page, `#/endpoints/${id}?tab=edit`);
    await page.locator('.cm-content').waitFor();
    await write(page, named(path, 'unsaved'));
    await see(page, 'Not saved; began from');
    const length = await page.evaluate(() => history.length);
    page.once('dialog', (dialog) => void dialog.dismiss());
    await page.evaluate(() => history.back());
    await until('it is here again', async () => (await hashOf(page)) === `#/endpoints/${id}?tab=edit`);
    await page.waitForTimeout(300);
    assert.match(await written(page), /unsaved/);
    // Two steps at once, and a link.
    page.once('dialog', (dialog) => void dialog.dismiss());
    await page.evaluate(() => history.go(-2));
    await page.waitForTimeout(500);
    assert.equal(await hashOf(page), `#/endpoints/${id}?tab=edit`);
    assert.equal(await page.evaluate(() => history.length), length);
    page.once('dialog', (dialog) => void dialog.dismiss());
    await page.getByRole('link', { name: 'Live' }).click();
    await page.waitForTimeout(500);
    assert.equal(await hashOf(page), `#/endpoints/${id}?tab=edit`);
    if (ADMIN_TOKEN) {
      page.once('dialog', (dialog) => void dialog.dismiss());
      await button(page, 'Sign out').click();
      await page.waitForTimeout(300);
      assert.match(await written(page), /unsaved/);
    }
    page.once('dialog', (dialog) => void dialog.accept());
    await page.evaluate(() => history.back());
    await page.getByRole('heading', { name: 'Cluster' }).waitFor();
    await page.evaluate(() => history.back());
    await page.getByRole('heading', { name: 'Endpoints' }).waitFor();
    await page.evaluate(() => history.go(2));
    await page.getByRole('heading', { name: path }).waitFor();
  },

  async 'what is discarded comes back: by Ctrl+Z, and by Undo, also from another page'() {
    const path = `${PATH}-discard`;
    const id = await endpoint(path);
    const page = await open(`#/endpoints/${id}?tab=edit`);
    await page.locator('.cm-content').waitFor();
    await write(page, named(path, 'work'));
    await button(page, 'Discard').click();
    await page.locator('.cm-content').getByText('first').waitFor();
    await page.locator('.cm-content').click();
    await page.keyboard.press('Control+z');
    await page.locator('.cm-content').getByText('work').waitFor();
    await button(page, 'Dismiss').click();
    await button(page, 'Discard').click();
    await page.locator('.cm-content').getByText('first').waitFor();
    await button(page, 'Undo').click();
    await page.locator('.cm-content').getByText('work').waitFor();
    await button(page, 'Discard').click();
    await page.locator('.cm-content').getByText('first').waitFor();
    await page.getByRole('link', { name: 'Cluster' }).click();
    await page.getByRole('heading', { name: 'Cluster' }).waitFor();
    await button(page, 'Undo').click();
    await page.locator('.cm-content').getByText('work').waitFor();
    await see(page, 'Not saved; began from version 1');
  },

  async 'a token that is shown once goes away by “I have it” only'() {
    if (!ADMIN_TOKEN) return;
    const page = await open('#/access');
    await button(page, 'New token').click();
    await page.getByLabel(/^Name/).fill(`ui-edit-once-${RUN}`);
    await button(page, 'Make it').click();
    await page.locator('[data-token]').waitFor();
    try {
      for (let press = 0; press < 3; press++) await page.keyboard.press('Escape');
      await page.waitForTimeout(300);
      assert.equal(await page.locator('[data-token]').count(), 1);
      assert.equal(await button(page, 'Close').count(), 0);
      await button(page, 'I have it').click();
      await page.getByRole('dialog').waitFor({ state: 'detached' });
    } finally {
      for (const token of (await api('GET', '/api/v1/tokens')).items) if (token.name === `ui-edit-once-${RUN}`) await api('DELETE', `/api/v1/tokens/${token.id}`);
    }
  },

  async 'an explanation says when it is an old one, and its question is in the address'() {
    const id = await endpoint(`${PATH}-explain`);
    const page = await open(`#/endpoints/${id}?tab=explain`);
    await page.getByLabel('Event, JSON').fill('{"n": 1.50}');
    await page.getByLabel('User').fill('ann');
    await button(page, 'Explain').click();
    await see(page, 'Forwarded');
    assert.equal(await page.getByText('this is the answer to what stood there before').count(), 0);
    await page.getByLabel('Event, JSON').fill('{"n": 2}');
    await see(page, 'this is the answer to what stood there before');
    await page.getByLabel('Event, JSON').fill('{"n": 1.50}');
    await gone(page, 'this is the answer to what stood there before');
    await page.reload();
    await see(page, 'Forwarded');
    assert.match(await page.getByLabel('Event, JSON').inputValue(), /1\.50/);
    assert.equal(await page.getByLabel('User').inputValue(), 'ann');
    await page.getByLabel('Event, JSON').fill(JSON.stringify({ long: 'x'.repeat(3000) }));
    await button(page, 'Explain').click();
    await see(page, 'is not kept in the address');
    assert.ok((await hashOf(page)).length < 300);
  },

  async 'the console keeps what was typed, finds its own connection, and sorts what can be chosen'() {
    const ids = [];
    for (const last of ['b', 'c', 'a']) ids.push(await endpoint(`${PATH}-console-${last}`));
    const page = await open(`#/console?endpoint=${ids[0]}`);
    await page.getByLabel('Query', { exact: true }).fill('debug=1');
    await page.getByLabel('Message', { exact: true }).fill('{"mine": true}');
    await page.waitForTimeout(200);
    await page.reload();
    await button(page, 'Connect').waitFor();
    assert.equal(await page.getByLabel('Query', { exact: true }).inputValue(), 'debug=1');
    assert.equal(await page.getByLabel('Message', { exact: true }).inputValue(), '{"mine": true}');
    assert.ok(!(await hashOf(page)).includes('debug'), 'a query may have a token in it');
    const sorted = async (label) => (await page.locator('label').filter({ hasText: label }).locator('option').allInnerTexts()).filter((text) => text.startsWith(`${PATH}-console`));
    await until('endpoints are there', async () => (await sorted(/^\s*Endpoint/)).length === 3);
    for (const hash of ['#/console', '#/live', '#/connections']) {
      await go(page, hash);
      await page.getByRole('heading', { level: 1, name: new RegExp(hash.slice(2), 'i') }).waitFor();
      await until('endpoints are there', async () => (await sorted(/^\s*Endpoint/)).length === 3);
      assert.deepEqual(await sorted(/^\s*Endpoint/), ['a', 'b', 'c'].map((last) => `${PATH}-console-${last}`));
    }
    const nodes = (await page.locator('label').filter({ hasText: /^\s*Node/ }).locator('option').allInnerTexts()).slice(1);
    assert.deepEqual(nodes, nodes.toSorted());
    await go(page, `#/console?endpoint=${ids[0]}`);
    await button(page, 'Connect').click();
    await see(page, /handshake \d+ ms/);
    const link = page.getByRole('link', { name: 'See it among the connections' });
    await until('its own id is known', async () => /#\/connections\/[\w-]{44}$/.test(await link.getAttribute('href')));
    assert.equal((await api('GET', `/api/v1/connections?endpoint=${ids[0]}`)).items[0].id, (await link.getAttribute('href')).split('/').at(-1));
    await button(page, 'Close').click();
    await see(page, /Closed: 1000/);
  },

  async 'a taken path leads to the endpoint that has it, and is forgotten when another is typed'() {
    const id = await endpoint(`${PATH}-taken`);
    const page = await open('#/endpoints/new?template=echo');
    await page.locator('.cm-content').waitFor();
    await write(page, named(`${PATH}-taken`, 'twice'));
    await button(page, 'Create and serve').click();
    const alert = page.getByRole('alert').filter({ hasText: 'Not created' });
    await alert.getByText(`the path ${PATH}-taken is that of another endpoint`).waitFor();
    assert.equal(await alert.getByRole('link', { name: 'another endpoint' }).getAttribute('href'), `#/endpoints/${id}`);
    await write(page, named(`${PATH}-free`, 'once'));
    await alert.waitFor({ state: 'detached' });
    // What is written here is asked about, too.
    let asked = '';
    page.once('dialog', (dialog) => ((asked = dialog.message()), void dialog.dismiss()));
    await page.getByRole('link', { name: 'Cluster' }).click();
    await until('it is asked', () => asked !== '');
    assert.match(asked, /not saved/);
  },

  async 'after somebody else’s save, the differences are those to what is active now'() {
    const path = `${PATH}-two`;
    const id = await endpoint(path);
    const page = await open(`#/endpoints/${id}?tab=edit`);
    await page.locator('.cm-content').waitFor();
    await write(page, named(path, 'mine'));
    await page.getByRole('listitem').filter({ hasText: 'from "first" to "mine"' }).waitFor();
    await api('PUT', `/api/v1/endpoints/${id}`, named(path, 'theirs'));
    await see(page, 'Version 2 is active now; you began from version 1.');
    await page.getByRole('listitem').filter({ hasText: 'from "theirs" to "mine"' }).waitFor();
    await button(page, 'Take theirs, drop mine').click();
    await page.locator('.cm-content').getByText('theirs').waitFor();
    await button(page, 'Undo').click();
    await page.locator('.cm-content').getByText('mine').waitFor();
    await see(page, 'Version 2 is active now; you began from version 1.');
  },

  async 'a document of one line is shown in many, which is no change of it'() {
    const path = `${PATH}-line`;
    const id = await endpoint(path, JSON.stringify({ path, name: 'one line', routes: [{ type: 'default', name: 'd', backends: [{ type: 'echo' }] }] }));
    const page = await open(`#/endpoints/${id}?tab=edit`);
    await page.locator('.cm-line').filter({ hasText: /^ {2}"path"/ }).waitFor();
    assert.ok((await page.locator('.cm-line').count()) > 3);
    await page.waitForTimeout(800);
    assert.ok(await button(page, 'Save and activate').isDisabled());
    assert.equal(await page.getByText('Not saved').count(), 0);
    let asked = false;
    page.on('dialog', (dialog) => ((asked = true), void dialog.accept()));
    await page.getByRole('link', { name: 'Cluster' }).click();
    await page.getByRole('heading', { name: 'Cluster' }).waitFor();
    assert.ok(!asked);
  },

  async 'a condition that is refused shows no list, and deleting counts the nodes that are there'() {
    const id = await endpoint(`${PATH}-small`);
    const page = await open('#/connections');
    await see(page, /on \d+ nodes?/);
    await page.getByLabel('Condition, as in custom routes').fill('{"oops": 1}');
    await page.keyboard.press('Enter');
    await page.getByRole('alert').waitFor();
    assert.equal(await page.getByRole('table').count(), 0, 'what was asked before is no answer');
    await page.route(`**/api/v1/endpoints/${id}/rollout*`, async (route) => {
      const answer = await (await route.fetch()).json();
      const [first] = answer.nodes;
      await route.fulfill({ json: { ...answer, nodes: [{ ...first, live: true }, { ...first, nodeId: 'b', live: true }, { ...first, nodeId: 'c', live: false }] } });
    });
    await go(page, `#/endpoints/${id}`);
    await page.waitForResponse((response) => response.url().includes('/rollout'));
    await button(page, 'Delete…').click();
    await page.getByRole('dialog').getByText(/ on 2 nodes with 4410/).waitFor();
  },

  async 'long names stay in their boxes'() {
    const path = `${PATH}-wide`;
    const wide = 'WWWWMMMM'.repeat(12);
    const id = await endpoint(path, JSON.stringify({ path, routes: [{ type: 'custom', name: wide, expression: { exists: { path: `$.${'M'.repeat(60)}` } }, backends: [{ type: 'echo' }] }] }));
    const page = await open(`#/endpoints/${id}`);
    const box = page.locator('g.route').filter({ hasText: 'WWWW' });
    await box.waitFor();
    const over = await box.evaluate((group) => {
      const right = group.querySelector('rect').getBoundingClientRect().right;
      return [...group.querySelectorAll('text')].map((text) => text.getBoundingClientRect().right - right);
    });
    assert.ok(over.every((each) => each < 0), `${over}`);
    assert.match(await box.locator('title').textContent(), new RegExp(wide));
    assert.match(await box.locator('text.title').textContent(), /…$/);
  },

  async 'on a phone one sees what fails, and what may be done'() {
    const path = `${PATH}-phone`;
    const id = await endpoint(path);
    const page = await open(undefined, { viewport: { width: 390, height: 800 } });
    await page.route('**/api/v1/traffic*', async (route) => {
      const answer = await (await route.fetch()).json();
      for (const item of answer.items) if (item.endpointId === id) Object.assign(item, { eventsInPerSecond: 10, errorsPerSecond: 10, connections: 7 });
      await route.fulfill({ json: answer });
    });
    const seen = (locator) => locator.evaluate((element) => element.getBoundingClientRect().left >= 0 && element.getBoundingClientRect().right <= innerWidth);
    await page.goto(`${UI_URL}/ui/#/endpoints?path=${path}`);
    const row = page.getByRole('row').filter({ hasText: path });
    await row.getByText('100 %').waitFor();
    assert.ok(await seen(row.getByText('100 %')));
    assert.ok(await seen(row.getByRole('link', { name: /7 connections of/ })));
    await row.getByText('Served').waitFor();
    await page.goto(`${UI_URL}/ui/#/cluster`);
    const drain = page.getByRole('button', { name: /^Drain/ }).first();
    await drain.waitFor();
    assert.ok(await seen(drain));
    await page.goto(`${UI_URL}/ui/#/endpoints/${id}`);
    await page.locator('g.route').first().waitFor();
    const edge = await page.locator('.scroll').first().evaluate((box) => ({ more: box.scrollWidth > box.clientWidth, edge: getComputedStyle(box).backgroundAttachment }));
    assert.ok(edge.more && /scroll/.test(edge.edge) && /local/.test(edge.edge), 'the edge is shaded while there is more behind it');
  },
};

process.exit((await runAll(TESTS, process.argv[2])) ? 1 : 0);
