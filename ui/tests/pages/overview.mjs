// The overview: figures, and what is wrong.
import assert from 'node:assert/strict';
import { figures } from '../../dev/mock.mjs';
import { api, button, endpoint, generator, hashOf, hide, liveNodes, open, PATH, see, UI_URL, until } from '../rig.mjs';

/** Figures of three quiet nodes; `change` is told the samples of each. */
function quiet(query, change = () => {}) {
  const answer = figures(query);
  for (const { samples } of answer.nodes) {
    samples.throttled = samples.throttled.map(() => 0);
    samples.connections = samples.connections.map(() => 100);
    samples.eventsIn = samples.eventsIn.map(() => 50 * answer.stepSeconds);
    samples.errors = {};
    change(samples, answer);
  }
  return answer;
}
/** Every event of the last `seconds` fails. */
const failing = (seconds) => (samples, { stepSeconds }) => {
  const length = samples.eventsIn.length;
  samples.errors = { delivery_failed: samples.eventsIn.map((events, place) => ((length - place) * stepSeconds <= seconds ? events : 0)) };
};
const refuse = (detail) => (route) => route.fulfill({ status: 503, json: { title: 'Unavailable', status: 503, detail, code: 'unavailable' } });
const WELL = 'Nothing is wrong that this page knows of.';
/** No stream: what is mocked is all that there is. */
async function still(page) {
  await page.route('**/api/v1/live?*', (route) => route.fulfill({ status: 403, json: { title: 'Forbidden', status: 403, detail: 'no stream in this test', code: 'forbidden' } }));
}
const mockStats = (page, change) => page.route('**/api/v1/stats?*', (route) => route.fulfill({ json: quiet(new URL(route.request().url()).searchParams, change) }));
const alert = (page, text) => page.getByRole('status').getByRole('listitem').filter({ hasText: text });

