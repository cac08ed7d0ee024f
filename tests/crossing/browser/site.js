// Opens the documentation site from its folder in headless Chromium, as a reader without a network does.
//
//   node site.js FOLDER WORDS PAGE...
//
// Prints what was asked of other hosts, which pages are wider than a phone, what the search finds, and both colour
// schemes.
import chromium from "@sparticuz/chromium";
import { join } from "node:path";
import puppeteer from "puppeteer-core";

const [folder, words, ...pages] = process.argv.slice(2);
const address = (name) => `file://${join(folder, name)}`;
const browser = await puppeteer.launch({
  args: chromium.args.filter((each) => !/web-security|file-access/.test(each)),
  executablePath: await chromium.executablePath(), headless: "shell",
});

/** What Material calls the colour schemes. */
const NAMES = { light: "default", dark: "slate" };

/** In the page: texts whose contrast with what is behind them is below 4.5 to 1 (WCAG 2.2, 1.4.3). */
function pale() {
  const channels = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = ([red, green, blue]) => {
    const [r, g, b] = [red, green, blue].map((value) => value / 255)
      .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const over = ([r, g, b, a = 1], back) => [r, g, b].map((value, at) => value * a + back[at] * (1 - a));
  const behind = (element) => {
    const found = element ? channels(getComputedStyle(element).backgroundColor) : [255, 255, 255, 1];
    return found[3] === undefined || found[3] === 1 ? found.slice(0, 3) : over(found, behind(element.parentElement));
  };
  const seen = new Set();
  for (const element of document.querySelectorAll(".md-content__inner *, .md-header *, .md-tabs *")) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!hasText || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (element.closest(".headerlink, [hidden], .md-search__suggest")) continue;
    const back = behind(element);
    const front = over(channels(getComputedStyle(element).color), back);
    const [one, other] = [luminance(front), luminance(back)].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (other + 0.05);
    if (contrast < 4.5) seen.add(`${element.tagName}.${element.className} ${contrast.toFixed(2)} ${element.textContent.trim().slice(0, 30)}`);
  }
  return [...seen];
}

const seen = { foreign: [], problems: [], wider: {}, pale: {}, backs: {} };
try {
  const page = await browser.newPage();
  page.on("request", (request) => {
    if (!/^(file|data|blob):/.test(request.url())) seen.foreign.push(request.url());
  });
  page.on("pageerror", (error) => seen.problems.push(error.message));
  const schemes = (value) => page.emulateMediaFeatures([{ name: "prefers-color-scheme", value }]);
  await page.setViewport({ width: 360, height: 800, isMobile: true, hasTouch: true });
  for (const name of pages) {
    await page.goto(address(name));
    const wider = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    if (wider > 0) seen.wider[name] = wider;
    for (const scheme of ["light", "dark"]) {
      await schemes(scheme);
      await page.waitForFunction((name) => document.body.dataset.mdColorScheme === name, {}, NAMES[scheme]);
      seen.backs[scheme] = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const found = await page.evaluate(pale);
      if (found.length) seen.pale[`${name} ${scheme}`] = found;
    }
  }

  await page.setViewport({ width: 1280, height: 900 });
  await page.goto(address("index.html"));
  await page.click(".md-search__input");
  await page.type(".md-search__input", words);
  await page.waitForSelector(".md-search-result__item", { timeout: 20000 });
  seen.found = await page.$$eval(".md-search-result__link", (links) => links.map((link) => link.getAttribute("href")));
  process.stdout.write(JSON.stringify(seen));
} finally {
  await browser.close();
}
