// Opens the status page in headless Chromium, uses it as a person would, and prints what was seen.
//
//   node status.js URL
import chromium from "@sparticuz/chromium";
import puppeteer from "puppeteer-core";
import { pale } from "./pale.js";

const url = process.argv[2];
const browser = await puppeteer.launch({
  args: [...chromium.args, "--no-proxy-server"], executablePath: await chromium.executablePath(), headless: "shell",
});

/** In the page: the rows of a table, each by the titles of its columns. */
const rows = (name) => [...document.querySelectorAll(`[data-table="${name}"] tbody tr`)].map((row) =>
  Object.fromEntries([...row.children].map((cell) => [cell.dataset.label, cell.textContent])));

const seen = { problems: [], requests: [] };
try {
  const page = await browser.newPage();
  page.on("console", (message) => seen.problems.push(message.text()));
  page.on("pageerror", (error) => seen.problems.push(error.message));
  page.on("request", (request) => seen.requests.push(request.url()));
  await page.setViewport({ width: 1280, height: 900 });
  await page.goto(url);
  await page.waitForSelector('[data-table="methods"] tbody tr');
  seen.ready = await page.$eval("#ready", (element) => element.textContent);
  for (const name of ["methods", "targets", "failures", "refusals", "slow"]) seen[name] = await page.evaluate(rows, name);
  await page.waitForFunction(() => document.querySelector("#plot-latency polyline, #plot-latency circle"));
  seen.latency = await page.$eval("#plot-latency", (element) => element.getAttribute("aria-label"));

  // Updates come by themselves.
  await page.waitForFunction((before) => document.getElementById("about").textContent !== before, {},
    await page.$eval("#about", (element) => element.textContent));
  seen.updates = true;

  // With the keyboard alone: to the first method's link, select it, and read a plot's older value.
  const isAt = (selector) => page.evaluate((wanted) => document.activeElement?.matches(wanted) ?? false, selector);
  let steps = 0;
  while (!(await isAt('[data-table="methods"] a')) && steps++ < 60) await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.getElementById("selected").textContent);
  seen.selected = await page.$eval("#selected", (element) => element.textContent);
  seen.failuresOfSelected = await page.evaluate(rows, "failures");
  seen.hash = await page.evaluate(() => location.hash);
  await page.focus("#plot-rates");
  await page.keyboard.press("Home");
  seen.hasCursor = await page.evaluate(() => Boolean(document.querySelector("#plot-rates .cursor")));
  await page.click("#clear");
  await page.waitForFunction(() => !document.getElementById("selected").textContent);

  // A text filters all tables.
  await page.type("#text", "no-such-text");
  seen.filtered = await page.evaluate(rows, "methods");
  await page.click("#clear");

  // The configuration and the functions.
  await page.click("#configuration summary");
  await page.waitForFunction(() => document.getElementById("configuration-text").textContent);
  seen.configuration = await page.$eval("#configuration-text", (element) => element.textContent);
  await page.waitForSelector("#functions-list details");
  seen.functions = await page.$eval("#functions-list", (element) => element.textContent);

  // Light and dark, wide and narrow.
  seen.pale = {};
  seen.wider = {};
  for (const scheme of ["light", "dark"]) {
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    for (const width of [1280, 360]) {
      await page.setViewport({ width, height: 800 });
      seen.pale[`${scheme} ${width}`] = await page.evaluate(pale);
      seen.wider[`${scheme} ${width}`] = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    }
  }
  seen.backs = await page.evaluate(() => ["light", "dark"].map((theme) => {
    document.documentElement.dataset.theme = theme;
    return getComputedStyle(document.body).backgroundColor;
  }));
  process.stdout.write(JSON.stringify(seen));
} finally {
  await browser.close();
}
