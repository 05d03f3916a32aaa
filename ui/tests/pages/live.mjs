// The live page.
import assert from 'node:assert/strict';
import { button, endpoint, generator, hide, loaded, open, PATH, see, UI_URL } from '../rig.mjs';

export default {
  async 'live: what passes, its details, and where they lead'() {
    const page = await open(`#/live?endpoint=${loaded.id}`);
    const line = page.getByRole('grid').getByRole('row');
    await line.filter({ hasText: loaded.path }).filter({ hasText: 'load-buying' }).first().waitFor();
    await line.filter({ hasText: 'invalid_json' }).first().waitFor();
    // The list is of what is on screen only.
    await page.waitForFunction(() => Number(document.querySelector('[role=grid]').getAttribute('aria-rowcount')) > 100);
    assert.ok((await line.count()) < 60, 'rows that are not seen are not in the page');
    await button(page, 'Pause').click();
    await see(page, 'Paused');
    const top = await line.first().innerText();
    await page.getByRole('button', { name: /^↑ [\d,]+ newer/ }).waitFor();
    assert.equal(await line.first().innerText(), top, 'a paused list stands still');
    // By keyboard: the first, the next; the panel follows.
    await page.getByRole('grid').focus();
    await page.keyboard.press('ArrowDown');
    const panel = page.getByRole('complementary', { name: 'Details of the event' });
    await panel.waitFor();
    for (let more = 0; more < 200 && !(await panel.getByText('From the client: message').isVisible() && (await panel.getByText('load-buying').first().isVisible())); more++) await page.keyboard.press('ArrowDown');
    await panel.getByText('"buy"').waitFor();
    await panel.getByText(/‹\d+ chars›|‹number›/).first().waitFor();
    assert.equal(await panel.getByRole('link', { name: loaded.path }).getAttribute('href'), `#/endpoints/${loaded.id}`);
    const connection = await panel.locator('a.mono').innerText();
    await panel.getByRole('link', { name: 'Explain where it goes' }).click();
    await see(page, 'From the live page.');
    await see(page, /Taken by custom route “load-buying”/);
    await page.goBack();
    await button(page, 'Pause').waitFor();
    await line.filter({ hasText: 'load-buying' }).first().waitFor();
    // Only one connection, from the panel.
    await button(page, 'Pause').click();
    await line.filter({ hasText: 'load-buying' }).first().click();
    await panel.getByRole('button', { name: 'only these of this connection' }).click();
    await page.waitForFunction(() => /connection=/.test(location.hash));
    const asked = new URLSearchParams((await page.evaluate(() => location.hash)).split('?')[1]).get('connection');
    assert.equal(asked.length, connection.length);
    await button(page, 'Show everything').first().click();
    assert.ok(!(await page.evaluate(() => location.hash)).includes('connection='));
    assert.equal(await panel.count(), 0, 'other rows, no panel');
  },

  async 'live: filters, what is left out, scrolling, clearing, and a question that is refused'() {
    const page = await open(`#/live?endpoint=${loaded.id}&limit=10`);
    const line = page.getByRole('grid').getByRole('row');
    if (generator) await see(page, /[\d,]+ more left out/);
    await page.getByLabel('Outcome').fill('invalid_json');
    await page.keyboard.press('Enter');
    await line.filter({ hasText: 'invalid_json' }).first().waitFor();
    await page.waitForTimeout(500);
    assert.equal(await line.filter({ hasText: 'delivered' }).count(), 0, 'rows of before are not kept');
    await page.getByLabel('Outcome').fill('');
    await page.keyboard.press('Enter');
    await page.getByLabel('Direction').selectOption('out');
    await page.getByLabel('At most').selectOption('250');
    await line.filter({ hasText: '← out' }).first().waitFor();
    assert.equal(await line.filter({ hasText: '→ in' }).count(), 0);
    assert.match(await page.evaluate(() => location.hash), /direction=out/);
    assert.match(await page.evaluate(() => location.hash), /limit=250/);
    // Who has scrolled away keeps his place.
    await page.waitForFunction(() => Number(document.querySelector('[role=grid]').getAttribute('aria-rowcount')) > 60);
    await page.getByRole('grid').hover();
    await page.mouse.wheel(0, 500);
    const newer = page.getByRole('button', { name: /^↑ [\d,]+ newer/ });
    await newer.waitFor();
    const first = await line.first().innerText();
    await page.waitForTimeout(700);
    assert.equal(await line.first().innerText(), first);
    await newer.click();
    await page.waitForFunction(() => document.querySelector('[role=grid]').scrollTop === 0);
    await button(page, 'Clear').click();
    await page.getByLabel('User').fill('nobody-of-that-name');
    await page.keyboard.press('Enter');
    await see(page, 'Nothing has passed that fits');
    await page.getByLabel('Has, by JSONPath').fill('$[?');
    await page.keyboard.press('Enter');
    await page.getByRole('alert').getByText('400 invalid_query').waitFor();
    await button(page, 'Show everything').first().click();
    await page.getByText('Refused', { exact: true }).waitFor({ state: 'detached' });
    await see(page, 'Live');
  },

  async 'live: a stream that breaks off is opened again, and what was not heard is said'() {
    // Slowly, so that the row that says it is still on screen.
    const page = await open(`#/live?endpoint=${loaded.id}&limit=10`);
    const line = page.getByRole('grid').getByRole('row');
    await line.first().waitFor();
    await hide(page, true);
    await page.waitForTimeout(2500);
    await page.route('**/api/v1/live?*', (route) => route.abort());
    await hide(page, false);
    await see(page, /Broken off, tried again; as of \d+ s ago/);
    await page.unroute('**/api/v1/live?*');
    await line.filter({ hasText: /not heard for \d+ s/ }).first().waitFor({ state: 'attached' });
  },

  async 'live: it teaches while there is nothing, and says which node it cannot hear'() {
    const id = await endpoint(`${PATH}-silent`);
    const page = await open('about:blank');
    await page.route('**/api/v1/live?*', (route) =>
      route.fulfill({ contentType: 'text/event-stream', body: ': hello\n\nevent: unreachable\ndata: {"nodes": [{"node": "n9", "reason": "it does not answer"}]}\n\n' }),
    );
    await page.goto(`${UI_URL}/ui/#/live?endpoint=${id}`);
    await see(page, 'n9 cannot be heard, so its events are not here: it does not answer');
    await page.unroute('**/api/v1/live?*');
    await see(page, 'Nothing has passed that fits');
    await page.unroute('**/api/v1/live?*');
    await page.goto(`${UI_URL}/ui/#/live?user=nobody`);
    await button(page, 'Show everything').first().waitFor();
  },

  async 'live: a paused list goes on where it is resumed'() {
    const page = await open(`#/live?endpoint=${loaded.id}`);
    const line = page.getByRole('grid').getByRole('row');
    await line.nth(3).waitFor();
    await button(page, 'Pause').click();
    await see(page, 'Paused');
    const top = await line.first().innerText();
    await page.waitForTimeout(1000);
    assert.equal(await line.first().innerText(), top);
    await button(page, 'Resume').click();
    await page.getByText('Paused', { exact: true }).waitFor({ state: 'detached' });
    await page.waitForFunction((before) => document.querySelector('[role=grid] [role=row]').innerText !== before, top);
    await button(page, 'Pause').waitFor();
  },
};
