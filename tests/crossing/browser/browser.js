// Opens a page of an origin of its own in headless Chromium, has it call a function's URL, and prints what each client saw.
//
//   node browser.js URL < FileDescriptorSet in base64
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import chromium from "@sparticuz/chromium";
import { build } from "esbuild";
import puppeteer from "puppeteer-core";

const url = process.argv[2];
const descriptors = readFileSync(0, "utf8");
const here = dirname(fileURLToPath(import.meta.url));
const bundle = await build({
  entryPoints: [join(here, "page.js")], bundle: true, write: false, format: "iife", logLevel: "error",
});

const server = createServer((request, response) => {
  response.setHeader("content-type", "text/html");
  response.end(`<!doctype html><meta charset="utf-8"><script>${bundle.outputFiles[0].text.replaceAll("</script", "<\\/script")}</script>`);
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const browser = await puppeteer.launch({
  args: [...chromium.args, "--no-proxy-server"], executablePath: await chromium.executablePath(), headless: "shell",
});
try {
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  const seen = await page.evaluate((...args) => window.callAll(...args), url, descriptors);
  process.stdout.write(JSON.stringify(seen));
} finally {
  await browser.close();
  server.close();
}
