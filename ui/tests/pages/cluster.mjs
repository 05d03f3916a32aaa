// The cluster: who is there, a backup, and a node that leaves. Ends with one node less.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { load } from '../load.mjs';
import { api, button, clientsOf, DRAIN_NODE, endpoint, liveNodes, open, PATH, see, until } from '../rig.mjs';

export default {
  async 'the cluster, a backup, and what draining would do'() {
    const page = await open('#/cluster');
    const { nodes } = await api('GET', '/api/v1/cluster');
    for (const node of nodes) await page.getByRole('row').filter({ hasText: node.nodeId }).getByText(node.live ? 'Ready' : 'Gone').waitFor();
    const [download] = await Promise.all([page.waitForEvent('download'), button(page, 'Download a backup').click()]);
    assert.match(download.suggestedFilename(), /^wsgateway-backup-.*\.ndjson$/);
    for (const line of readFileSync(await download.path(), 'utf8').trim().split('\n')) JSON.parse(line);
    const victim = nodes.filter((node) => node.live).at(-1).name;
    for (const act of ['Remove', 'Drain']) {
      await button(page, `${act} ${victim}`).click();
      const dialog = page.getByRole('dialog');
      await dialog.getByText(act === 'Drain' ? /This closes .* with 1012/ : /out of the cluster for good|removed for good/).waitFor();
      const sure = dialog.getByRole('button', { name: `${act} ${victim}` });
      assert.ok(await sure.isDisabled(), 'the name must be typed');
      await dialog.getByLabel(/^Type/).fill(victim);
      assert.ok(await sure.isEnabled());
      await page.keyboard.press('Escape');
      await dialog.waitFor({ state: 'detached' });
    }
  },

  async 'a node is drained, loses its clients and takes no more, and is removed for good; the others go on'() {
    if (!DRAIN_NODE) return console.log('      no node may be drained: there is no DRAIN_NODE');
    const before = await liveNodes();
    const victim = before.find((node) => node.name === DRAIN_NODE);
    const path = `${PATH}-drained`;
    const id = await endpoint(path);
    const client = await open(`#/console?endpoint=${id}`);
    await button(client, victim.name).click();
    await button(client, 'Connect').click();
    await see(client, /handshake \d+ ms/);
    const page = await open('#/cluster');
    const row = page.getByRole('row').filter({ hasText: victim.nodeId });
    await row.getByText('Ready', { exact: true }).waitFor();
    const act = async (name) => {
      await button(page, `${name} ${victim.name}`).click();
      const dialog = page.getByRole('dialog');
      await dialog.getByLabel('Why (for the audit log)').fill('its machine goes');
      await dialog.getByLabel(/^Type/).fill(victim.name);
      await dialog.getByRole('button', { name: `${name} ${victim.name}` }).click();
      await dialog.waitFor({ state: 'detached' });
    };

    await act('Drain');
    await see(page, `${victim.name} leaves`);
    await client.getByText(/Closed: 1012 “node restarting, reconnect”/).waitFor({ timeout: 30_000 });
    await row.getByText(/Not ready|Gone/).waitFor();
    await row.getByText('Gone', { exact: true }).waitFor({ timeout: 60_000 });
    await assert.rejects(load(clientsOf(victim), path, { connections: 1, perSecond: 0 }), 'it takes no client any more');
    assert.equal(await button(page, `Drain ${victim.name}`).count(), 0, 'one that is gone cannot be drained');
    await page.getByRole('status').getByText(`Node ${victim.name} is gone`).waitFor();
    const done = async (method, route) => (await api('GET', `/api/v1/audit?target=${victim.nodeId}`)).items.find((entry) => entry.method === method && entry.route.endsWith(route));
    assert.equal((await done('POST', '/drain')).message, 'its machine goes');

    const stays = await api('GET', '/api/v1/cluster');
    assert.ok([...stays.raft.voters, ...stays.raft.learners].includes(victim.nodeId), 'who is drained stays a member');
    await act('Remove');
    await see(page, `${victim.name} is removed`);
    const after = await until('another node has its vote', async () => {
      const now = await api('GET', '/api/v1/cluster');
      return ![...now.raft.voters, ...now.raft.learners].includes(victim.nodeId) && now;
    }, 30);
    assert.equal((await done('DELETE', '/nodes/{id}')).message, 'its machine goes');
    await page.getByRole('status').getByText(`Node ${victim.name} is gone`).waitFor({ state: 'detached' });

    // The others are well, lead, and serve what is new.
    const others = before.filter((node) => node.name !== victim.name).map((node) => node.name).sort();
    assert.deepEqual(after.nodes.filter((node) => node.live && node.ready).map((node) => node.name).sort(), others);
    assert.ok(after.raft.voters.includes(after.leader));
    await api('PUT', `/api/v1/endpoints/${id}`, { path, name: 'after it', routes: [{ type: 'default', name: 'd', backends: [{ type: 'echo' }] }] });
    const rollout = await api('GET', `/api/v1/endpoints/${id}/rollout?wait=all`);
    assert.deepEqual([rollout.complete, rollout.nodes.map((node) => node.node).sort(), rollout.down], [true, others, []]);

    // With three voters and nobody else, each is needed; the dialog says it in the server's words.
    if (after.raft.voters.length !== 3 || others.length !== 3) return;
    const needed = after.nodes.find((node) => node.live && node.nodeId !== after.nodeId && node.nodeId !== after.leader);
    await button(page, `Remove ${needed.name}`).click();
    await page.getByRole('dialog').getByLabel(/^Type/).fill(needed.name);
    await page.getByRole('dialog').getByRole('button', { name: `Remove ${needed.name}` }).click();
    await page.getByRole('dialog').getByText('409 node_needed').waitFor();
    await page.keyboard.press('Escape');
    assert.deepEqual((await liveNodes()).map((node) => node.name).sort(), others);
  },
};
