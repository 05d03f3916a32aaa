// Tokens, the audit log, and what each role is offered.
import assert from 'node:assert/strict';
import { ADMIN_TOKEN, api, button, connect, echo, endpoint, go, liveNodes, open, PATH, RUN, see, UI_URL, until, withToken, written } from '../rig.mjs';

const ROLES = ['viewer', 'publisher', 'editor', 'admin'];

/** What is offered on each page: to everybody, and from which role on. A node's name stands for each node. */
function offers({ id, cid, group, nodes }) {
  const endpoint = { viewer: ['Open in console'], editor: ['Delete…'] };
  const tail = ['Pause', 'Clear'];
  const pages = {
    '#/': { viewer: ['5 min', '1 hour', '24 hours', 'All nodes', 'Each node'] },
    '#/endpoints': { viewer: ['Path', 'Connections', 'Events in', 'Events out', 'Errors', 'Changed'], editor: ['New endpoint'] },
    '#/endpoints/new': { editor: ['Begin with Echo', 'Begin with HTTP service', 'Begin with Kafka topic'] },
    '#/endpoints/new?template=echo': { editor: ['Create and serve', 'Store as a draft', 'Add a route'] },
    [`#/endpoints/${id}`]: { viewer: ['Watch its events'] },
    [`#/endpoints/${id}?tab=edit`]: { editor: ['Save and activate', 'Discard', 'Format', 'Add a route'] },
    [`#/endpoints/${id}?tab=versions`]: { editor: ['Activate version 1', 'Edit from this version: 1', 'Edit from this version: 2'] },
    [`#/endpoints/${id}?tab=rollout`]: {},
    [`#/endpoints/${id}?tab=explain`]: { viewer: ['Explain'] },
    [`#/connections?endpoint=${id}`]: { viewer: ['Open'] },
    [`#/connections/${cid}`]: { viewer: ['Copy', ...tail], publisher: ['Push', `Take it out of ${group}`, 'Put it in', 'Change'], editor: ['Close…'] },
    '#/live': { viewer: tail },
    '#/console': { viewer: ['Connect', ...nodes, 'Copy', 'Send', 'Clear'] },
    '#/cluster': { admin: ['Download a backup', ...nodes.flatMap((node) => [`Drain ${node}`, `Remove ${node}`])] },
    '#/access': { admin: ['New token', 'Revoke of this test'] },
    '#/access?tab=audit': {},
  };
  for (const [hash, page] of Object.entries(pages)) {
    if (!hash.startsWith(`#/endpoints/${id}`)) continue;
    for (const [role, names] of Object.entries(endpoint)) page[role] = [...names, ...(page[role] ?? [])];
  }
  return pages;
}
/** The names of all that can be pressed, but what only opens, sorts or turns pages. */
const OPENS = /^(As a table|What the roles may do|↑ [\d,]+ newer|Next page|Older|Show everything|Open the console|Open: \d+|Sort again)$/;
async function offered(page, own) {
  const names = await page.evaluate(() =>
    [...document.querySelectorAll('main :is(button, a.button, summary)')]
      .filter((each) => each.checkVisibility({ visibilityProperty: true }))
      .map((each) => (each.getAttribute('aria-label') ?? each.textContent).replace(/[↑↓]$|^[↑↓](?! )/g, '').replace(/\s+/g, ' ').trim()),
  );
  // Other tokens are not this test's.
  return names.filter((name) => !OPENS.test(name) && !(name.startsWith('Revoke ') && name !== `Revoke ${own}`)).map((name) => (name.startsWith('Revoke ') ? 'Revoke of this test' : name));
}

