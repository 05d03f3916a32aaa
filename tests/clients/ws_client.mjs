// The cases of README.md through npm's ws: node ws_client.mjs PLAN FOLDER, FOLDER having the node_modules.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { run } from "./cases.mjs";

const [plan, folder] = process.argv.slice(2);
const { WebSocket } = createRequire(join(folder, "x.cjs"))("ws");
const said = {};
for (const one of JSON.parse(readFileSync(plan, "utf8")).cases) said[one.name] = await run(WebSocket, one);
process.stdout.write(JSON.stringify(said));
