// Connections, and one of them.
import assert from 'node:assert/strict';
import { button, endpoint, go, open, PATH, see } from '../rig.mjs';

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
};
