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

  async 'the editor formats and discards, and nothing of it is stored'() {
    const id = await endpoint(`${PATH}-format`);
    const page = await open(`#/endpoints/${id}?tab=edit`);
    await page.locator('.cm-content').waitFor();
    assert.ok(await button(page, 'Discard').isDisabled(), 'there is nothing to discard');
    await write(page, `{"path":"${PATH}-format","name":"n","routes":[{"type":"default","name":"d","backends":[{"type":"echo"}]}],"settings":{"maxInFlight":1.50}}`);
    await button(page, 'Format').click();
    await page.locator('.cm-line').filter({ hasText: /^ {2}"name": "n",$/ }).waitFor();
    // A number stays as it is written, also where it is wrong.
    await page.locator('.cm-line').filter({ hasText: /"maxInFlight": 1\.50/ }).waitFor();
    assert.equal((await page.locator('.cm-line').allInnerTexts())[0], '{');
    await write(page, '{"path": ');
    assert.ok(await button(page, 'Format').isDisabled(), 'what is no JSON cannot be formatted');
    await button(page, 'Discard').click();
    await page.locator('.cm-line').filter({ hasText: `"path": "${PATH}-format",` }).waitFor();
    assert.equal((await written(page)).replace(/\s+/g, ''), echo(`${PATH}-format`).replace(/\s+/g, ''), 'what was read is back');
    assert.ok(await button(page, 'Save and activate').isDisabled(), 'there is nothing to save');
    assert.equal(await page.getByText(/^Not saved/).count(), 0);
    assert.equal((await api('GET', `/api/v1/endpoints/${id}`)).latestVersion, 1);
  },

  async 'a version is saved without activating it, and activated later'() {
    const id = await endpoint(`${PATH}-later`);
    const page = await open(`#/endpoints/${id}?tab=edit`);
    await page.locator('.cm-content').waitFor();
    await write(page, echo(`${PATH}-later`, '\n  "name": "for later",'));
    await page.getByLabel('Activate now').uncheck();
    await page.getByLabel('Why (kept with the version)').fill('not yet');
    await button(page, 'Save without activating').click();
    await see(page, 'Version 2 is stored and not active');
    const stored = await api('GET', `/api/v1/endpoints/${id}`);
    assert.deepEqual([stored.activeVersion, stored.latestVersion, stored.document.name], [1, 2, undefined]);
    const version = await api('GET', `/api/v1/endpoints/${id}/versions/2`);
    assert.deepEqual([version.active, version.message, version.document.name], [false, 'not yet', 'for later']);
    await page.getByRole('link', { name: 'Versions' }).click();
    await page.getByRole('row').filter({ hasText: 'not yet' }).getByText('Not active').waitFor();
    await button(page, 'Activate version 2').click();
    await see(page, 'Version 2 is active');
    await page.getByRole('row').filter({ hasText: 'not yet' }).getByText('Active', { exact: true }).waitFor();
    const active = await api('GET', `/api/v1/endpoints/${id}`);
    assert.deepEqual([active.activeVersion, active.document.name], [2, 'for later']);
  },

  async 'on a conflict one can take theirs, and go on from there'() {
    const id = await endpoint(`${PATH}-theirs`);
    const page = await open(`#/endpoints/${id}?tab=edit`);
    await page.locator('.cm-content').waitFor();
    await write(page, echo(`${PATH}-theirs`, '\n  "name": "mine",'));
    await api('PUT', `/api/v1/endpoints/${id}?message=in+between`, echo(`${PATH}-theirs`, '\n  "name": "theirs",'));
    await see(page, 'Version 2 is active now; you began from version 1.');
    assert.ok(await button(page, 'Save and activate').isDisabled(), 'it must be decided first');
    await button(page, 'Take theirs, drop mine').click();
    await page.locator('.cm-line').filter({ hasText: '"name": "theirs"' }).waitFor();
    assert.doesNotMatch(await written(page), /mine/);
    assert.equal(await page.getByRole('alert').count(), 0, 'the conflict is over');
    assert.equal((await api('GET', `/api/v1/endpoints/${id}`)).latestVersion, 2, 'nothing was saved');
    await write(page, echo(`${PATH}-theirs`, '\n  "name": "upon theirs",'));
    await button(page, 'Save and activate').click();
    await see(page, 'Version 3 is active');
    assert.equal((await api('GET', `/api/v1/endpoints/${id}`)).document.name, 'upon theirs');
  },
};
