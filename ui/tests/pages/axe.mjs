// Every page and every dialog, looked at with axe in light and dark, and on a phone.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { figures } from '../../dev/mock.mjs';
import { api, button, echo, endpoint, go, loaded, open, PATH, see, UI_URL, write } from '../rig.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const AXE_TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'];

export default {
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
