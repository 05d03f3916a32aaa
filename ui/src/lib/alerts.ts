// What an operator must know before anything else, computed from what the API says: what is wrong, since when where the
// figures go back that far, and what cannot be said at all.
import type { components } from '../api/schema';
import { sideWords } from './faults';
import { bytes, count, percent, plural, rate } from './format';
import type { Own } from './metrics';
import { errorShare, errorShares, heldSince, lastMinute, newest, refusedHandshakes, type Since, type Window } from './stats';

type Cluster = components['schemas']['Cluster'];
type EndpointTraffic = components['schemas']['EndpointTraffic'];
type Rollout = components['schemas']['Rollout'];

export interface Alert {
  id: string;
  grade: 'red' | 'amber';
  text: string;
  detail: string;
  /** The page that says more. */
  href: string;
  /** By the figures. Where there are none for it, the page can only say for how long it has seen it. */
  since?: Since | null;
  /** What may be over in a moment is not said before it was seen for so long. */
  patienceMillis?: number;
}

/** Something that alerts are made of and that is not there. */
export interface Unknown {
  /** "Whether events fail": it "is not known". */
  what: string;
  why: string;
}

export const ERROR_SHARE_MAX = 0.05;
export const CONNECTIONS_SHARE_MAX = 0.9;
// These are those of deploy/prometheus/alerts.yaml.
const THROTTLED_PER_SECOND_MAX = 1;
const HANDSHAKES_SHARE_MAX = 0.25;
const HANDSHAKES_PER_SECOND_MAX = 0.5;
const LOG_BEHIND_MAX = 50;
const DISK_LOW_BYTES = 512 * 1024 * 1024;
/** Log indexes of other nodes are some seconds old. */
const LOG_PATIENCE_MILLIS = 15_000;
/** Of an endpoint's events, within ten seconds: most, of three or more. */
const FAILING_SHARE_MIN = 0.5;
const FAILING_PER_SECOND_MIN = 0.3;
const FAILING_SHOWN_MAX = 5;
/** Longer than the time that its rates are made of: a burst that is over is no alert. */
const FAILING_PATIENCE_MILLIS = 12_000;
/** Gossip needs some seconds to say that a node is gone. */
const GONE_PATIENCE_MILLIS = 15_000;
/** Figures come each second, and the whole is read every ten. */
export const FIGURES_OLD_MILLIS = 15_000;

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
  const furthest = Math.max(cluster.raft.committedIndex ?? 0, ...cluster.nodes.map((node) => node.appliedIndex));
  for (const node of cluster.nodes) {
    const behind = furthest - node.appliedIndex;
    if (!node.live || !members.has(node.nodeId) || behind <= LOG_BEHIND_MAX) continue;
    const detail = `${count(behind)} entries: it serves older versions of what was changed.`;
    alerts.push({ id: `behind-${node.nodeId}`, grade: 'amber', text: `Node ${node.name} is behind in the log`, detail, href: '#/cluster', patienceMillis: LOG_PATIENCE_MILLIS });
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
    // A node that has just gone is one alert, not one for each endpoint: until gossip says it, they all lack it.
    return [{ id: `rollout-${id}`, grade: degraded ? 'red' : 'amber', text, detail: why, href: `#/endpoints/${id}?tab=rollout`, patienceMillis: degraded ? 0 : GONE_PATIENCE_MILLIS } satisfies Alert];
  });
}

/** Endpoints of which most events fail, the worst first: among the traffic of all others they would not be noticed. */
export function endpointAlerts(items: EndpointTraffic[]): Alert[] {
  const failing = items
    .map((item) => ({ item, share: Math.min(1, item.errorsPerSecond / item.eventsInPerSecond) }))
    .filter(({ item, share }) => item.eventsInPerSecond >= FAILING_PER_SECOND_MIN && share >= FAILING_SHARE_MIN)
    .toSorted((x, y) => y.item.errorsPerSecond - x.item.errorsPerSecond);
  const alerts = failing.slice(0, FAILING_SHOWN_MAX).map(({ item, share }): Alert => {
    const codes = item.routes.flatMap((route) => Object.entries(route.errors)).toSorted((x, y) => y[1] - x[1]);
    const worst = codes[0]?.[0];
    const side = worst === undefined ? '' : sideWords(worst);
    const detail = worst === undefined ? '' : `Most are ${worst}${side && `: ${side}`}.`;
    return { id: `failing-${item.endpointId}`, grade: 'red', text: `${percent(share)} of the events of ${item.path} fail`, detail, href: `#/endpoints/${item.endpointId}?tab=routes`, patienceMillis: FAILING_PATIENCE_MILLIS };
  });
  const more = failing.length - alerts.length;
  if (more > 0) alerts.push({ id: 'failing-more', grade: 'red', text: `Most events of ${plural(more, 'more endpoint')} fail`, detail: 'Sorted by errors, the list of endpoints has them first.', href: '#/endpoints?sort=errors', patienceMillis: FAILING_PATIENCE_MILLIS });
  return alerts;
}