export default {
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

  async 'the list of tokens has pages'() {
    const PAGE = 100;
    const ids = [];
    try {
      const { items } = await api('GET', '/api/v1/tokens?limit=1000');
      for (let each = items.length; each < PAGE + 3; each++) ids.push((await api('POST', '/api/v1/tokens', { name: `ui-test-${RUN}-${each}`, role: 'viewer' })).id);
      const all = (await api('GET', '/api/v1/tokens?limit=1000')).items.map((token) => token.id);
      const page = await open('#/access');
      const shown = () => page.locator('tbody td.mono').allInnerTexts();
      const shows = (what, wanted) => until(what, async () => (await shown()).filter((id) => all.includes(id)).join() === wanted.join());
      await shows('the first page', all.slice(0, PAGE));
      assert.equal(await button(page, 'First page').count(), 0);
      await button(page, 'Next page').click();
      await shows('the next page', all.slice(PAGE));
      await button(page, 'First page').click();
      await shows('the first page again', all.slice(0, PAGE));
    } finally {
      for (const id of ids) await api('DELETE', `/api/v1/tokens/${id}`);
    }
  },

  async 'each role is offered what it may do, on every page, and nothing else'() {
    const id = await endpoint(`${PATH}-roles`);
    await api('PUT', `/api/v1/endpoints/${id}`, echo(`${PATH}-roles`, '\n  "name": "b",'));
    const live = await liveNodes();
    const client = await connect(live[0], `${PATH}-roles`, { connections: 2, perSecond: 0 });
    const group = `roles-${RUN}`;
    try {
      const [first, second] = await until('both are there', async () => {
        const { items } = await api('GET', `/api/v1/connections?endpoint=${id}`);
        return items.length === 2 && items;
      });
      await api('PUT', `/api/v1/groups/${group}/connections/${first.id}`);
      const pages = offers({ id, cid: first.id, group, nodes: live.map((node) => node.name) });
      for (const role of ROLES) {
        await withToken(role, async (token, { name }) => {
          const page = await open('#/endpoints', { token });
          await page.getByText(`${name} · ${role}`).waitFor();
          assert.equal(await page.getByRole('navigation', { name: 'Pages' }).getByRole('link', { name: 'Access' }).count(), role === 'admin' ? 1 : 0);
          for (const [hash, of] of Object.entries(pages)) {
            const wanted = ROLES.slice(0, ROLES.indexOf(role) + 1).flatMap((each) => of[each] ?? []).sort();
            await go(page, hash);
            let found = [];
            // Pages come to be piece by piece; what is not to be there must not come later either.
            await until(`${role} at ${hash}`, async () => (found = (await offered(page, name)).sort()).join() === wanted.join(), 8).catch(() => assert.deepEqual(found, wanted, `${role} at ${hash}`));
            await page.waitForLoadState('networkidle', { timeout: 500 }).catch(() => {});
            assert.deepEqual((await offered(page, name)).sort(), wanted, `${role} at ${hash}, later`);
            assert.equal(await page.getByRole('alert').count(), 0, `${role} at ${hash}: nothing is refused: ${await page.getByRole('alert').allInnerTexts()}`);
          }
          if (role === 'admin') return;
          await go(page, '#/access');
          await see(page, 'a token with the role admin is needed');
          if (role !== 'editor') {
            await go(page, `#/endpoints/${id}?tab=edit`);
            await page.locator('.cm-content').getByText('"routes"').waitFor();
            const before = await written(page);
            await page.locator('.cm-content').click();
            await page.keyboard.insertText('x');
            assert.equal(await written(page), before, `${role}: the document cannot be written to`);
          }
          // What is offered works.
          if (role === 'publisher') {
            await go(page, `#/connections/${first.id}`);
            await button(page, 'Push').click();
            await see(page, 'In the client’s socket or its outbox');
          }
          if (role === 'editor') {
            await go(page, `#/connections/${second.id}`);
            await button(page, 'Close…').click();
            await button(page, 'Close it').click();
            await see(page, 'This connection is gone');
            await until('it is closed', async () => (await api('GET', `/api/v1/connections?endpoint=${id}`)).items.length === 1);
          }
        });
      }
    } finally {
      client.end();
    }
  },
};
