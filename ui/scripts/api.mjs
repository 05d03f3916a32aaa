// Makes src/api/schema.d.ts from openapi.json. With API_URL (a node's admin address) it first fetches a new snapshot:
//   API_URL=http://127.0.0.1:9001 ADMIN_TOKEN=… npm run api
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';

const { API_URL, ADMIN_TOKEN } = process.env;
if (API_URL) {
  const headers = ADMIN_TOKEN ? { authorization: `Bearer ${ADMIN_TOKEN}` } : {};
  const answer = await fetch(new URL('/api/openapi.json', API_URL), { headers });
  if (!answer.ok) throw new Error(`${API_URL} answered ${answer.status}: ${await answer.text()}`);
  writeFileSync('openapi.json', JSON.stringify(await answer.json(), null, 1) + '\n');
}
// A field with a default may be left out of a document, and is left out of what is read.
execFileSync('npx', ['openapi-typescript', 'openapi.json', '--default-non-nullable', 'false', '--output', 'src/api/schema.d.ts'], { stdio: 'inherit' });
