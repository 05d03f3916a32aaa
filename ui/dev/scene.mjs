// A scene to take pictures of: endpoints with several routes, a service that answers them (and fails now and then), and
// clients that send events to every node, and some tokens. UI_URL=… [ADMIN_TOKEN=…] node dev/scene.mjs – until it is
// ended; it takes its endpoints and tokens away again.
import { createServer } from 'node:http';
import { load } from '../tests/load.mjs';

const { UI_URL = 'http://127.0.0.1:5180', ADMIN_TOKEN } = process.env;
const headers = { 'content-type': 'application/json', ...(ADMIN_TOKEN ? { authorization: `Bearer ${ADMIN_TOKEN}` } : {}) };

async function api(method, path, body) {
  const answer = await fetch(UI_URL + path, { method, headers, body: body && JSON.stringify(body, null, 2) });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return text ? JSON.parse(text) : null;
}

const service = createServer((request, answer) => {
  request.resume();
  const slow = Math.random() < 0.03;
  const fails = request.url === '/orders' && Math.random() < 0.15;
  setTimeout(() => answer.writeHead(fails ? 503 : 204).end(), 1 + Math.random() * 6 + (slow ? Math.random() * 80 : 0));
});
await new Promise((resolve) => service.listen(0, '127.0.0.1', resolve));
const at = `http://127.0.0.1:${service.address().port}`;
const http = (path, more = {}) => ({ type: 'http', destination: at + path, ...more });
const USERS = ['ada', 'grace', 'linus', 'margaret'];
const PASSWORD = 'correct horse battery';

const SHOP = (version) => ({
  path: '/shop',
  name: version > 1 ? 'Shop' : 'The shop',
  routeSelector: '$.action',
  authentication: { mode: 'basic', users: USERS.map((username) => ({ username, password: PASSWORD })) },
  ...(version > 1 ? { settings: { maxInFlight: 32, outbox: { whenFull: 'dropOldest' } } } : {}),
  routes: [
    { type: 'connect', name: 'Arrived', backends: [http('/arrived')] },
    { type: 'custom', name: 'Orders', key: 'order', backends: [http('/orders', { retry: { attempts: 1 } }), http('/audit', { required: false })] },
    { type: 'custom', name: 'Large', expression: { and: [{ equal: { path: '$.action', value: 'checkout' } }, { gt: { path: '$.amount', value: 900 } }] }, backends: [http('/review')] },
    { type: 'custom', name: 'Returns', key: 'return', backends: [http('/returns')] },
    ...(version > 1 ? [{ type: 'custom', name: 'Ping', key: 'ping', backends: [{ type: 'echo' }] }] : []),
    { type: 'default', name: 'Rest', backends: [http('/rest')] },
    { type: 'disconnect', name: 'Left', backends: [http('/left')] },
  ],
});
const one = (path, name, backend) => ({ path, name, routes: [{ type: 'default', name, backends: [backend] }] });

const made = [];
async function make(document) {
  // `wsgateway demo` has an echo of its own.
  const { items } = await api('GET', `/api/v1/endpoints?path=${document.path}`);
  const there = items.find((each) => each.path === document.path);
  if (there) return there.id;
  const { id } = await api('POST', '/api/v1/endpoints?message=first', document);
  made.push(id);
  return id;
}
const shop = await make(SHOP(1));
await api('PUT', `/api/v1/endpoints/${shop}?message=pings+and+a+smaller+outbox`, SHOP(2));
await make(one('/support', 'Support', http('/support')));
await make(one('/echo', 'Echo', { type: 'echo' }));
await make(one('/metering', 'Metering', http('/meters')));

// None with the role admin: the first of these would close a cluster that is open.
const TOKENS = [{ name: 'grafana', role: 'viewer' }, { name: 'shop-service', role: 'publisher', expiresInSeconds: 90 * 86_400 }, { name: 'ci', role: 'editor', expiresInSeconds: 30 * 86_400 }];
const tokens = [];
for (const token of TOKENS) tokens.push((await api('POST', '/api/v1/tokens', token)).id);

await new Promise((resolve) => setTimeout(resolve, 1500));
const pick = (list) => list[Math.floor(Math.random() * list.length)];
const SAY = (sent) => JSON.stringify({ action: pick(['order', 'order', 'checkout', 'browse', 'browse', 'ping']), amount: (sent * 37) % 1000, note: 'gift '.repeat(sent % 5), items: [{ sku: `A-${sent}`, count: sent % 4 }] });
const CHAT = (sent) => (sent % 40 === 0 ? 'hello, no JSON' : JSON.stringify({ action: 'say', room: `r${sent % 4}`, text: 'x'.repeat(sent % 30) }));
const basic = (place) => `Authorization: Basic ${Buffer.from(`${USERS[place % USERS.length]}:${PASSWORD}`).toString('base64')}`;
const loads = [];
for (const node of (await api('GET', '/api/v1/cluster')).nodes.filter((each) => each.live)) {
  loads.push(await load(node.clientAddr, '/shop', { connections: 12, perSecond: 24, message: SAY, header: basic }));
  loads.push(await load(node.clientAddr, '/support', { connections: 6, perSecond: 14, message: CHAT }));
  loads.push(await load(node.clientAddr, '/echo', { connections: 2, perSecond: 2, message: () => '{"hello": "gateway"}' }));
}
console.log(`the scene is set; ${loads.length} loads`);

async function end() {
  for (const each of loads) each.end();
  for (const id of made) await api('DELETE', `/api/v1/endpoints/${id}`).catch((error) => console.error(error.message));
  for (const id of tokens) await api('DELETE', `/api/v1/tokens/${id}`).catch((error) => console.error(error.message));
  process.exit(0);
}
process.on('SIGTERM', end);
process.on('SIGINT', end);
