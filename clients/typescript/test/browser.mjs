// A page in the system's Chromium that has the client and the scenarios. Nothing is downloaded.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { chromium } from "playwright-core";

const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const ROOT = new URL("../", import.meta.url);

/** Serves the package's own files, which a page may only import over HTTP. */
async function serve() {
  const server = createServer(async (request, response) => {
    const path = new URL(request.url, "http://x").pathname;
    if (path === "/") return response.setHeader("content-type", "text/html").end("<!doctype html><title>test</title>");
    if (!/^\/(dist|test)\/[\w.-]+\.m?js$/.test(path)) return response.writeHead(404).end();
    try {
      const file = await readFile(new URL(`.${path}`, ROOT));
      response.setHeader("content-type", "text/javascript").end(file);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

export async function openPage(executablePath) {
  const server = await serve();
  const browser = await chromium.launch({ executablePath, headless: true, args: FLAGS, timeout: 30_000 });
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  return {
    expose: (name, given) => page.exposeFunction(name, given),
    run: (name, plan, exposed) =>
      page.evaluate(
        async ([name, plan, exposed]) => {
          const [{ GatewayClient }, { scenarios }] = await Promise.all([import("/dist/index.js"), import("/test/scenarios.mjs")]);
          const given = Object.fromEntries(exposed.map((one) => [one, globalThis[one]]));
          return await scenarios[name]({ GatewayClient, plan, ...given });
        },
        [name, plan, exposed],
      ),
    close: async () => {
      await browser.close();
      server.close();
    },
  };
}
