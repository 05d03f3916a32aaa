// Connections, and one of them.
import assert from 'node:assert/strict';
import { api, button, connect, endpoint, go, hashOf, liveNodes, open, PATH, RUN, see, until } from '../rig.mjs';

export default {
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

  async 'connections: by endpoint, user, group and node, and by their ids'() {
    const PASSWORD = 'correct horse battery';
    const users = [`ada-${RUN}`, `grace-${RUN}`];
    const id = await endpoint(
      `${PATH}-found`,
      JSON.stringify({
        path: `${PATH}-found`,
        authentication: { mode: 'basic', users: users.map((username) => ({ username, password: PASSWORD })) },
        routes: [{ type: 'default', name: 'd', backends: [{ type: 'echo' }] }],
      }),
    );
    const header = (place) => `Authorization: Basic ${Buffer.from(`${users[place]}:${PASSWORD}`).toString('base64')}`;
    const nodes = await liveNodes();
    const clients = [];
    try {
      for (const node of nodes) clients.push(await connect(node, `${PATH}-found`, { connections: 2, perSecond: 0, header }));
      const all = await until('all are there', async () => {
        const { items } = await api('GET', `/api/v1/connections?endpoint=${id}`);
        return items.length === nodes.length * 2 && items;
      });
      const [first] = all;
      const group = `group of ${RUN}`;
      await api('PUT', `/api/v1/groups/${encodeURIComponent(group)}/connections/${first.id}`);
      const page = await open('#/connections');
      const rows = page.locator('tbody a.mono');
      const titles = () => rows.evaluateAll((links) => links.map((link) => link.title).sort());
      const shows = (what, wanted) => until(what, async () => (await titles()).join() === wanted.map((each) => each.id).sort().join());
      await page.getByLabel('Endpoint').selectOption(id);
      await page.getByText(`${all.length} connections`, { exact: true }).waitFor();
      await shows('those of the endpoint', all);
      await page.getByLabel('User').fill(users[0]);
      await page.keyboard.press('Enter');
      await shows('those of a user', all.filter((each) => each.identity.user === users[0]));
      assert.match(await hashOf(page), new RegExp(`user=${users[0]}`));
      for (const node of nodes) {
        await page.getByLabel('Node').selectOption(node.name);
        await shows(`those of the user at ${node.name}`, all.filter((each) => each.identity.user === users[0] && each.node === node.name));
      }
      await page.getByLabel('User').fill('');
      await page.keyboard.press('Enter');
      await page.getByLabel('Node').selectOption('');
      await page.getByLabel('Endpoint').selectOption('');
      await page.getByLabel('Group').fill(group);
      await page.keyboard.press('Enter');
      await shows('those of a group', [first]);
      // The address holds it all.
      await page.reload();
      await shows('those of a group, after a reload', [first]);
      assert.equal(await page.getByLabel('Group').inputValue(), group);
      await page.getByLabel('Group').fill('no-such-group');
      await page.keyboard.press('Enter');
      await see(page, 'Nobody is connected that fits.');
      await page.getByPlaceholder('Connection id').fill(` ${first.id} `);
      await button(page, 'Open').click();
      await page.getByRole('heading', { name: 'Connection', exact: true }).waitFor();
      await page.getByText(first.id).waitFor();
      await page.getByRole('link', { name: group }).waitFor();
      assert.equal(await hashOf(page), `#/connections/${first.id}`);
    } finally {
      for (const each of clients) each.end();
    }
  },

  async 'connections: the next page, and the first again'() {
    const id = await endpoint(`${PATH}-many`);
    const [node] = await liveNodes();
    const clients = await connect(node, `${PATH}-many`, { connections: 130, perSecond: 0 });
    try {
      await until('all are there', async () => (await api('GET', `/api/v1/connections?endpoint=${id}&limit=0`)).matched === 130);
      const page = await open(`#/connections?endpoint=${id}`);
      const titles = () => page.locator('tbody a.mono').evaluateAll((links) => links.map((link) => link.title));
      await see(page, '130 connections');
      await see(page, /100 shown/);
      const first = await titles();
      assert.equal(first.length, 100);
      assert.equal(await button(page, 'First page').count(), 0);
      await button(page, 'Next page').click();
      await until('the rest', async () => (await titles()).length === 30);
      const second = await titles();
      assert.equal(new Set([...first, ...second]).size, 130, 'each is on one of the pages');
      assert.equal(await button(page, 'Next page').count(), 0);
      await button(page, 'First page').click();
      await until('the first page', async () => (await titles()).join() === first.join());
      await page.goBack();
      await until('back', async () => (await titles()).join() === second.join());
    } finally {
      clients.end();
    }
  },

  async 'connections: a push waits until it is written, and until the client confirms it'() {
    const id = await endpoint(`${PATH}-confirm`);
    const client = await open(`#/console?endpoint=${id}&connect=1`);
    await see(client, /handshake \d+ ms/);
    const [{ id: cid }] = (await api('GET', `/api/v1/connections?endpoint=${id}`)).items;
    const page = await open(`#/connections/${cid}`);
    const push = async (message, wait) => {
      await page.getByLabel('Message, JSON').fill(message);
      await page.getByLabel('and wait').selectOption(wait);
      await button(page, 'Push').click();
    };
    await push('{"pushed": "written"}', 'until it is written');
    await see(page, 'Written to the client’s socket');
    await client.locator('article.received').getByText('"written"').waitFor();
    await push('{"pushed": "confirmed"}', 'until the client confirms it');
    const got = client.locator('article.received').filter({ hasText: 'confirmed' });
    await got.waitFor();
    assert.equal(await page.getByText('Confirmed by the client').count(), 0, 'the client has said nothing yet');
    assert.ok(await button(page, 'Push').isDisabled(), 'it waits');
    await client.getByLabel('As it comes').check();
    const frame = JSON.parse(await got.locator('pre').innerText());
    assert.deepEqual([frame.type, frame.data], ['message', { pushed: 'confirmed' }]);
    await client.getByLabel('Message', { exact: true }).fill(JSON.stringify({ type: 'ack', id: frame.id }));
    await button(client, 'Send').click();
    await see(page, 'Confirmed by the client');
    // The client that says nothing.
    await page.route('**/api/v1/connections/*?confirm=client', (route) => route.continue({ url: `${route.request().url()}&timeoutSeconds=1` }));
    await push('{"pushed": "unconfirmed"}', 'until the client confirms it');
    await page.getByRole('alert').getByText('504 not_confirmed').waitFor();
  },
};
