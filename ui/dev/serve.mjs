// Serves ui/dist below /ui/ as a node will, compressed, and hands everything else to a node.
//
//   NODE_URL=http://127.0.0.1:9001 PORT=5180 node dev/serve.mjs
//
// MOCK=figures answers the calls of figures and the live stream from dev/mock.mjs, MOCK=all everything: without a node.
// EVENTS=40: how many made-up events there are a second.
import { existsSync, readFileSync, statSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { answerAll, answerFigures } from './mock.mjs';

const NODE_URL = new URL(process.env.NODE_URL ?? 'http://127.0.0.1:9001');
const PORT = Number(process.env.PORT ?? 5180);
const DIST = fileURLToPath(new URL('../dist/', import.meta.url));
const TYPES = { '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };
// What the page must be able to live with.
const CSP = "default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'";

const server = createServer((incoming, answer) => {
  const url = new URL(incoming.url, 'http://localhost');
  const { pathname } = url;
  if (pathname === '/' || pathname === '/ui') return answer.writeHead(302, { location: '/ui/' }).end();
  if (pathname.startsWith('/ui/')) return file(pathname.slice('/ui/'.length), answer, /\bgzip\b/.test(incoming.headers['accept-encoding'] ?? ''));
  if (process.env.MOCK === 'all') return answerAll(url, answer);
  if (process.env.MOCK === 'figures' && answerFigures(url, answer)) return;
  const options = { method: incoming.method, headers: { ...incoming.headers, host: NODE_URL.host } };
  const onward = request(new URL(incoming.url, NODE_URL), options, (response) => {
    answer.writeHead(response.statusCode, response.headers);
    response.pipe(answer);
    // A stream that the page does not want any more.
    answer.on('close', () => response.destroy());
  });
  // As if the node were not there: no answer at all.
  onward.on('error', () => answer.destroy());
  incoming.pipe(onward);
});

function file(name, answer, zipped) {
  const path = join(DIST, normalize(name || 'index.html'));
  if (!path.startsWith(DIST) || !existsSync(path) || !statSync(path).isFile()) return answer.writeHead(404).end('not found');
  answer.writeHead(200, {
    'content-type': TYPES[extname(path)] ?? 'application/octet-stream',
    'content-security-policy': CSP,
    'x-content-type-options': 'nosniff',
    'referrer-policy': 'no-referrer',
    // Names below assets/ have a hash of the content in them.
    ...(zipped ? { 'content-encoding': 'gzip' } : {}),
    'cache-control': name.startsWith('assets/') ? 'public, max-age=31536000, immutable' : 'no-cache',
  });
  const content = readFileSync(path);
  answer.end(zipped ? gzipSync(content, { level: 9 }) : content);
}

server.listen(PORT, '127.0.0.1', () => console.log(`http://127.0.0.1:${PORT}/ui/ with ${NODE_URL.origin}`));