/** The table of a chart: of each time the values of its lines, null where there is a gap. */
async function table(page, title) {
  const card = page.locator('section.card').filter({ has: page.getByRole('heading', { name: title, exact: true }) });
  const rows = card.getByRole('group', { name: `${title}, as a table` });
  if (!(await rows.isVisible())) await card.getByText('As a table').click();
  await rows.getByRole('row').nth(1).waitFor();
  const read = await rows.evaluate((element) => ({
    lines: [...element.querySelectorAll('thead th')].slice(1).map((cell) => cell.textContent),
    times: [...element.querySelectorAll('tbody tr')].map((row) => [row.querySelector('time').dateTime, [...row.querySelectorAll('data')].map((each) => (each.value === '' ? null : Number(each.value)))]),
  }));
  return { lines: read.lines, at: new Map(read.times.map(([time, values]) => [Date.parse(time) / 1000, values])) };
}
/** As the API says it, of each time: the sum of all nodes, or of one; counters a second. */
async function asked(range, series, node, counted = true) {
  const { stepSeconds, nodes } = await api('GET', `/api/v1/stats?range=${range}`);
  const at = new Map();
  for (const each of nodes.filter(({ name, samples }) => samples && (!node || name === node))) {
    each.samples[series].forEach((value, place) => {
      const time = each.from + place * stepSeconds;
      if (value !== null) at.set(time, (at.get(time) ?? 0) + (counted ? value / stepSeconds : value));
    });
  }
  return at;
}
/** How many times both have a figure for; each must be the same. The newest is still being counted when it is read. */
function same(one, other, what) {
  const newest = Math.max(...other.keys());
  const both = [...one].filter(([time, value]) => value !== null && time < newest - 2 && (other.get(time) ?? null) !== null);
  for (const [time, value] of both) assert.ok(Math.abs(value - other.get(time)) < 1e-6, `${what}, ${new Date(time * 1000).toISOString()}: ${value} and ${other.get(time)}`);
  return both.length;
}
const column = ({ lines, at }, name) => new Map([...at].map(([time, values]) => [time, values[lines.indexOf(name)]]));

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

  async 'alerts: what fails is said whatever range is looked at, and since when by the figures'() {
    const page = await open('about:blank');
    await still(page);
    await mockStats(page, failing(Infinity));
    await page.goto(`${UI_URL}/ui/#/`);
    const errors = alert(page, '100 % of the events of the last minute ended in an error');
    await errors.getByText('for more than 5 min').waitFor();
    await errors.getByText('Most are delivery_failed: a backend does not take it.').waitFor();
    for (const range of ['1 hour', '24 hours']) {
      await button(page, range).click();
      await page.waitForFunction(() => document.querySelectorAll('canvas').length === 7);
      await page.waitForTimeout(500);
      assert.equal(await errors.count(), 1, `it is said in the range of ${range}`);
      await page.getByRole('link', { name: /Errors, last minute ?100 %/ }).waitFor();
      assert.equal(await page.getByText(WELL).count(), 0);
    }
    await page.unroute('**/api/v1/stats?*');
    await mockStats(page, failing(130));
    // It is the history that says it, not this tab.
    await page.reload();
    await errors.getByText(/for 2 min$/).waitFor();
    await page.unroute('**/api/v1/stats?*');
    await mockStats(page);
    await page.reload();
    await see(page, WELL);
  },

  async 'alerts: without figures it is said that nothing is known, and why, and nothing is green'() {
    const page = await open('about:blank');
    await still(page);
    // No answer at all, for the time being.
    await page.route('**/api/v1/stats?*', () => {});
    await page.goto(`${UI_URL}/ui/#/`);
    await see(page, 'Whether anything is wrong is not known yet');
    await page.waitForTimeout(1000);
    assert.equal(await page.getByText(WELL).count(), 0);
    await page.unroute('**/api/v1/stats?*');
    await page.route('**/api/v1/stats?*', refuse('no figures in this test'));
    await page.reload();
    await alert(page, 'Whether events fail is not known: no figures in this test').waitFor();
    assert.equal(await page.getByText(WELL).count(), 0);
    await page.unroute('**/api/v1/stats?*');
    await page.route('**/api/v1/stats?*', (route) => {
      const answer = quiet(new URL(route.request().url()).searchParams);
      for (const node of answer.nodes) Object.assign(node, { reachable: false, reason: 'it hangs', samples: undefined });
      return route.fulfill({ json: answer });
    });
    await page.reload();
    await alert(page, 'Whether events fail is not known: no node answers: it hangs').waitFor();
    await page.unroute('**/api/v1/stats?*');
    await mockStats(page);
    for (const [url, text] of [['**/api/v1/traffic', 'Whether endpoints are served everywhere is not known: no answer here'], ['**/metrics', /How disk, circuit breakers and dead letters of .* are is not known: no answer here/], ['**/api/v1/cluster', 'How the nodes are is not known: no answer here']]) {
      await page.route(url, refuse('no answer here'));
      await page.reload();
      await alert(page, text).waitFor();
      assert.equal(await page.getByText(WELL).count(), 0, url);
      await page.unroute(url);
    }
    await page.reload();
    await see(page, WELL);
    // What stops coming gets old.
    await page.route('**/api/v1/stats?*', () => {});
    await alert(page, /Whether events fail is not known: the last answer is \d+ s old/).waitFor({ timeout: 25_000 });
    assert.equal(await page.getByText(WELL).count(), 0);
  },

  async 'alerts: a node that does not answer, throttling, refused handshakes, a node behind, and what only the node itself says'() {
    const page = await open('about:blank');
    await still(page);
    const real = await api('GET', '/api/v1/cluster');
    const id = await endpoint(`${PATH}-own`);
    await mockStats(page, (samples, { stepSeconds }) => {
      samples.throttled = samples.throttled.map(() => 2 * stepSeconds);
      samples.opened = samples.opened.map(() => stepSeconds);
      samples.errors = { handshake_refused: samples.opened.map(() => stepSeconds) };
    });
    const other = real.nodes.find((node) => node.live && node.nodeId !== real.nodeId)?.name ?? 'n9';
    await page.route('**/api/v1/traffic', async (route) => route.fulfill({ json: { ...(await (await route.fetch()).json()), unreachable: [{ node: other, reason: 'no answer within 1000 ms' }] } }));
    await page.route('**/api/v1/cluster', (route) => route.fulfill({ json: { ...real, nodes: real.nodes.map((node) => (node.name === other ? { ...node, appliedIndex: 0 } : { ...node, appliedIndex: 1000 })) } }));
    const text = (letters) =>
      `wsgateway_disk_full 1\nwsgateway_disk_free_bytes 1048576\nwsgateway_backend_circuit{endpoint="${id}",backend="default/d/0"} 2\nwsgateway_dead_letters_total{endpoint="${id}",route="d",outcome="timeout"} ${letters}\n# EOF\n`;
    let letters = 3;
    await page.route('**/metrics', (route) => route.fulfill({ contentType: 'application/openmetrics-text', body: text(letters++) }));
    await page.goto(`${UI_URL}/ui/#/`);
    await alert(page, `Node ${other} does not answer What it does is not known: no answer within 1000 ms`).waitFor();
    await alert(page, 'Clients are throttled, 6 /s').getByText(/for more than [45] min/).waitFor();
    await alert(page, '50 % of the handshakes of the last minute were refused').waitFor();
    await alert(page, `The disk of ${real.node} is full 1.0 MB are free.`).waitFor();
    await alert(page, `The circuit breaker of default/d/0 of ${PATH}-own is open on ${real.node}`).getByText('seen for').waitFor();
    await alert(page, `1 dead letter of ${PATH}-own could not be kept on ${real.node}`).waitFor({ timeout: 15_000 });
    if (other !== 'n9') await alert(page, `Node ${other} is behind in the log 1,000 entries`).waitFor({ timeout: 25_000 });
    await alert(page, 'circuit breaker').getByRole('link').click();
    await page.getByRole('heading', { name: `${PATH}-own` }).waitFor();
  },

  async 'the overview’s figures are those of the API: of all nodes, of each, of a day; a reload keeps the picture'() {
    const nodes = (await liveNodes()).map((node) => node.name);
    const page = await open('#/');
    await page.waitForFunction(() => document.querySelectorAll('canvas').length === 7);
    // A while of what the stream brings.
    await page.waitForTimeout(8000);
    const before = await table(page, 'Events');
    assert.deepEqual(before.lines, ['in', 'out']);
    const total = await asked('5m', 'eventsIn');
    assert.ok(same(column(before, 'in'), total, 'events in, of all nodes') >= 8);
    if (generator) assert.ok([...column(before, 'in').values()].some((value) => value > 100), 'there is traffic');
    await page.reload();
    await page.waitForFunction(() => document.querySelectorAll('canvas').length === 7);
    const after = await table(page, 'Events');
    for (const line of before.lines) assert.ok(same(column(before, line), column(after, line), `events ${line}, before and after the reload`) >= 8);
    assert.equal([...before.at.keys()].filter((time) => time > Math.min(...after.at.keys()) && time < Math.max(...after.at.keys()) && !after.at.has(time)).length, 0, 'no time is lost');

    await button(page, 'Each node').click();
    await until('a line for each node', async () => (await table(page, 'Events')).lines.length === nodes.length * 2);
    const each = await table(page, 'Events');
    for (const node of nodes) {
      const own = column(each, `${node} in`);
      assert.ok(same(own, await asked('5m', 'eventsIn', node), `events in, of ${node}`) >= 8);
      if (generator?.nodes.includes(node)) assert.ok([...own.values()].some((value) => value > 20), `${node} has traffic`);
    }
    await button(page, 'All nodes').click();
    await until('the lines of all nodes', async () => (await table(page, 'Events')).lines.length === 2);
    assert.ok(!(await hashOf(page)).includes('by='));

    await Promise.all([page.waitForResponse((answer) => answer.url().includes('/api/v1/stats?range=24h')), button(page, '24 hours').click()]);
    assert.match(await hashOf(page), /range=24h/);
    // A step of five minutes may not have ended since the nodes were started.
    const day = await api('GET', '/api/v1/stats?range=24h');
    assert.equal(day.stepSeconds, 300);
    if (day.nodes.some((node) => node.samples?.connections.some((value) => value !== null))) {
      const shown = await table(page, 'Open connections');
      assert.ok([...shown.at.keys()].every((time) => time % 300 === 0), 'steps of five minutes');
      same(column(shown, 'open'), await asked('24h', 'connections', undefined, false), 'connections of a day');
    }
    if (generator) {
      // One in seven is no JSON.
      const errors = alert(page, /1\d % of the events of the last minute ended in an error Most are invalid_json/);
      await errors.getByText(/for (more than )?\d+ (s|min)$/).waitFor();
    }
  },
};
