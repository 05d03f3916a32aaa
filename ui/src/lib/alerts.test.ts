import { describe, expect, it } from 'vitest';
import { clusterAlerts, rolloutAlerts, trafficAlerts } from './alerts';
import { merge } from './stats';

type Cluster = Parameters<typeof clusterAlerts>[0];
const member = (name: string, more = {}) => ({
  nodeId: name, name, live: true, ready: true, role: 'voter', generation: 1, version: '1', clusterAddr: '', adminAddr: '', clientAddr: '', adminUrl: null, clientUrl: null, appliedIndex: 1, activeConnections: 0, ...more,
});
const cluster = (nodes: ReturnType<typeof member>[], leader: string | null = 'n1', voters = ['n1', 'n2']): Cluster => ({
  clusterId: 'c', node: 'n1', nodeId: 'n1', leader, term: 1, stateHash: '', stateIndex: 1, nodes,
  raft: { role: 'leader', lastLogIndex: 1, committedIndex: 1, appliedIndex: 1, snapshotIndex: null, voters, learners: [], millisSinceQuorumAck: 0 },
});
const ids = (alerts: { id: string }[]) => alerts.map((alert) => alert.id);

describe('alerts of the cluster', () => {
  it('are none when all is well', () => expect(clusterAlerts(cluster([member('n1'), member('n2')]))).toEqual([]));
  it('tell of no leader', () => expect(ids(clusterAlerts(cluster([member('n1'), member('n2')], null)))).toEqual(['leader']));
  it('tell of members that are gone, also of those that gossip has forgotten', () => {
    expect(ids(clusterAlerts(cluster([member('n1'), member('n2', { live: false })])))).toEqual(['gone-n2']);
    expect(ids(clusterAlerts(cluster([member('n1')])))).toEqual(['unheard-n2']);
  });
  it('do not tell of nodes that were removed', () => expect(clusterAlerts(cluster([member('n1'), member('n2'), member('old', { live: false })]))).toEqual([]));
});

describe('alerts of endpoints', () => {
  const rollout = (nodes: object[], complete = false) => ({ id: 'ep', path: '/a', rollout: { id: 'ep', activeVersion: 2, latestVersion: 2, index: 1, complete, down: [], nodes } as never });
  it('tell of an endpoint that is not served somewhere', () => {
    const [alert] = rolloutAlerts([rollout([{ node: 'n1', live: true, complete: true }, { node: 'n2', live: true, complete: false, degraded: 'no certificate' }])]);
    expect(alert).toMatchObject({ grade: 'red', detail: 'n2: no certificate' });
  });
  it('do not tell of nodes that are gone: those have an alert of their own', () => {
    expect(rolloutAlerts([rollout([{ node: 'n1', live: true, complete: true }, { node: 'n2', live: false, complete: false }])])).toEqual([]);
  });
});

it('alerts of traffic: errors above 5 %, and a node that is nearly full', () => {
  const window = (errors: number, open: number) =>
    merge(null, { range: '5m', stepSeconds: 1, nodes: [{ nodeId: 'n1', name: 'n1', reachable: true, from: 1000, connectionsMax: 100, samples: { connections: [open], eventsIn: [100], errors: { no_route: [errors] } } }] });
  expect(ids(trafficAlerts(window(5, 89)))).toEqual([]);
  expect(ids(trafficAlerts(window(6, 90)))).toEqual(['errors', 'full-n1']);
});
