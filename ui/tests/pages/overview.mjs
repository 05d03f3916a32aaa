// The overview: figures, and what is wrong.
import assert from 'node:assert/strict';
import { figures } from '../../dev/mock.mjs';
import { api, button, endpoint, generator, hide, open, PATH, see, UI_URL } from '../rig.mjs';

export default {
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
};
