// What an operator must know before anything else, computed from what the API says.
import type { components } from '../api/schema';
import { sideWords } from './faults';
import { count, percent, plural } from './format';
import { errorShare, newest, type Window } from './stats';

type Cluster = components['schemas']['Cluster'];
type Rollout = components['schemas']['Rollout'];

export interface Alert {
  id: string;
  grade: 'red' | 'amber';
  text: string;
  detail: string;
  /** The page that says more. */
  href: string;
}

export const ERROR_SHARE_MAX = 0.05;
export const CONNECTIONS_SHARE_MAX = 0.9;

export function clusterAlerts(cluster: Cluster): Alert[] {
  const alerts: Alert[] = [];
  if (!cluster.leader) {
    alerts.push({ id: 'leader', grade: 'red', text: 'No leader', detail: `${cluster.node} knows of none: nothing can be changed, traffic goes on.`, href: '#/cluster' });
  }
  const members = new Set([...cluster.raft.voters, ...cluster.raft.learners]);
  const known = new Set(cluster.nodes.map((node) => node.nodeId));
  for (const node of cluster.nodes) {
    // Gossip lists nodes that were removed for a day; they are nobody's trouble any more.
    if (!members.has(node.nodeId) && !node.live) continue;
    if (!node.live) alerts.push({ id: `gone-${node.nodeId}`, grade: 'red', text: `Node ${node.name} is gone`, detail: 'Gossip does not hear of it.', href: '#/cluster' });
    else if (!node.ready) alerts.push({ id: `unready-${node.nodeId}`, grade: 'amber', text: `Node ${node.name} is not ready`, detail: 'It starts, or it leaves.', href: '#/cluster' });
  }
  for (const id of members) {
    if (!known.has(id)) alerts.push({ id: `unheard-${id}`, grade: 'red', text: `Node ${id} is gone`, detail: 'It is a member, and gossip has not heard of it.', href: '#/cluster' });
  }
  const versions = new Set(cluster.nodes.filter((node) => node.live).map((node) => node.version));
  if (versions.size > 1) {
    alerts.push({ id: 'versions', grade: 'amber', text: 'Nodes run different versions', detail: [...versions].sort().join(', '), href: '#/cluster' });
  }
  return alerts;
}

export function rolloutAlerts(rollouts: { id: string; path: string; rollout: Rollout }[]): Alert[] {
  return rollouts.flatMap(({ id, path, rollout }) => {
    if (rollout.activeVersion === null || rollout.activeVersion === undefined || rollout.complete) return [];
    const behind = rollout.nodes.filter((node) => node.live && !node.complete);
    if (behind.length === 0) return [];
    const why = behind.map((node) => `${node.node ?? node.nodeId}: ${node.degraded ?? node.unreachable ?? 'behind'}`).join('; ');
    const degraded = behind.some((node) => node.degraded);
    const text = `${path} is not served in version ${rollout.activeVersion} on ${plural(behind.length, 'node')}`;
    return [{ id: `rollout-${id}`, grade: degraded ? 'red' : 'amber', text, detail: why, href: `#/endpoints/${id}?tab=rollout` } satisfies Alert];
  });
}

export function trafficAlerts(window: Window): Alert[] {
  const alerts: Alert[] = [];
  // Only the finest range has a last minute of its own.
  const errors = window.range === '5m' ? errorShare(window) : null;
  if (errors && errors.share > ERROR_SHARE_MAX) {
    const side = sideWords(errors.worst);
    const detail = `Most are ${errors.worst}${side && `: ${side}`}.`;
    alerts.push({ id: 'errors', grade: 'red', text: `${percent(errors.share)} of the events of the last minute ended in an error`, detail, href: '#/?chart=errors' });
  }
  for (const node of window.nodes) {
    const open = newest(node.series.connections);
    if (!node.connectionsMax || open === null || open < node.connectionsMax * CONNECTIONS_SHARE_MAX) continue;
    const detail = `${count(open)} of ${count(node.connectionsMax)}; then it answers 503.`;
    alerts.push({ id: `full-${node.nodeId}`, grade: 'amber', text: `${node.name} nearly has all the connections it takes`, detail, href: '#/connections' });
  }
  return alerts;
}
