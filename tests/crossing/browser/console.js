// Uses the call console in headless Chromium as a person would, and prints what was seen.
//
//   node console.js URL
import { createServer } from "node:http";
import chromium from "@sparticuz/chromium";
import puppeteer from "puppeteer-core";
import { pale } from "./pale.js";

const url = process.argv[2];
const HOSTILE = "<img src=x onerror=\"window.broken=1\"><script>window.broken=1</script>";
// The browser comes without its protection against other origins, for scrapers: here it is needed.
const flags = chromium.args.filter((flag) => !/web-security|site-isolation/.test(flag));
const browser = await puppeteer.launch({
  args: [...flags, "--no-proxy-server"], executablePath: await chromium.executablePath(), headless: "shell",
});

const seen = { problems: [], requests: [] };
const page = await browser.newPage();
page.on("console", (message) => seen.problems.push(message.text()));
page.on("pageerror", (error) => seen.problems.push(error.message));
page.on("request", (request) => seen.requests.push(request.url()));

// -- what a person does -----------------------------------------------------------------------------------------------

const textOf = (selector) => page.$eval(selector, (element) => element.textContent);
const valueOf = (selector) => page.$eval(selector, (element) => element.value);
/** Not with the mouse, which misses what a busy page is still scrolling to. */
const click = (selector) => page.$eval(selector, (element) => element.click());
const isAt = (selector) => page.evaluate((wanted) => document.activeElement?.matches(wanted) ?? false, selector);

async function open(method) {
  await page.evaluate((wanted) => { location.hash = `#/console?${new URLSearchParams({ method: wanted })}`; }, method);
  await page.waitForFunction((wanted) => {
    const chosen = `/${document.getElementById("call-service").value}/${document.getElementById("call-method").value}`;
    return chosen === wanted && document.getElementById("form-view").children.length
      && !document.getElementById("send").disabled && document.getElementById("call-types").textContent.includes("→");
  }, {}, method);
}

/** The selector of the control that the form has for a field of the message itself. */
const field = (name) => page.evaluate((wanted) => {
  const label = [...document.querySelectorAll("#form-view label[for]")]
    .find((each) => each.firstChild.textContent === wanted && !each.closest(".nested"));
  return `#${label.htmlFor}`;
}, name);

const press = (name) => page.evaluate((wanted) => [...document.querySelectorAll("#console button")]
  .find((each) => each.textContent === wanted && !each.hidden && !each.closest(".nested")).click(), name);

async function writeJson(text) {
  await page.evaluate(() => { if (!document.getElementById("as-json").checked) document.getElementById("as-json").click(); });
  await page.focus("#json");
  await page.$eval("#json", (area) => { area.value = ""; });
  await page.keyboard.type(text);
  await page.keyboard.press("Escape");
}

/** Wait for the end of a call. Returns what is shown of it. */
async function ended() {
  await page.waitForFunction(() => document.getElementById("cancel").disabled
    && !/Under way|No call yet/.test(document.getElementById("call-status").textContent));
  return shown();
}

const shown = () => page.evaluate(() => {
  const texts = (selector) => [...document.querySelectorAll(selector)].map((each) => each.textContent);
  return {
    status: document.getElementById("call-status").textContent, messages: texts("#call-messages .came pre"),
    sent: texts("#call-messages .sent p").length, details: texts("#call-details pre"), stages: texts("#call-stages li"),
    headers: document.getElementById("call-headers").textContent, trailers: document.getElementById("call-trailers").textContent,
    facts: document.getElementById("call-stages").textContent, at: document.activeElement?.id ?? "",
  };
});

async function call() {
  await click("#send");
  return ended();
}

// -- the play ---------------------------------------------------------------------------------------------------------

