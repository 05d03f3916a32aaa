// What is around every page: signing in, keys, colours, the connection to the node, and how soon the first page is there.
import assert from 'node:assert/strict';
import { ADMIN_TOKEN, api, button, endpoint, go, open, PATH, RUN, see } from '../rig.mjs';

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
};
