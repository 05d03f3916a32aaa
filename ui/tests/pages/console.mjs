// The console.
import assert from 'node:assert/strict';
import { api, button, clientsOf, endpoint, liveNodes, open, PATH, see, UI_URL } from '../rig.mjs';

export default {
  async 'the console says what it can about a refused handshake'() {
    const page = await open(`#/console?path=${encodeURIComponent(`${PATH}-nowhere`)}`);
    await page.locator('input[list=addresses]').waitFor();
    await page.waitForFunction(() => !document.querySelector('input[list=addresses]').value.endsWith(':8080') || document.querySelectorAll('#addresses option').length > 0);
    await button(page, 'Connect').click();
    await see(page, /Browsers do not tell a page why/);
    await page.getByText(/^wsgateway ws '/).waitFor();
  },

  async 'the console’s connection stays while other pages are looked at, and its own tail shows what is sent to it'() {
    const id = await endpoint(`${PATH}-tail`);
    const page = await open(`#/console?endpoint=${id}&connect=1`);
    await see(page, /handshake \d+ ms/);
    await page.locator('a[href^="#/connections/"]').filter({ hasText: 'See it among the connections' }).click();
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

  async 'the console connects to the node that is chosen, clears, shows what comes as it comes, and copies its command'() {
    const id = await endpoint(`${PATH}-console`);
    const nodes = await liveNodes();
    const page = await open('about:blank');
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write'], { origin: new URL(UI_URL).origin });
    await page.goto(`${UI_URL}/ui/#/console?endpoint=${id}`);
    for (const node of nodes.length > 1 ? nodes : []) {
      await button(page, node.name).click();
      assert.equal(await page.getByLabel('Address of clients').inputValue(), `ws://${clientsOf(node)}`);
      assert.equal(await button(page, node.name).getAttribute('aria-pressed'), 'true');
      await button(page, 'Connect').click();
      await see(page, /handshake \d+ ms/);
      const { items } = await api('GET', `/api/v1/connections?endpoint=${id}`);
      assert.deepEqual(items.map((each) => each.node), [node.name], 'it is there');
      const command = `wsgateway ws 'ws://${clientsOf(node)}${PATH}-console'`;
      await page.getByText(command).waitFor();
      await button(page, 'Copy').click();
      await button(page, 'Copied').waitFor();
      assert.equal(await page.evaluate(() => navigator.clipboard.readText()), command);
      await button(page, 'Close').click();
      await see(page, /Closed: 1000/);
      await button(page, 'Clear').click();
      await see(page, 'Nothing yet. Connect, and send a message.');
      assert.equal(await page.locator('article').count(), 0);
      assert.ok(await button(page, 'Clear').isDisabled());
      await button(page, 'Copy').waitFor();
    }
    await button(page, 'Connect').click();
    await see(page, /handshake \d+ ms/);
    const SENT = '{"n":1.50,  "b" : [ ]}';
    await page.getByLabel('Message', { exact: true }).fill(SENT);
    await button(page, 'Send').click();
    const came = page.locator('article.received');
    await came.getByText('1.50').waitFor();
    assert.notEqual(await came.innerText().then((text) => text.includes(SENT)), true, 'laid out');
    await page.getByLabel('As it comes').check();
    assert.equal(await came.locator('pre').innerText(), SENT, 'byte for byte');
    await page.getByLabel('As it comes').uncheck();
    assert.notEqual(await came.innerText().then((text) => text.includes(SENT)), true, 'laid out again');
  },
};