async function withKeyboardAlone() {
  const bare = [];
  const tabTo = async (selector) => {
    for (let steps = 0; steps < 90 && !(await isAt(selector)); steps += 1) {
      await page.keyboard.press("Tab");
      const stop = await page.evaluate(() => {
        const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
        return outlineStyle === "none" || outlineWidth === "0px" ? document.activeElement.outerHTML.slice(0, 80) : "";
      });
      if (stop) bare.push(stop);
    }
    return isAt(selector);
  };
  const reached = [await tabTo("#call-service")];
  await page.keyboard.type("orders");
  await page.waitForFunction(() => document.querySelector("#form-view .fields"));
  reached.push(await tabTo("#form-view textarea"));
  await page.keyboard.type("by keyboard");
  reached.push(await tabTo("#send"));
  await page.keyboard.press("Enter");
  return { reached, bare, ...(await ended()) };
}

async function withForm() {
  await open("/orders.v1.Orders/Get");
  await open("/orders.v1.Orders/Echo");
  await page.type(await field("id"), HOSTILE);
  await page.type(await field("totalCents"), "9007199254740993");
  await page.select(await field("state"), "SHIPPED");
  await page.type(await field("signature"), "ÿ");
  await press("encode");
  await page.type(await field("createdAt"), "2026-01-02T03:04:05Z");
  await page.type(await field("leadTime"), "1.5s");
  await press("Add itemCounts");
  await page.keyboard.type("it's");
  await page.keyboard.press("Tab");
  await page.keyboard.type("-3");
  for (const name of ["one", "two"]) {
    await press("Add parts");
    await page.keyboard.type(name);
  }
  await page.evaluate(() => [...document.querySelectorAll("[aria-label='Send note']")]
    .find((each) => !each.closest(".nested")).click());
  await page.type(await field("extra"), '{"a":[1,null]}');
  await page.type(await field("weight"), "0.5");
  await page.type(await field("changed"), "id");
  await page.type(await field("ratio"), "1e3");
  await page.select(await field("Which"), "voucher");
  await page.type(await field("voucher"), "18446744073709551615");
  await page.type(await field("attachment"), '{"@type":"type.googleapis.com/orders.v1.GetRequest","id":"9"}');
  const answer = await call();
  await click("#as-json");
  const asJson = await valueOf("#json");
  await click("#as-form");
  await click("#as-json");
  const again = await valueOf("#json");
  await writeJson('{"id": "7", "no_such_field": 1}');
  await click("#as-form");
  const unknown = await textOf("#view-problem");
  await writeJson('{"id": ');
  await click("#as-form");
  const broken = await textOf("#view-problem");
  await writeJson('{"totalCents": 9007199254740993, "parts": [{"id": "p"}], "card": ""}');
  await click("#as-form");
  await click("#as-json");
  const exact = await valueOf("#json");
  await click("#as-form");
  await page.type(await field("ratio"), "much");
  await click("#send");
  const wrong = { text: await textOf("#view-problem"), isMarked: await isAt("[aria-invalid=true]") };
  return { answer, asJson, again, unknown, broken, exact, wrong };
}

async function withCompletion() {
  await open("/orders.v1.Orders/Get");
  await open("/orders.v1.Orders/Echo");
  await page.evaluate(() => { if (!document.getElementById("as-json").checked) document.getElementById("as-json").click(); });
  await page.focus("#json");
  await page.$eval("#json", (area) => { area.value = ""; });
  await page.keyboard.type('{"par');
  const offered = await page.$$eval("#json-names li", (all) => all.map((each) => each.textContent));
  const active = await page.$eval("#json", (area) => area.getAttribute("aria-activedescendant"));
  await page.keyboard.press("Enter");
  await page.keyboard.type('[{"st');
  await page.keyboard.press("Enter");
  await page.keyboard.type('"');
  const values = await page.$$eval("#json-names li", (all) => all.map((each) => each.textContent.trim()));
  await page.keyboard.press("ArrowDown");
  await page.keyboard.press("Tab");
  await page.keyboard.type('}], "item_counts": {"');
  const inMap = await page.$eval("#json-names", (list) => list.hidden);
  await page.keyboard.type('a": 1}, ');
  await page.keyboard.down("Control");
  await page.keyboard.press("Space");
  await page.keyboard.up("Control");
  const all = await page.$$eval("#json-names li", (found) => found.length);
  await page.keyboard.press("Escape");
  await page.keyboard.type('"id": "x"}');
  await page.keyboard.press("Escape");
  const text = await valueOf("#json");
  await page.keyboard.down("Control");
  await page.keyboard.press("Enter");
  await page.keyboard.up("Control");
  return { offered, active, values, inMap, all, text, answer: await ended() };
}

