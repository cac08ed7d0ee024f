// Imports a handler in Node.js, and writes down what came of it: node import_handler.mjs LOADER HANDLER REPORT.

import fs from "node:fs";
import { pathToFileURL } from "node:url";

const [loader, name, report] = process.argv.slice(2);
const { load } = await import(pathToFileURL(loader));
let found = {};
try {
  await load(name);
} catch (error) {
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  found = { error: text, trace: String(error?.stack ?? text), files: error?.path ? [String(error.path)] : [] };
}
fs.writeFileSync(report, JSON.stringify(found));
process.exit(0); // what the module has opened must not keep us
