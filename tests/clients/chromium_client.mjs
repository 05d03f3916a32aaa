// The cases of README.md through the WebSocket of the system's Chromium: node chromium_client.mjs PLAN FOLDER EXECUTABLE,
// FOLDER having the node_modules. Nothing is downloaded.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { run } from "./cases.mjs";

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const [plan, folder, executablePath] = process.argv.slice(2);
const { chromium } = createRequire(join(folder, "x.cjs"))("playwright-core");
const browser = await chromium.launch({ executablePath, headless: true, args: FLAGS, timeout: 30_000 });
try {
  const page = await browser.newPage({ ignoreHTTPSErrors: true });
  await page.addScriptTag({ content: `const TIMEOUT = 15_000; window.run = ${run}` });
  const said = {};
  for (const one of JSON.parse(readFileSync(plan, "utf8")).cases) said[one.name] = await page.evaluate((given) => window.run(WebSocket, given), one);
  process.stdout.write(JSON.stringify(said));
} finally {
  await browser.close();
}
