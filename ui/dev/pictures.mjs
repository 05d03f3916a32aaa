// Pictures of every page, to be looked at: UI_URL=http://127.0.0.1:5180 [ADMIN_TOKEN=…] node dev/pictures.mjs FOLDER [NAME…]
import { mkdirSync } from 'node:fs';
import { launch, watch } from '../tests/browser.mjs';

const { UI_URL = 'http://127.0.0.1:5180', ADMIN_TOKEN } = process.env;
const [folder = 'pictures', ...only] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });

const api = async (path) => (await fetch(UI_URL + path, { headers: ADMIN_TOKEN ? { authorization: `Bearer ${ADMIN_TOKEN}` } : {} })).json();
const { items } = await api('/api/v1/endpoints');
const endpoint = (items.find((each) => each.path.startsWith('/shop')) ?? items[0])?.id;
const connection = (await api('/api/v1/connections')).items[0]?.id;
const PAGES = {
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
  console: '#/console',
  live: '#/live',
  connections: '#/connections',
  connection: `#/connections/${connection}`,
  cluster: '#/cluster',
  tokens: '#/access',
  audit: '#/access?tab=audit',
};
const LOOKS = [
  { name: 'light', colorScheme: 'light', viewport: { width: 1360, height: 860 } },
  { name: 'dark', colorScheme: 'dark', viewport: { width: 1360, height: 860 } },
  { name: 'phone', colorScheme: 'light', viewport: { width: 390, height: 800 } },
];
const browser = await launch();
for (const { name: look, ...options } of LOOKS) {
  const context = await browser.newContext(options);
  if (ADMIN_TOKEN) await context.addInitScript((token) => sessionStorage.setItem('wsgateway.token', token), ADMIN_TOKEN);
  const page = await context.newPage();
  const faults = watch(page);
  for (const [name, hash] of Object.entries(PAGES)) {
    if (only.length && !only.includes(name)) continue;
    await page.goto(`${UI_URL}/ui/${hash}`);
    await page.waitForTimeout(name.startsWith('overview') ? 2000 : 1000);
    await page.screenshot({ path: `${folder}/${name}-${look}.png`, fullPage: true });
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (wide > 0) console.log(`${name} ${look}: ${wide} px too wide`);
  }
  for (const fault of new Set(faults)) console.log(`${look}: ${fault}`);
  await context.close();
}
await browser.close();
