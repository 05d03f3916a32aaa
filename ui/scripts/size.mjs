// What a browser loads, gzipped: the first load (what index.html names) and what comes later. Fails above the budget.
import { readFileSync, readdirSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

const BUDGET_BYTES = 300 * 1024;
const size = (file) => gzipSync(readFileSync(`dist/${file}`)).length;
const html = readFileSync('dist/index.html', 'utf8');
const first = [...html.matchAll(/(?:src|href)="\/ui\/([^"]+)"/g)].map((match) => match[1]);
const total = size('index.html') + first.reduce((sum, file) => sum + size(file), 0);
for (const file of readdirSync('dist/assets')) {
  const when = first.includes(`assets/${file}`) ? 'first' : 'later';
  console.log(`${when}  ${(size(`assets/${file}`) / 1024).toFixed(1).padStart(7)} KB  ${file}`);
}
console.log(`first load: ${(total / 1024).toFixed(1)} KB of ${BUDGET_BYTES / 1024} KB`);
if (total > BUDGET_BYTES) process.exit(1);