/** Of the window of 5 minutes: only that has a last minute of its own. */
export function trafficAlerts(window: Window): Alert[] {
  const alerts: Alert[] = [];
  const errors = errorShare(window);
  if (errors && errors.share > ERROR_SHARE_MAX) {
    const side = sideWords(errors.worst);
    const detail = `Most are ${errors.worst}${side && `: ${side}`}.`;
    const shares = errorShares(window);
    const since = heldSince(window, (place) => above(shares[place], ERROR_SHARE_MAX));
    alerts.push({ id: 'errors', grade: 'red', text: `${percent(errors.share)} of the events of the last minute ended in an error`, detail, href: '#/?chart=errors', since });
  }
  const handshakes = refusedHandshakes(window);
  const refused = (place: number) => above(handshakes.rates[place], HANDSHAKES_PER_SECOND_MAX) && above(handshakes.shares[place], HANDSHAKES_SHARE_MAX);
  if (refused(window.length - 1)) {
    const text = `${percent(handshakes.shares.at(-1) ?? 0)} of the handshakes of the last minute were refused`;
    alerts.push({ id: 'handshakes', grade: 'amber', text, detail: 'The metric wsgateway_handshakes_refused_total says why.', href: '#/?chart=errors', since: heldSince(window, refused) });
  }
  const throttled = lastMinute(window, (node) => [node.series.throttled]);
  if (above(throttled.at(-1), THROTTLED_PER_SECOND_MAX)) {
    const since = heldSince(window, (place) => above(throttled[place], THROTTLED_PER_SECOND_MAX));
    alerts.push({ id: 'throttled', grade: 'amber', text: `Clients are throttled, ${rate(throttled.at(-1))}`, detail: 'They are above a limit of their endpoint.', href: '#/?chart=throttled', since });
  }
  for (const node of window.nodes) {
    const most = (node.connectionsMax ?? 0) * CONNECTIONS_SHARE_MAX;
    const open = newest(node.series.connections);
    if (!node.connectionsMax || open === null || open < most) continue;
    const detail = `${count(open)} of ${count(node.connectionsMax)}; then it answers 503.`;
    const since = heldSince(window, (place) => ((node.series.connections[place] ?? null) === null ? null : node.series.connections[place]! >= most));
    alerts.push({ id: `full-${node.nodeId}`, grade: 'amber', text: `${node.name} nearly has all the connections it takes`, detail, href: '#/connections', since });
  }
  return alerts;
}

const above = (value: number | null | undefined, limit: number): boolean | null => (value === null || value === undefined ? null : value > limit);

/** Nodes that live by gossip and did not answer for their figures: what they do is not known, and it may be why. */
export function silentAlerts(silent: { node: string; reason: string | null }[], gone: Set<string>): Alert[] {
  const once = new Map(silent.map((each) => [each.node, each]));
  return [...once.values()]
    .filter(({ node }) => !gone.has(node))
    .map(({ node, reason }) => ({ id: `silent-${node}`, grade: 'amber', text: `Node ${node} does not answer`, detail: `What it does is not known${reason ? `: ${reason}` : '.'}`, href: '#/cluster' }));
}

/** What only the node that was asked says, and of itself alone. */
export function ownAlerts(node: string, own: Own, pathOf: (endpoint: string) => string): Alert[] {
  const alerts: Alert[] = [];
  const room = own.diskFreeBytes === null ? '' : `${bytes(own.diskFreeBytes)} are free.`;
  if (own.diskFull) alerts.push({ id: 'disk', grade: 'red', text: `The disk of ${node} is full`, detail: `${room} It takes part in no change until there is room.`.trim(), href: '#/cluster' });
  else if (own.diskFreeBytes !== null && own.diskFreeBytes < DISK_LOW_BYTES) alerts.push({ id: 'disk', grade: 'amber', text: `The disk of ${node} is nearly full`, detail: room, href: '#/cluster' });
  for (const { endpoint, backend } of own.circuitsOpen) {
    const text = `The circuit breaker of ${backend} of ${pathOf(endpoint)} is open on ${node}`;
    alerts.push({ id: `circuit-${endpoint}-${backend}`, grade: 'red', text, detail: 'It has failed so often that it is sent nothing for a while; its events fail at once.', href: `#/endpoints/${encodeURIComponent(endpoint)}` });
  }
  for (const { endpoint, route, outcome, fresh } of own.letters) {
    const kept = outcome === 'kept';
    const text = kept ? `${plural(fresh, 'event')} of ${pathOf(endpoint)} became dead letters on ${node}` : `${plural(fresh, 'dead letter')} of ${pathOf(endpoint)} could not be kept on ${node}`;
    const detail = kept ? `Of the route ${route}: its backend did not take them. They can be sent again.` : `Of the route ${route}: ${outcome}. They are lost.`;
    alerts.push({ id: `letters-${endpoint}-${route}-${outcome}`, grade: kept ? 'amber' : 'red', text, detail, href: `#/endpoints/${encodeURIComponent(endpoint)}` });
  }
  return alerts;
}

/** What was asked for: when an answer came last, and why none came now. */
export interface Asked {
  at: number | null;
  error: unknown;
}

/** Why nothing can be said about something; null: it can be. Without an answer and an error it is being asked for. */
export function unknown(what: string, { at, error }: Asked, now: number, oldMillis: number, span: (millis: number) => string): Unknown | null {
  const said = error instanceof Error ? error.message : error ? String(error) : '';
  if (at === null) return said ? { what, why: said } : null;
  if (now - at <= oldMillis) return said ? { what, why: said } : null;
  return { what, why: `the last answer is ${span(now - at)} old${said ? `; ${said}` : ''}` };
}

/** Why the figures say nothing, although they were read: no node has any. */
export function withoutFigures(window: Window): string | null {
  if (window.nodes.length === 0) return 'no node is known';
  if (window.nodes.some((node) => node.reachable && newest(node.series.connections) !== null)) return null;
  const reason = window.nodes.find((node) => node.reason)?.reason;
  return window.nodes.some((node) => node.reachable) ? 'the nodes have none yet' : `no node answers${reason ? `: ${reason}` : ''}`;
}
