// The cluster: who is there, a backup, and nodes that leave. Ends with one node less.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { api, button, DRAIN_NODE, open, see } from '../rig.mjs';

export default {
  async 'the cluster, a backup, and what draining would do'() {
    const page = await open('#/cluster');
    const { nodes } = await api('GET', '/api/v1/cluster');
    for (const node of nodes) await page.getByRole('row').filter({ hasText: node.nodeId }).getByText(node.live ? 'Ready' : 'Gone').waitFor();
    const [download] = await Promise.all([page.waitForEvent('download'), button(page, 'Download a backup').click()]);
    assert.match(download.suggestedFilename(), /^wsgateway-backup-.*\.ndjson$/);
    for (const line of readFileSync(await download.path(), 'utf8').trim().split('\n')) JSON.parse(line);
    const victim = DRAIN_NODE ?? nodes.at(-1).name;
    for (const act of ['Remove', 'Drain']) {
      await button(page, `${act} ${victim}`).click();
      const dialog = page.getByRole('dialog');
      await dialog.getByText(act === 'Drain' ? /This closes .* with 1012/ : /out of the cluster for good|removed for good/).waitFor();
      const sure = dialog.getByRole('button', { name: `${act} ${victim}` });
      assert.ok(await sure.isDisabled(), 'the name must be typed');
      await dialog.getByLabel(/^Type/).fill(victim);
      assert.ok(await sure.isEnabled());
      if (act === 'Drain' && DRAIN_NODE) {
        await sure.click();
        await see(page, `${victim} leaves`);
      } else await page.keyboard.press('Escape');
      await dialog.waitFor({ state: 'detached' });
    }
  },
};