async function withStreams() {
  const found = {};
  await open("/dev.Echo/ServerStream");
  await writeJson('{"text": "s", "count": 3}');
  found.server = await call();
  await open("/dev.Echo/ClientStream");
  await writeJson('{"text": "one"}');
  await click("#send");
  await page.waitForSelector("#call-messages .sent");
  await writeJson('{"txt": "wrong"}');
  await press("Send a message");
  await page.waitForFunction(() => document.getElementById("view-problem").textContent.includes("Not sent"));
  found.notSent = await textOf("#view-problem");
  await writeJson('{"text": "two"}');
  await press("Send a message");
  await page.waitForFunction(() => document.querySelectorAll("#call-messages .sent").length === 2);
  await press("End the request");
  found.client = await ended();
  await open("/dev.Echo/BidiStream");
  await writeJson('{"text": "a"}');
  await press("Begin without a message");
  await page.waitForFunction(() => !document.getElementById("send").disabled
    && document.getElementById("send").textContent === "Send a message");
  await press("Send a message");
  await page.waitForSelector("#call-messages .sent");
  await press("End the request");
  found.bidi = await ended();
  await open("/dev.Echo/Sleep");
  await writeJson('{"seconds": 30}');
  await click("#send");
  await page.waitForSelector("#call-messages .sent");
  await click("#cancel");
  found.cancelled = await ended();
  return found;
}

async function withError() {
  await open("/dev.Echo/Unary");
  for (const [name, value] of [["authorization", "Bearer s3cr3t-value"], ["echo-initial-x", HOSTILE], ["x-plain", "shown"]]) {
    await click("#metadata-add");
    await page.keyboard.type(name);
    await page.keyboard.press("Tab");
    await page.keyboard.type(value);
  }
  await writeJson(JSON.stringify({ text: HOSTILE }));
  const unary = await call();
  await open("/dev.Echo/Fail");
  await writeJson(JSON.stringify({ code: 5, message: HOSTILE, details: [HOSTILE] }));
  const failed = await call();
  return { unary, failed };
}

async function copies() {
  const found = {};
  await open("/dev.Echo/Unary");
  await writeJson(JSON.stringify({ text: "it's $(touch /tmp/x) `id` \"q\" \\ !! \u001b[201~ é 🙂 $HOME\n-- ;" }));
  for (const format of ["grpcurl", "call", "python"]) {
    await page.select("#copy-as", format);
    found[format] = await textOf("#copy-text");
  }
  await click("#with-secrets");
  found.withSecrets = await textOf("#copy-text");
  await click("#with-secrets");
  found.stored = await page.evaluate(() => JSON.stringify(localStorage));
  found.history = await page.$$eval("#history-list li", (all) => all.map((each) => each.textContent));
  await page.reload();
  await page.waitForSelector("#history-list li");
  await page.evaluate(() => [...document.querySelectorAll("#history-list button")]
    .find((each) => each.textContent === "/dev.Echo/Unary").click());
  await page.waitForFunction(() => document.querySelectorAll("#metadata-rows .row").length === 3);
  found.restored = await page.$$eval("#metadata-rows .metadata-value", (all) => all.map((each) => each.value));
  await click("#send");
  await page.waitForFunction(() => document.getElementById("console-problem").textContent);
  found.asked = await textOf("#console-problem");
  for (let rows = 3; rows; rows -= 1) await click("#metadata-rows button");
  return found;
}

