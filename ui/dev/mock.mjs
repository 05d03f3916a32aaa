// A made-up cluster, to build and look at the UI without one: MOCK=all node dev/serve.mjs. It answers what pages ask when
// they only look; nothing can be changed. Figures are those of dev/stats.mjs.
import { stats } from './stats.mjs';

const NODES = ['n1', 'n2', 'n3'].map((name, which) => ({
  nodeId: `0000000000000${which + 1}aa`.slice(-16), name, live: true, ready: true, role: which ? 'follower' : 'leader', generation: 1, version: '0.1.0',
  clusterAddr: `127.0.0.1:730${which}`, adminAddr: `127.0.0.1:900${which + 1}`, clientAddr: `127.0.0.1:808${which}`, adminUrl: null, clientUrl: null, appliedIndex: 41, activeConnections: 1200 + which * 300,
}));
const CLUSTER = {
  clusterId: 'demo', node: 'n1', nodeId: NODES[0].nodeId, leader: NODES[0].nodeId, term: 3, stateHash: 'a3f1', stateIndex: 41, nodes: NODES,
  raft: { voters: NODES.map((node) => node.nodeId), learners: [], leader: NODES[0].nodeId, term: 3, lastIndex: 41, committedIndex: 41, appliedIndex: 41 },
};
const DOCUMENTS = {
  'ep-shop': {
    path: '/shop/{region}',
    name: 'Shop',
    routeSelector: '$.action',
    routes: [
      { type: 'connect', name: 'Hello', backends: [{ type: 'http', destination: 'http://orders.internal:3000/connect' }] },
      { type: 'custom', name: 'orders', key: 'order', backends: [{ type: 'http', destination: 'http://orders.internal:3000/orders' }, { type: 'kafka', topic: 'orders', required: false }] },
      { type: 'custom', name: 'big', expression: { and: [{ exists: { path: '$.amount' } }, { gt: { path: '$.amount', value: 1000 } }] }, continue: true, backends: [{ type: 'kafka', topic: 'audit' }] },
      { type: 'custom', name: 'returns', key: 'return', backends: [{ type: 'http', destination: 'http://orders.internal:3000/returns' }] },
      { type: 'default', name: 'rest', backends: [{ type: 'echo' }] },
      { type: 'disconnect', name: 'Bye', backends: [{ type: 'kafka', topic: 'sessions' }] },
    ],
  },
  'ep-chat': { path: '/chat', name: 'Chat', routes: [{ type: 'default', name: 'Message', backends: [{ type: 'http', destination: 'http://chat.internal:3000/message', reply: true }] }] },
  'ep-echo': { path: '/echo', name: 'Echo', routes: [{ type: 'default', name: 'Echo', backends: [{ type: 'echo' }] }] },
  'ep-quiet': { path: '/metering', name: 'Metering', routes: [{ type: 'default', name: 'Topic', backends: [{ type: 'kafka', topic: 'meters' }] }] },
};
const ENDPOINTS = Object.entries(DOCUMENTS).map(([id, document], place) => ({
  id, path: document.path, activeVersion: 2, latestVersion: 2 + (place % 2), createdAt: '2026-01-01T08:00:00Z', updatedAt: new Date(Date.now() - 3e6 * (place + 1)).toISOString(),
}));
const CID = 'mJ8sXw0qT3bVnA5kQ7rZ2yLcE9uHdG1pF4oKiW6xBvNt';

const wave = (seed) => 1 + 0.3 * Math.sin(Date.now() / 3000 + seed);
const round = (value) => Math.round(value * 10) / 10;

function routesOf(id) {
  const busy = { 'ep-shop': { orders: 18, big: 0.4, default: 7, connect: 1.2 }, 'ep-chat': { default: 42 }, 'ep-echo': { default: 3 } }[id] ?? {};
  return Object.entries(busy).map(([route, each], seed) => {
    const perSecond = round(each * wave(seed));
    const failed = route === 'orders' ? round(perSecond * 0.08) : 0;
    const backend = (index, kind) => ({ backend: `${route}/${kind}/${index}`, index, requestsPerSecond: perSecond, failedPerSecond: index ? 0 : failed, p50Millis: round(3 * wave(index)), p99Millis: round(41 * wave(index)) });
    return { route, eventsPerSecond: perSecond, errors: failed ? { delivery_failed: failed } : {}, backends: [backend(0, 'http'), ...(route === 'orders' ? [backend(1, 'kafka')] : [])] };
  });
}

function traffic(endpoint) {
  const items = ENDPOINTS.filter((each) => !endpoint || each.id === endpoint).map(({ id, path }, seed) => {
    const routes = routesOf(id);
    const of = (pick) => round(routes.reduce((sum, route) => sum + pick(route), 0));
    const events = of((route) => route.eventsPerSecond);
    return {
      endpointId: id, path, served: { complete: seed === 3 ? 2 : 3, of: 3, degraded: 0 }, connections: [1831, 612, 4, 0][seed] ?? 0, openedPerSecond: 1.2, closedPerSecond: 1, eventsInPerSecond: events, eventsOutPerSecond: round(events * 0.7),
      errorsPerSecond: of((route) => Object.values(route.errors).reduce((sum, each) => sum + each, 0)), throttledPerSecond: 0, routes,
    };
  });
  return { overSeconds: 10, nodes: 3, unreachable: [], items };
}

const LATENCY = { boundsMillis: [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000], counts: [0, 12, 840, 2310, 1200, 402, 120, 31, 9, 2, 0, 0] };
/** As GET /api/v1/stats answers. */
export const figures = (query) => {
  const answer = stats(query);
  for (const node of answer.nodes) node.latency = LATENCY;
  return answer;
};

