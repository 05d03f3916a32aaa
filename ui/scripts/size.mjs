// What a browser loads, gzipped: for the first page (what index.html names, the overview, its charts, and what these
// import) and what comes later. Fails above the budget.
import { readFileSync, readdirSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

const BUDGET_BYTES = 300 * 1024;
/** Chunks that the first page asks for by itself. */
const LANDING = /^(Overview|plot)-/;
const files = readdirSync('dist/assets');
const size = (file) => gzipSync(readFileSync(`dist/${file}`), { level: 9 }).length;
const html = readFileSync('dist/index.html', 'utf8');
const named = [...html.matchAll(/(?:src|href)="\/ui\/assets\/([^"]+)"/g)].map((match) => match[1]);
const landing = files.filter((file) => LANDING.test(file));
for (const chunk of ['Overview', 'plot']) if (!landing.some((file) => file.startsWith(`${chunk}-`) && file.endsWith('.js'))) throw new Error(`there is no chunk ${chunk}`);

const first = new Set([...named, ...landing]);
for (const file of first) {
  if (!file.endsWith('.js')) continue;
  for (const [, other] of readFileSync(`dist/assets/${file}`, 'utf8').matchAll(/(?:from|import)\s*["'`]\.\/([\w.-]+\.js)["'`]/g)) first.add(other);
  // A chunk comes with the styles of its name.
  const name = file.replace(/-[\w-]{8}\.js$/, '-');
  for (const style of files) if (style.endsWith('.css') && style.replace(/-[\w-]{8}\.css$/, '-') === name) first.add(style);
}
const total = size('index.html') + [...first].reduce((sum, file) => sum + size(`assets/${file}`), 0);
for (const file of files.toSorted((a, b) => Number(first.has(b)) - Number(first.has(a)))) {
  console.log(`${first.has(file) ? 'first' : 'later'}  ${(size(`assets/${file}`) / 1024).toFixed(1).padStart(7)} KB  ${file}`);
}
console.log(`first page: ${(total / 1024).toFixed(1)} KB of ${BUDGET_BYTES / 1024} KB`);
if (total > BUDGET_BYTES) process.exit(1);
