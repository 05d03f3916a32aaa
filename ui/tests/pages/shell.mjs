// What is around every page: signing in, keys, colours, the connection to the node, and how soon the first page is there.
import assert from 'node:assert/strict';
import { ADMIN_TOKEN, api, button, endpoint, go, open, PATH, RUN, see, UI_URL } from '../rig.mjs';

const LOADED_WITHIN_MILLIS = 1000;
const LOADED_BYTES_MAX = 300_000;

export default {
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

  async 'a lost connection says so and offers the other nodes'() {
    const page = await open('#/cluster');
    await page.getByRole('row').nth(1).waitFor();
    await page.route('**/api/**', (route) => route.abort());
    await see(page, /is lost/);
    if ((await api('GET', '/api/v1/cluster')).nodes.length > 1) await see(page, /Other nodes:/);
    await page.unroute('**/api/**');
    await page.getByText(/is lost/).waitFor({ state: 'detached' });
  },

  async 'the first page has its figures within a second, and is small'() {
    const tries = [];
    // The machine has other things to do at times: the best of three counts.
    for (let left = 3; left > 0; left--) {
      const page = await open('about:blank');
      // When the first figures are on screen, by the page's own clock.
      await page.addInitScript(() => {
        const look = () => {
          if (/^\d/.test(document.querySelector('.tiles b')?.textContent ?? '') && document.querySelector('canvas')) globalThis.figuresAt = performance.now();
          else requestAnimationFrame(look);
        };
        requestAnimationFrame(look);
      });
      const session = await page.context().newCDPSession(page);
      await session.send('Network.enable');
      await session.send('Network.setCacheDisabled', { cacheDisabled: true });
      const urls = new Map();
      const bytes = { files: 0, answers: 0 };
      const came = new Map();
      session.on('Network.responseReceived', ({ requestId, response }) => urls.set(requestId, new URL(response.url).pathname));
      session.on('Network.dataReceived', ({ requestId, encodedDataLength }) => came.set(requestId, (came.get(requestId) ?? 0) + encodedDataLength));
      session.on('Network.loadingFinished', ({ requestId, encodedDataLength }) => came.set(requestId, encodedDataLength));
      await page.goto(`${UI_URL}/ui/#/`, { waitUntil: 'load' });
      await page.waitForFunction(() => globalThis.figuresAt !== undefined);
      await page.waitForTimeout(300);
      for (const [id, count] of came) bytes[urls.get(id)?.startsWith('/ui/') ? 'files' : 'answers'] += count;
      const times = await page.evaluate(() => ({
        painted: performance.getEntriesByName('first-contentful-paint')[0]?.startTime,
        loaded: performance.getEntriesByType('navigation')[0].loadEventEnd,
        figures: globalThis.figuresAt,
      }));
      await page.context().close();
      const line = Object.entries(times).map(([name, at]) => `${name} ${Math.round(at)} ms`).join(', ');
      console.log(`      ${line}; ${Math.round(bytes.files / 1000)} KB of files, ${Math.round(bytes.answers / 1000)} KB of answers`);
      assert.ok(bytes.files > 20_000, 'the files were counted');
      assert.ok(bytes.files + bytes.answers < LOADED_BYTES_MAX, `${bytes.files + bytes.answers} bytes`);
      tries.push({ line, millis: Math.max(...Object.values(times)) });
      if (tries.at(-1).millis < LOADED_WITHIN_MILLIS) return;
    }
    assert.fail(`not within a second: ${tries.map(({ line }) => line).join('; ')}`);
  },

  async 'colours: light, dark, or the system’s, and kept'() {
    const page = await open('#/endpoints', { colorScheme: 'dark' });
    await page.getByRole('heading', { name: 'Endpoints' }).waitFor();
    const ground = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
    const theme = () => page.evaluate(() => document.documentElement.dataset.theme ?? null);
    const change = async (to) => {
      await page.getByRole('button', { name: /^Colours:/ }).click();
      await page.getByRole('button', { name: `Colours: ${to}` }).waitFor();
    };
    const dark = await ground();
    assert.equal(await theme(), null, 'as the system has it');
    await change('Light');
    const light = await ground();
    assert.notEqual(light, dark);
    await page.reload();
    await page.getByRole('button', { name: 'Colours: Light' }).waitFor();
    assert.deepEqual([await theme(), await ground()], ['light', light], 'kept after a reload');
    await change('Dark');
    assert.equal(await ground(), dark);
    await page.emulateMedia({ colorScheme: 'light' });
    assert.equal(await ground(), dark, 'whatever the system says');
    await page.reload();
    await page.getByRole('button', { name: 'Colours: Dark' }).waitFor();
    assert.deepEqual([await theme(), await ground()], ['dark', dark]);
    await change('Auto');
    assert.equal(await ground(), light, 'the system’s again');
    await page.emulateMedia({ colorScheme: 'dark' });
    assert.equal(await ground(), dark, 'and it is followed');
  },
};