let sequence = 0;
/** One made-up event, as `event: event`. */
export function event(more = {}) {
  sequence += 1;
  const pick = (list) => list[Math.floor(Math.random() * list.length)];
  const id = pick(['ep-shop', 'ep-shop', 'ep-chat', 'ep-echo']);
  const direction = pick(['in', 'in', 'out']);
  const outcome = direction === 'out' ? 'queued' : pick([...new Array(14).fill('delivered'), 'delivery_failed', 'schema_violation']);
  return {
    at: new Date().toISOString(), node: pick(['n1', 'n2', 'n3']), endpointId: id, path: DOCUMENTS[id].path.replace('{region}', 'eu'),
    connectionId: `${sequence % 7}${CID.slice(1)}`, user: pick(['ada', 'grace', 'linus', null]), direction, kind: 'message',
    route: direction === 'out' ? null : pick(['default', 'orders', 'big']), outcome, eventId: `0192f0c4-${sequence}`, sequence, bytes: 60 + (sequence % 400), tookMillis: direction === 'in' ? round(Math.random() * 20) : null, detail: outcome === 'delivery_failed' ? 'http://orders.internal:3000/orders: 503 after 3 attempts' : null,
    data: { action: pick(['order', 'say', 'return']), amount: '‹number›', note: `‹${sequence % 40} chars›`, items: [{ sku: '‹8 chars›', count: '‹number›' }, '‹37 more›'] },
    ...more,
  };
}

/** A stream as GET /api/v1/live, with so many events a second. */
function live(query, answer, perSecond) {
  answer.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-store' });
  const topics = (query.get('topics') ?? 'samples,cluster,events').split(',');
  const send = (name, data) => answer.write(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`);
  answer.write(': here\n\n');
  if (topics.includes('cluster')) send('cluster', CLUSTER);
  const limit = Number(query.get('eventsPerSecond') ?? 100);
  const fits = (each) =>
    ['direction', 'user', 'route', 'outcome'].every((name) => !query.get(name) || each[name] === query.get(name)) &&
    (!query.get('endpoint') || [each.endpointId, each.path].includes(query.get('endpoint')));
  const timers = [];
  if (topics.includes('samples')) timers.push(setInterval(() => {
    const at = Math.floor(Date.now() / 1000);
    const read = stats(new URLSearchParams({ range: '5m', since: at }), at);
    const one = (samples) => Object.fromEntries(Object.entries(samples).map(([name, value]) => [name, Array.isArray(value) ? value[0] : one(value)]));
    send('samples', { at, nodes: read.nodes.map(({ nodeId, name, samples }) => ({ nodeId, name, reachable: true, ...one(samples) })) });
  }, 1000));
  if (topics.includes('events')) {
    timers.push(setInterval(() => {
      for (let count = 0; count < Math.min(limit, perSecond) / 10; count++) {
        const each = event(query.get('connection') ? { connectionId: query.get('connection') } : {});
        if (fits(each)) send('event', each);
      }
    }, 100));
    timers.push(setInterval(() => perSecond > limit && send('skipped', { events: perSecond - limit }), 1000));
  }
  answer.on('close', () => timers.forEach(clearInterval));
}

const connection = (id) => ({
  id, endpoint: 'ep-shop', path: '/shop/eu', node: 'n1', identity: { user: 'ada', sourceIp: '192.0.2.7', userAgent: 'shop/4.1' }, connectedAt: '2026-01-01T08:00:00Z',
  lastActiveAt: new Date().toISOString(), eventsIn: 1204, eventsOut: 977, inFlight: 2, pendingBytes: 0, groups: ['beta'], tags: { plan: 'pro' },
});

/** The calls of figures and of the live stream. True: it was answered. */
export function answerFigures({ pathname, searchParams }, answer, perSecond = Number(process.env.EVENTS ?? 40)) {
  const json = (value) => answer.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value)) && true;
  if (pathname === '/api/v1/stats') return json(figures(searchParams));
  if (pathname === '/api/v1/traffic') return json(traffic(searchParams.get('endpoint')));
  if (pathname === '/api/v1/whoami') return json({ name: 'ops', role: 'admin', tokenId: null });
  if (pathname === '/api/v1/live') return live(searchParams, answer, perSecond) ?? true;
  return false;
}

export function answerAll(url, answer) {
  if (answerFigures(url, answer)) return;
  const json = (value, status = 200) => answer.writeHead(status, { 'content-type': 'application/json', etag: '"2"' }).end(JSON.stringify(value));
  const [, , , kind, id, more] = url.pathname.split('/');
  if (kind === 'cluster') return json(CLUSTER);
  if (kind === 'endpoints' && !id) return json({ items: ENDPOINTS.filter((each) => each.path.includes(url.searchParams.get('path') ?? '')), nextCursor: null });
  if (kind === 'endpoints' && more === 'rollout') return json({ activeVersion: 2, latestVersion: 2, index: 41, complete: true, down: [], nodes: NODES.map((node) => ({ nodeId: node.nodeId, node: node.name, live: true, complete: true, activeVersion: 2, latestVersion: 2, appliedIndex: 41 })) });
  if (kind === 'endpoints' && !more && DOCUMENTS[id]) return json({ ...ENDPOINTS.find((each) => each.id === id), document: DOCUMENTS[id] });
  if (kind === 'connections' && !id) return json({ items: [connection(CID)], matched: 1831, nodes: 3, unreachable: [], nextCursor: null });
  if (kind === 'connections') return json(connection(id));
  return json({ type: 'about:blank', title: 'Not Found', status: 404, detail: 'the made-up cluster does not have this', code: 'not_found' }, 404);
}
