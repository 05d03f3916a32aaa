// The editor of an endpoint.
import assert from 'node:assert/strict';
import { api, button, echo, endpoint, go, open, PATH, see, write, written } from '../rig.mjs';

export default {
  async 'the editor marks what is wrong, completes, saves, and undoes'() {
    const id = await endpoint(`${PATH}-edit`);
    const page = await open(`#/endpoints/${id}?tab=edit`);
    await page.locator('.cm-content').waitFor();
    await write(page, echo(`${PATH}-edit`, '\n  "settings": {"maxInFlight": 0},\n  "rutes": 1,'));
    await see(page, 'must be 1–1024, is 0');
    await see(page, 'did you mean "routes"?');
    await page.locator('.cm-lintRange-error').nth(1).waitFor();
    const marked = await page.locator('.cm-lintRange-error').allInnerTexts();
    assert.deepEqual(marked, ['"maxInFlight": 0', '"rutes": 1'], 'the faults are marked where they stand');
    assert.ok(await button(page, 'Save and activate').isDisabled());
    // Completion by the schema.
    await write(page, '{"settings": {"outbox": {');
    await page.keyboard.press('Control+Space');
    await page.locator('.cm-completionLabel').getByText('whenFull').waitFor();
    await page.keyboard.press('Escape');
    // The form and the text are one.
    await write(page, echo(`${PATH}-edit`));
    await page.getByRole('spinbutton', { name: /^maxInFlight/ }).fill('32');
    await page.keyboard.press('Tab');
    await page.locator('.cm-line').filter({ hasText: '"maxInFlight": 32' }).waitFor();
    await page.getByText('What changes').waitFor();
    await page.getByLabel('Why (kept with the version)').fill('fewer at once');
    await page.locator('.cm-content').first().click();
    await page.keyboard.press('Control+Enter');
    await see(page, 'Version 2 is active');
    assert.equal((await api('GET', `/api/v1/endpoints/${id}`)).document.settings.maxInFlight, 32);
    await button(page, 'Undo').click();
    await see(page, 'Version 1 is active again');
    assert.equal((await api('GET', `/api/v1/endpoints/${id}`)).activeVersion, 1);
  },

  async 'somebody else’s change in between is a conflict, not lost'() {
    const id = await endpoint(`${PATH}-conflict`);
    const page = await open(`#/endpoints/${id}?tab=edit`);
    await page.locator('.cm-content').waitFor();
    await write(page, echo(`${PATH}-conflict`, '\n  "name": "mine",'));
    await page.getByText('What changes').waitFor();
    // The page must not hear of it before it saves.
    await page.route(`**/api/v1/endpoints/${id}`, (route) => (route.request().method() === 'GET' ? route.abort() : route.continue()));
    await api('PUT', `/api/v1/endpoints/${id}?message=in+between`, echo(`${PATH}-conflict`, '\n  "name": "theirs",'));
    await button(page, 'Save and activate').click();
    await page.waitForTimeout(500);
    assert.equal((await api('GET', `/api/v1/endpoints/${id}`)).document.name, 'theirs', 'If-Match keeps theirs');
    await page.unroute(`**/api/v1/endpoints/${id}`);
    await see(page, 'Version 2 is active now; you began from version 1.');
    await see(page, '“in between”');
    assert.match(await written(page), /"mine"/, 'what was written is kept');
    await button(page, 'Compare theirs with yours').click();
    await page.locator('.cm-mergeView').getByText('theirs').waitFor();
    await button(page, 'Keep mine, to save it over theirs').click();
    await button(page, 'Save and activate').click();
    await see(page, 'Version 3 is active');
    assert.equal((await api('GET', `/api/v1/endpoints/${id}`)).document.name, 'mine');
  },

  async 'unsaved work is asked about before it is left'() {
    const id = await endpoint(`${PATH}-leave`);
    const page = await open(`#/endpoints/${id}?tab=edit`);
    await page.locator('.cm-content').waitFor();
    await write(page, echo(`${PATH}-leave`, '\n  "name": "unsaved",'));
    // Another view of the same endpoint keeps it.
    await page.getByRole('link', { name: 'Rollout' }).click();
    await see(page, 'is served by');
    await page.getByRole('link', { name: 'Edit', exact: true }).click();
    await page.locator('.cm-content').getByText('unsaved').waitFor();
    let asked = '';
    page.once('dialog', (dialog) => {
      asked = dialog.message();
      void dialog.dismiss();
    });
    await page.getByRole('link', { name: 'Cluster' }).click();
    await page.waitForTimeout(300);
    assert.match(asked, /not saved/);
    assert.match(await page.evaluate(() => location.hash), new RegExp(id), 'the page is kept');
    page.once('dialog', (dialog) => void dialog.accept());
    await page.getByRole('link', { name: 'Cluster' }).click();
    await page.getByRole('heading', { name: 'Cluster' }).waitFor();
  },

  async 'a route is added by the form'() {
    const id = await endpoint(`${PATH}-add`);
    const page = await open(`#/endpoints/${id}?tab=edit`);
    await page.getByText('Add a route').click();
    assert.ok(await button(page, 'Put it into the document').isDisabled());
    await page.getByLabel('Name of the route').fill('to a service');
    await page.getByLabel('It takes events').selectOption('exists');
    await page.getByLabel('Field, as JSONPath').fill('$.amount');
    await page.getByLabel('They go to').selectOption('http');
    await page.getByLabel('URL').fill('http://127.0.0.1:9/');
    await button(page, 'Put it into the document').click();
    await page.locator('.cm-line').filter({ hasText: 'to a service' }).first().waitFor();
    await page.getByText('What changes').waitFor();
    await button(page, 'Save and activate').click();
    await see(page, 'Version 2 is active');
    const { document } = await api('GET', `/api/v1/endpoints/${id}`);
    assert.deepEqual(document.routes.at(-1).expression, { exists: { path: '$.amount' } });
  },
};
