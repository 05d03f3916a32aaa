// The package as npm would publish it, and somebody would install it.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const LIMIT = { timeout: 60_000 };
const HERE = fileURLToPath(new URL("../", import.meta.url));
const run = promisify(execFile);

/** What an application writes; types as strict as they come. */
const APPLICATION = `
import { after, CloseCode, GatewayClient, QueueFullError, StoppedError } from "@wsgateway/client";
import type { ClosedInfo, Options, SocketLike } from "@wsgateway/client";

type Sent = { action: "say"; text: string };
type Received = { from: string; text: string };
class Socket implements SocketLike {
  protocol = ""; readyState = 0; bufferedAmount = 0;
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: never) => void) | null = null;
  onclose: ((event: never) => void) | null = null;
  onerror: ((event: never) => void) | null = null;
  constructor(readonly url: string, readonly protocols: string[]) {}
  send(_: string): void {}
  close(): void {}
}
const options: Options<Received> = { url: "ws://x/y", WebSocket: Socket, confirm: async (message) => void message.from };
const client = new GatewayClient<Sent, Received>(options);
const forget: () => void = client.on("message", (message) => message.text.trim());
client.on("close", ({ code, reconnectInMillis, status }: ClosedInfo) => [code === CloseCode.Lost, reconnectInMillis, status]);
client.on("session", ({ resumed, reason }) => !resumed && reason === "missed_too_much");
client.on("unconfirmed", ({ message }) => message.from);
// @ts-expect-error: no such event
client.on("massage", () => undefined);
// @ts-expect-error: another shape
void (() => client.send({ action: "shout" }));
forget();
client.close();
export const said = [after(4401), client.state, new QueueFullError("x").name, new StoppedError().name];
`;

let folder;
let tarball;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "wsgateway-client-"));
  const packed = await run("npm", ["pack", "--json", "--silent", "--pack-destination", folder], { cwd: HERE });
  // What `prepack` prints comes first.
  const [{ filename }] = JSON.parse(packed.stdout.slice(packed.stdout.indexOf("[")));
  tarball = join(folder, filename);
  const installed = join(folder, "node_modules/@wsgateway/client");
  await mkdir(installed, { recursive: true });
  await run("tar", ["-xzf", tarball, "--strip-components=1", "-C", installed]);
  await writeFile(join(folder, "package.json"), JSON.stringify({ type: "module" }));
  await writeFile(join(folder, "application.ts"), APPLICATION);
}, LIMIT);
after(() => rm(folder, { recursive: true, force: true }));

test("its types hold without those of a browser and without those of Node.js, and its code runs", LIMIT, async () => {
  const strict = ["--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess", "--skipLibCheck", "false"];
  const tsc = (...more) =>
    run(process.execPath, [join(HERE, "node_modules/typescript/bin/tsc"), ...strict, "--target", "es2022", "--types", "", ...more, "application.ts"], { cwd: folder })
      .catch(({ stdout, message }) => assert.fail(stdout || message));
  await tsc("--noEmit", "--lib", "es2022", "--module", "esnext", "--moduleResolution", "bundler");
  await tsc("--noEmit", "--lib", "es2022,dom", "--module", "esnext", "--moduleResolution", "bundler");
  await tsc("--lib", "es2022", "--module", "nodenext", "--moduleResolution", "nodenext");
  const program = 'import { said } from "./application.js"; console.log(JSON.stringify(said))';
  const { stdout } = await run(process.execPath, ["--input-type=module", "-e", program], { cwd: folder });
  assert.deepEqual(JSON.parse(stdout), ["new-token", "stopped", "QueueFullError", "StoppedError"]);
});

test("it holds what it needs and nothing else", LIMIT, async () => {
  const { stdout } = await run("tar", ["-tzf", tarball]);
  const files = stdout.trim().split("\n").map((path) => path.replace(/^package\//, "")).sort();
  const others = files.filter((path) => !/^dist\/[\w.]+\.(d\.ts|js)$/.test(path));
  assert.deepEqual(others, ["LICENSE", "README.md", "package.json"]);
});
