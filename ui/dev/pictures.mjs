// Pictures of every page: UI_URL=http://127.0.0.1:5180 [ADMIN_TOKEN=…] node dev/pictures.mjs FOLDER [NAME…]
//
// To be looked at: whole pages, light, dark, and as on a phone. With DOCS=1 those of the documentation, as
//   DOCS=1 UI_URL=http://127.0.0.1:9001 node dev/pictures.mjs ../docs/images/ui
// which are of one size, light and dark, with their colours reduced where there is pngquant; dev/scene.mjs makes a cluster
// that is worth it.
import { execFileSync } from 'node:child_process';
import { mkdirSync, statSync } from 'node:fs';
import { launch, watch } from '../tests/browser.mjs';

const { UI_URL = 'http://127.0.0.1:5180', ADMIN_TOKEN, DOCS } = process.env;
const [folder = 'pictures', ...only] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });

const api = async (path) => (await fetch(UI_URL + path, { headers: ADMIN_TOKEN ? { authorization: `Bearer ${ADMIN_TOKEN}` } : {} })).json();
const { items } = await api('/api/v1/endpoints');
const endpoint = (items.find((each) => each.path.startsWith('/shop')) ?? items[0])?.id;
const connection = (await api(`/api/v1/connections?endpoint=${endpoint}`)).items[0]?.id;
const PAGES = {
  login: '#/',
  overview: '#/',
  overview_nodes: '#/?by=node&range=1h',
  endpoints: '#/endpoints',
  new: '#/endpoints/new',
  new_http: '#/endpoints/new?template=http',
  routes: `#/endpoints/${endpoint}`,
  edit: `#/endpoints/${endpoint}?tab=edit`,
  versions: `#/endpoints/${endpoint}?tab=versions&from=1&to=2`,
  rollout: `#/endpoints/${endpoint}?tab=rollout`,
  explain: `#/endpoints/${endpoint}?tab=explain`,
  console: `#/console?endpoint=${items.find((each) => each.path === '/echo')?.id ?? ''}`,
  live: '#/live',
  connections: '#/connections',
  connection: `#/connections/${connection}`,
  cluster: '#/cluster',
  tokens: '#/access',
  audit: '#/access?tab=audit',
};
const DOCS_MAX_BYTES = 2_500_000;
const NOT_IN_DOCS = ['overview_nodes', 'new_http'];
const LOOKS = DOCS
  ? ['light', 'dark'].map((colorScheme) => ({ name: colorScheme, colorScheme, viewport: { width: 1280, height: 800 } }))
  : [
      { name: 'light', colorScheme: 'light', viewport: { width: 1360, height: 860 } },
      { name: 'dark', colorScheme: 'dark', viewport: { width: 1360, height: 860 } },
      { name: 'phone', colorScheme: 'light', viewport: { width: 390, height: 800 } },
    ];

/** What a page shows only after somebody has done something. */
const ACTS = {
  live: async (page) => {
    await page.waitForTimeout(4000);
    await page.getByRole('grid').focus();
    for (let row = 0; row < 4; row++) await page.keyboard.press('ArrowDown');
  },
  explain: async (page) => {
    await page.getByLabel('Event, JSON').fill('{"action": "checkout", "amount": 950}');
    await page.getByRole('button', { name: 'Explain' }).click();
  },
  console: async (page) => {
    await page.getByRole('button', { name: 'Connect', exact: true }).click();
    await page.getByText(/handshake \d+ ms/).waitFor();
    await page.getByRole('button', { name: 'Send' }).click();
  },
};
/** To the colours that are needed; without the tool, pictures are larger. */
function reduce(path) {
  try {
    execFileSync('pngquant', ['--force', '--skip-if-larger', '--speed', '1', '--strip', '--output', path, '96', path]);
  } catch (error) {
    // 98: it would not become smaller.
    if (error.code !== 'ENOENT' && error.status !== 98) throw error;
  }
}
let bytes = 0;
const browser = await launch();
for (const { name: look, ...options } of LOOKS) {
  const context = await browser.newContext(options);
  if (ADMIN_TOKEN) await context.addInitScript((token) => sessionStorage.setItem('wsgateway.token', token), ADMIN_TOKEN);
  const page = await context.newPage();
  const faults = watch(page);
  for (const [name, hash] of Object.entries(PAGES)) {
    if (only.length ? !only.includes(name) : DOCS && NOT_IN_DOCS.includes(name)) continue;
    // As a node that wants a token has it.
    if (name === 'login') await page.route('**/api/v1/whoami', (route) => route.fulfill({ status: 401, json: { title: 'Unauthorized', status: 401, detail: 'a token is needed', code: 'unauthenticated' } }));
    await page.goto(`${UI_URL}/ui/${hash}`);
    await page.waitForTimeout(name.startsWith('overview') ? 2000 : 1000);
    if (DOCS) await ACTS[name]?.(page).catch((error) => console.log(`${name}: ${error.message}`));
    if (DOCS) await page.waitForTimeout(1500);
    const path = `${folder}/${name}-${look}.png`;
    await page.screenshot({ path, fullPage: !DOCS });
    if (name === 'login') {
      await page.unroute('**/api/v1/whoami');
      // Another fragment alone would not ask again who is there.
      await page.goto('about:blank');
    }
    if (DOCS) {
      reduce(path);
      bytes += statSync(path).size;
      continue;
    }
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (wide > 0) console.log(`${name} ${look}: ${wide} px too wide`);
  }
  for (const fault of new Set(faults)) console.log(`${look}: ${fault}`);
  await context.close();
}
await browser.close();
if (DOCS) console.log(`${Math.round(bytes / 1000)} KB`);
if (bytes > DOCS_MAX_BYTES) process.exit(1);
