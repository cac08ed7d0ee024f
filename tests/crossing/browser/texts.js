// Runs what the console's page makes of texts, without a browser: quoting, copies, JSON, completion.
//
//   node texts.js < {"words": […], "json": […], "metadata": […], "calls": […], "durations": […], "carets": […]}
import { readFileSync } from "node:fs";

/** The page's modules are no package: Node would not take them for modules. */
const load = (name) => import(
  `data:text/javascript;base64,${readFileSync(new URL(`../../../bridge/admin/page/${name}`, import.meta.url)).toString("base64")}`
);
const { quote, copyAs, hideSecrets, seconds } = await load("console_copy.js");
const { pretty, compact, parseExact, offersAt } = await load("console_json.js");
const given = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify({
  words: given.words?.map(quote),
  json: given.json?.map((text) => [pretty(text), compact(text), JSON.stringify(parseExact(text))]),
  metadata: given.metadata && hideSecrets(given.metadata),
  calls: given.calls?.map(([format, call]) => copyAs(format, call)),
  durations: given.durations?.map((text) => seconds(text) ?? null),
  carets: given.carets?.map(({ text, form }) => offersAt(text, text.length, form).offers.map((offer) => offer.name)),
}));
