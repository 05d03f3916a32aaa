import { describe, expect, it } from 'vitest';
import { errorShare, histogram, merge, ofLive, since, times, total, type NodeAnswer, type StatsAnswer } from './stats';

const node = (name: string, from: number, connections: (number | null)[], more: Partial<NodeAnswer> = {}): NodeAnswer => ({
  nodeId: name,
  name,
  reachable: true,
  from,
  samples: { connections },
  ...more,
});
const answer = (...nodes: NodeAnswer[]): StatsAnswer => ({ range: '5m', stepSeconds: 1, nodes });

describe('a window of samples', () => {
  it('has the whole range, with gaps for what is not known', () => {
    const window = merge(null, answer(node('n1', 1000, [1, 2, null, 4])));
    expect(window.length).toBe(300);
    expect(times(window).at(-1)).toBe(1003);
    expect(window.nodes[0]!.series.connections.slice(-5)).toEqual([null, 1, 2, null, 4]);
  });
  it('moves on when a tail comes, and the tail wins', () => {
    const first = merge(null, answer(node('n1', 1000, [1, 2, 3])));
    expect(since(first)).toBe(1002);
    const second = merge(first, answer(node('n1', 1002, [30, 4])));
    expect(times(second).at(-1)).toBe(1003);
    expect(second.nodes[0]!.series.connections.slice(-4)).toEqual([1, 2, 30, 4]);
  });
  it('begins anew with another range', () => {
    const first = merge(null, answer(node('n1', 1000, [1])));
    const second = merge(first, { range: '1h', stepSeconds: 10, nodes: [node('n1', 1000, [5])] });
    expect(second.length).toBe(360);
    expect(second.nodes[0]!.series.connections.filter((value) => value !== null)).toEqual([5]);
  });
  it('asks from where the slowest reachable node ends', () => {
    expect(since(merge(null, answer(node('n1', 1000, [1, 2, 3]), node('n2', 1000, [1]))))).toBe(1000);
    expect(since(merge(null, answer(node('n1', 1000, [1, 2, 3]), node('n2', 1000, [1], { reachable: false }))))).toBe(1002);
  });
});

describe('totals', () => {
  const of = (...nodes: NodeAnswer[]) => total(merge(null, answer(...nodes)), (each) => each.series.connections).slice(-3);
  it('are gaps where a reachable node has a gap', () => {
    expect(of(node('n1', 1000, [1, 1, 1]), node('n2', 1000, [2, null, 2]))).toEqual([3, null, 3]);
  });
  it('a maximum does without a node that had nothing to measure, but not without one whose samples are missing', () => {
    const of = (connections: (number | null)[]) => merge(null, answer(node('n1', 1000, [1, 1], { samples: { connections: [1, 1], backendP99Millis: [5, 5] } }), node('n2', 999, [], { samples: { connections: [1, ...connections], backendP99Millis: [9, 9, null] } })));
    const max = (connections: (number | null)[]) => total(of(connections), (each) => each.series.backendP99Millis, 'max').slice(-2);
    expect(max([1, 1])).toEqual([9, 5]);
    expect(max([1, null])).toEqual([9, null]);
  });
  it('take a node that did not answer as it is: without samples', () => {
    const window = merge(null, answer(node('n1', 1000, [1, 2]), { nodeId: 'n2', name: 'n2', reachable: false, from: 0 }));
    expect(total(window, (each) => each.series.connections).slice(-2)).toEqual([1, 2]);
    expect(since(merge(null, answer({ nodeId: 'n2', name: 'n2', reachable: false, from: 0 })))).toBe(0);
  });
  it('do without a node before its first sample, and without one that is gone', () => {
    expect(of(node('n1', 1000, [1, 1, 1]), node('n2', 1002, [2]))).toEqual([1, 1, 3]);
    expect(of(node('n1', 1000, [1, 1, 1]), node('n2', 1000, [2], { reachable: false }))).toEqual([3, 1, 1]);
  });
});

it('the share of errors is that of the last minute, and names the worst code', () => {
  const samples = { connections: new Array(100).fill(1), eventsIn: new Array(100).fill(10), errors: { handshake_refused: new Array(100).fill(50), no_route: new Array(100).fill(1), delivery_failed: [...new Array(40).fill(9), ...new Array(60).fill(0)] } };
  expect(errorShare(merge(null, answer(node('n1', 1000, [], { samples }))))).toEqual({ share: 0.1, worst: 'no_route' });
  expect(errorShare(merge(null, answer(node('n1', 1000, [1]))))).toBeNull();
});

describe('the live stream', () => {
  it('lays a second over the window, and keeps what only a reading says', () => {
    const read = merge(null, answer(node('n1', 1000, [1, 2], { connectionsMax: 9, latency: { boundsMillis: [1], counts: [3, 1] }, samples: { connections: [1, 2], errors: { throttled: [1, 2] } } })));
    const window = merge(read, ofLive({ at: 1002, nodes: [{ nodeId: 'n1', name: 'n1', reachable: true, connections: 3, errors: { no_route: 1 } }] }));
    expect(times(window).at(-1)).toBe(1002);
    expect(window.nodes[0]!.series.connections.slice(-3)).toEqual([1, 2, 3]);
    expect(window.nodes[0]!.errors).toMatchObject({ throttled: expect.arrayContaining([1, 2, 0]), no_route: expect.arrayContaining([0, 1]) });
    expect([window.nodes[0]!.connectionsMax, window.nodes[0]!.latency?.counts]).toEqual([9, [3, 1]]);
  });
  it('a node that is not heard has a gap', () => {
    const window = merge(merge(null, answer(node('n1', 1000, [1, 2]))), ofLive({ at: 1002, nodes: [{ nodeId: 'n1', name: 'n1', reachable: false }, { nodeId: 'n2', name: 'n2', reachable: true, connections: 5 }] }));
    expect(window.nodes[0]!.series.connections.slice(-3)).toEqual([1, 2, null]);
    expect(total(window, (each) => each.series.connections).slice(-1)).toEqual([5]);
  });
});

it('the buckets of all nodes are added up, and the percentiles fall into one each', () => {
  const latency = (counts: number[]) => ({ latency: { boundsMillis: [1, 2, 5, 10], counts } });
  const window = merge(null, answer(node('n1', 1000, [1], latency([0, 60, 30, 0, 0])), node('n2', 1000, [1], latency([0, 0, 8, 2, 0])), node('n3', 1000, [1], { latency: { boundsMillis: [7], counts: [5, 5] } })));
  const found = histogram(window)!;
  expect(found.count).toBe(100);
  expect(found.bars.map((bar) => [bar.label, bar.count, bar.marks.join()])).toEqual([['≤ 1 ms', 0, ''], ['≤ 2 ms', 60, 'p50'], ['≤ 5 ms', 38, ''], ['≤ 10 ms', 2, 'p99'], ['> 10 ms', 0, '']]);
  expect(histogram(merge(null, answer(node('n1', 1000, [1]))))).toBeNull();
});
