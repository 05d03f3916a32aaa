// Endpoints: the list, a new one, its routes, its versions, and its end.
import assert from 'node:assert/strict';
import { api, button, echo, endpoint, generator, go, loaded, made, open, PATH, see, UI_URL, written } from '../rig.mjs';

export default {
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

  async 'the list of endpoints has pages'() {
    for (let each = 0; each < 55; each++) await endpoint(`${PATH}-page-${String(each).padStart(2, '0')}`);
    const page = await open(`#/endpoints?path=${encodeURIComponent(`${PATH}-page`)}`);
    const paths = () => page.locator('tbody a.path').allInnerTexts();
    await see(page, '1–50 of 55');
    const first = await paths();
    assert.deepEqual([first.length, first[0], first.at(-1)], [50, `${PATH}-page-00`, `${PATH}-page-49`]);
    assert.ok(await button(page, 'Previous page').isDisabled());
    await button(page, 'Next page').click();
    await see(page, '51–55 of 55');
    assert.deepEqual(await paths(), [50, 51, 52, 53, 54].map((each) => `${PATH}-page-${each}`));
    assert.ok(await button(page, 'Next page').isDisabled());
    await page.reload();
    await see(page, '51–55 of 55');
    await button(page, 'Previous page').click();
    await see(page, '1–50 of 55');
    assert.deepEqual(await paths(), first);
  },
};
