// The console.
import assert from 'node:assert/strict';
import { button, endpoint, open, PATH, see } from '../rig.mjs';

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
};
