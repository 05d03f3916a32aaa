// AsyncAPI documents through the reference parser: node validate.cjs FOLDER FILE…, FOLDER having the node_modules.
// Prints, as one JSON object, each file's findings: {"file": [{"severity", "path", "message", "code"}]}.
// Checks nothing itself. Called by tests/gateway/asyncapi.rs.
"use strict";

const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");
const { join } = require("node:path");

async function main([folder, ...files]) {
  const { Parser } = createRequire(join(folder, "x.cjs"))("@asyncapi/parser");
  // What it would fetch (references to other documents) is none of these documents' business.
  const parser = new Parser({ __unstable: { resolver: { cache: false } } });
  const found = {};
  for (const file of files) {
    const diagnostics = await parser.validate(readFileSync(file, "utf8"));
    found[file] = diagnostics.map(({ severity, path, message, code }) => ({ severity, path: path.join("."), message, code }));
  }
  process.stdout.write(JSON.stringify(found));
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exit(1);
});
