import { describe, expect, it } from 'vitest';
import { clusterAlerts, endpointAlerts, ownAlerts, rolloutAlerts, silentAlerts, trafficAlerts, unknown, withoutFigures } from './alerts';
import { span } from './format';
import { merge, type Samples } from './stats';

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
  it('tell of a node that is behind in the log, when it stays so', () => {
    const behind = { ...cluster([member('n1', { appliedIndex: 100 }), member('n2', { appliedIndex: 49 })]) };
    behind.raft.committedIndex = 100;
    expect(clusterAlerts(behind)).toMatchObject([{ id: 'behind-n2', detail: expect.stringContaining('51 entries') as unknown, patienceMillis: 15_000 }]);
    behind.nodes[1]!.appliedIndex = 50;
    expect(clusterAlerts(behind)).toEqual([]);
  });
  it('tell of nodes that start or leave, and of different versions', () => {
    expect(ids(clusterAlerts(cluster([member('n1'), member('n2', { ready: false, version: '2' })])))).toEqual(['unready-n2', 'versions']);
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

describe('alerts of figures', () => {
  const BEGIN = 1_800_000_000;
  /** One node of which the samples are made from their place in the 300 seconds. */
  const window = (of: Record<string, (place: number) => number | null>, errors: Record<string, (place: number) => number> = {}, length = 300) => {
    const all = <T>(make: (place: number) => T) => Array.from({ length }, (_, place) => make(300 - length + place));
    const makers: typeof of = { connections: () => 1, eventsIn: () => 10, opened: () => 0, throttled: () => 0, ...of };
    const samples = Object.fromEntries(Object.entries(makers).map(([name, make]) => [name, all(make)])) as Record<string, Samples>;
    const codes = Object.fromEntries(Object.entries(errors).map(([code, make]) => [code, all(make)]));
    return merge(null, { range: '5m', stepSeconds: 1, nodes: [{ nodeId: 'n1', name: 'n1', reachable: true, from: BEGIN + 300 - length, connectionsMax: 100, samples: { ...samples, errors: codes } }] });
  };
  const since = (...of: Parameters<typeof window>) => trafficAlerts(window(...of)).map(({ id, since }) => [id, since && (since.at / 1000 - BEGIN), since?.atLeast]);

  it('are none when all is well, and at the limit', () => {
    expect(trafficAlerts(window({}))).toEqual([]);
    expect(ids(trafficAlerts(window({ connections: () => 89 }, { no_route: (place) => (place % 2 ? 1 : 0) })))).toEqual([]);
  });
  it('tell of errors since their share was crossed, and that they were there before the figures begin', () => {
    // A minute of 600 events has more than 5 % of errors with the fourth second in which all fail.
    expect(since({}, { delivery_failed: (place) => (place >= 200 ? 10 : 0) })).toEqual([['errors', 203, false]]);
    expect(since({}, { delivery_failed: () => 10 })).toEqual([['errors', 0, true]]);
    // A node that runs for two minutes only.
    expect(since({}, { delivery_failed: () => 10 }, 120)).toEqual([['errors', 180, true]]);
    expect(trafficAlerts(window({}, { delivery_failed: () => 10 }))[0]).toMatchObject({ grade: 'red', text: '100 % of the events of the last minute ended in an error', detail: 'Most are delivery_failed: a backend does not take it.' });
  });
  it('begin anew when it was well in between', () => {
    expect(since({}, { no_route: (place) => (place < 100 || place >= 250 ? 10 : 0) })).toEqual([['errors', 253, false]]);
  });
  it('are not ended by seconds without an event, nor begun by the noise of the first', () => {
    expect(since({ eventsIn: (place) => (place >= 100 && place < 200 ? 0 : 10) }, { no_route: (place) => (place >= 100 && place < 200 ? 0 : 10) })).toEqual([['errors', 0, true]]);
    expect(since({ eventsIn: () => 1 }, { no_route: (place) => (place % 10 === 5 ? 1 : 0) })).toEqual([['errors', 5, true]]);
  });
  it('do not take refused handshakes for events, and tell of them on their own', () => {
    const refused = (place: number) => (place >= 240 ? 1 : 0);
    // More than half a second of each of the last 60, and a quarter of all.
    expect(since({ opened: () => 1 }, { handshake_refused: refused })).toEqual([['handshakes', 270, false]]);
    expect(since({ opened: () => 9 }, { handshake_refused: refused })).toEqual([]);
  });
  it('tell of throttling above one a second', () => {
    expect(since({ throttled: () => 1 })).toEqual([]);
    expect(since({ throttled: (place) => (place >= 230 ? 2 : 0) })).toEqual([['throttled', 260, false]]);
  });
  it('tell of a node that is nearly full', () => {
    expect(since({ connections: (place) => (place >= 120 ? 90 : 89) })).toEqual([['full-n1', 120, false]]);
  });
});

describe('alerts of endpoints', () => {
  const item = (path: string, eventsInPerSecond: number, failing: number) => ({
    endpointId: path, path, served: { complete: 1, of: 1, degraded: 0 }, connections: 1, openedPerSecond: 0, closedPerSecond: 0, eventsInPerSecond, eventsOutPerSecond: 0, errorsPerSecond: failing, throttledPerSecond: 0,
    routes: [{ route: 'x', type: 'custom', eventsPerSecond: eventsInPerSecond, errors: { no_route: failing / 4, delivery_failed: (failing * 3) / 4 }, backends: [] }],
  });
  it('name those of which most events fail, however busy the others are', () => {
    expect(endpointAlerts([item('/busy', 1000, 10), item('/pay', 2, 2), item('/half', 4, 1.9), item('/rare', 0.2, 0.2), item('/silent', 0, 0)])).toMatchObject([
      { id: 'failing-/pay', grade: 'red', text: '100 % of the events of /pay fail', detail: 'Most are delivery_failed: a backend does not take it.', href: '#/endpoints//pay?tab=routes' },
    ]);
  });
  it('are the five worst, and one for the others', () => {
    const all = endpointAlerts(Array.from({ length: 8 }, (_, which) => item(`/${which}`, 1 + which, 1 + which)));
    expect(ids(all)).toEqual(['failing-/7', 'failing-/6', 'failing-/5', 'failing-/4', 'failing-/3', 'failing-more']);
    expect(all[5]).toMatchObject({ text: 'Most events of 3 more endpoints fail' });
  });
});

describe('alerts of what does not answer', () => {
  it('tell of each node once, and not of those that are gone', () => {
    const silent = [{ node: 'n2', reason: 'no answer within 1 s' }, { node: 'n2', reason: 'no answer within 1 s' }, { node: 'n3', reason: null }];
    expect(silentAlerts(silent, new Set(['n3']))).toMatchObject([{ id: 'silent-n2', detail: 'What it does is not known: no answer within 1 s' }]);
  });
});

describe('alerts of the node that is asked', () => {
  const well = { diskFull: false, diskFreeBytes: 1e9, circuitsOpen: [], letters: [] };
  const of = (more: object) => ownAlerts('n1', { ...well, ...more }, () => '/shop').map(({ grade, text }) => [grade, text]);
  it('are none when all is well', () => expect(of({})).toEqual([]));
  it('tell of its disk', () => {
    expect(of({ diskFull: true, diskFreeBytes: 1000 })).toEqual([['red', 'The disk of n1 is full']]);
    expect(of({ diskFreeBytes: 5e8 })).toEqual([['amber', 'The disk of n1 is nearly full']]);
  });
  it('tell of open circuit breakers, and of dead letters that are kept or lost', () => {
    expect(of({ circuitsOpen: [{ endpoint: 'ep', backend: 'custom/a/0' }] })).toEqual([['red', 'The circuit breaker of custom/a/0 of /shop is open on n1']]);
    const letters = [{ endpoint: 'ep', route: 'a', outcome: 'kept', fresh: 2 }, { endpoint: 'ep', route: 'a', outcome: 'timeout', fresh: 1 }];
    expect(of({ letters })).toEqual([['amber', '2 events of /shop became dead letters on n1'], ['red', '1 dead letter of /shop could not be kept on n1']]);
  });
});

describe('what is not known', () => {
  const ask = (at: number | null, error: unknown = null) => unknown('Whether', { at, error }, 100_000, 15_000, span);
  it('is nothing while it is asked for the first time, and with a fresh answer', () => expect([ask(null), ask(90_000)]).toEqual([null, null]));
  it('is what could not be asked, in the words of the one who said no', () => {
    expect(ask(null, new Error('no figures'))).toEqual({ what: 'Whether', why: 'no figures' });
    expect(ask(95_000, new Error('no figures'))).toEqual({ what: 'Whether', why: 'no figures' });
  });
  it('is what is old', () => {
    expect(ask(80_000)?.why).toBe('the last answer is 20 s old');
    expect(ask(80_000, new Error('no figures'))?.why).toBe('the last answer is 20 s old; no figures');
  });
  it('is what no node has figures of', () => {
    const node = (more: object) => merge(null, { range: '5m', stepSeconds: 1, nodes: [{ nodeId: 'n1', name: 'n1', reachable: true, from: 1000, samples: { connections: [1] }, ...more }] });
    expect(withoutFigures(node({}))).toBe(null);
    expect(withoutFigures(node({ samples: { connections: [] } }))).toBe('the nodes have none yet');
    expect(withoutFigures(node({ reachable: false, samples: {}, reason: 'it hangs' }))).toBe('no node answers: it hangs');
    expect(withoutFigures(merge(null, { range: '5m', stepSeconds: 1, nodes: [] }))).toBe('no node is known');
  });
});