/** What a page of another origin gets out of its tries. */
async function fromElsewhere() {
  const server = createServer((request, response) => {
    response.setHeader("content-type", "text/html");
    response.end("<!doctype html><title>elsewhere</title>");
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const other = await browser.newPage();
  try {
    await other.goto(`http://127.0.0.1:${server.address().port}/`);
    return await other.evaluate(async (target) => {
      const line = JSON.stringify({ do: "call", service: "dev.Echo", method: "Unary", messages: ["{}"], is_whole: true });
      const json = { method: "POST", body: line, headers: { "Content-Type": "application/json", "X-Console-Token": "x" } };
      const tries = {
        "reads the page": () => fetch(target).then((answer) => answer.text()),
        "a simple request": () => fetch(`${target}console/calls`, { method: "POST", body: line }).then((answer) => answer.text()),
        "a preflighted request": () => fetch(`${target}console/calls`, json).then((answer) => answer.text()),
        "no-cors": () => fetch(`${target}console/calls`, { method: "POST", body: line, mode: "no-cors" })
          .then((answer) => answer.text()),
        "an iframe": () => new Promise((resolve, reject) => {
          const frame = document.createElement("iframe");
          frame.src = target;
          frame.onload = () => {
            try {
              resolve(frame.contentDocument?.documentElement?.outerHTML ?? "");
            } catch (error) {
              reject(error);
            }
          };
          document.body.append(frame);
        }),
      };
      const found = {};
      for (const [name, attempt] of Object.entries(tries)) {
        found[name] = await attempt().then((text) => `got ${text.length} characters`, () => "nothing");
      }
      return found;
    }, url);
  } finally {
    await other.close();
    server.close();
  }
}

/** In the page: controls that nothing names. */
const unnamed = () => [...document.querySelectorAll("#console :is(input, select, textarea, button)")]
  .filter((each) => !(each.labels?.length || each.getAttribute("aria-label") || each.textContent.trim()))
  .map((each) => each.outerHTML.slice(0, 120));

async function looks() {
  await open("/orders.v1.Orders/Echo");
  await click("#as-form");
  await press("Add itemCounts");
  await page.keyboard.type("a");
  await page.keyboard.press("Tab");
  await page.keyboard.type("1");
  await press("Add parts");
  await call();
  const found = { pale: {}, wider: {}, unnamed: await page.evaluate(unnamed) };
  for (const scheme of ["light", "dark"]) {
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    for (const width of [1280, 360]) {
      await page.setViewport({ width, height: 800 });
      found.pale[`${scheme} ${width}`] = await page.evaluate(pale);
      found.wider[`${scheme} ${width}`] = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    }
  }
  return found;
}

try {
  await page.setViewport({ width: 1280, height: 900 });
  await page.goto(`${url}#/console`);
  if (await page.$eval("#console-off", (element) => !element.hidden)) {
    seen.off = await textOf("#console-off");
    seen.isHidden = await page.$eval("#call", (element) => element.checkVisibility() === false);
  } else {
    await page.waitForFunction(() => document.getElementById("call-service").options.length > 2);
    seen.services = await page.$$eval("#call-service option", (all) => all.map((each) => each.textContent));
    seen.warning = await textOf("#console");
    seen.keyboard = await withKeyboardAlone();
    seen.form = await withForm();
    seen.completion = await withCompletion();
    seen.streams = await withStreams();
    seen.error = await withError();
    seen.copies = await copies();
    seen.looks = await looks();
    seen.isBroken = await page.evaluate(() => Boolean(window.broken || document.querySelector("#console img, #console script")));
    const before = seen.problems.length;
    seen.elsewhere = await fromElsewhere();
    seen.problems = seen.problems.slice(0, before);
  }
  process.stdout.write(JSON.stringify(seen));
} finally {
  await browser.close();
}
