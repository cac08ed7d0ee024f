// The status page. Figures come from /events (server-sent events); nothing is loaded from elsewhere.

export const element = (id) => document.getElementById(id);

/** Make an element. Attributes that are undefined are left out. Texts are never read as HTML. */
export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) made.setAttribute(name, value);
  made.append(...children.filter((child) => child !== undefined && child !== ""));
  return made;
}

function drawn(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// -- how values read --------------------------------------------------------------------------------------------------

const three = (value) => (value >= 1000 ? String(Math.round(value)) : String(Number(value.toPrecision(3))));

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds === 0) return "0";
  if (seconds < 0.001) return `${three(seconds * 1e6)} µs`;
  if (seconds < 1) return `${three(seconds * 1e3)} ms`;
  // Rounded to hundredths, so that 10.05 s does not read as 10.1 s.
  return seconds < 120 ? `${Number(seconds.toFixed(2))} s` : `${three(seconds / 60)} min`;
}

export function size(bytes) {
  for (const unit of ["B", "KiB", "MiB"]) {
    if (bytes < 1024) return `${three(bytes)} ${unit}`;
    bytes /= 1024;
  }
  return `${three(bytes)} GiB`;
}

function age(seconds) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const shown = [];
  for (const [unit, length] of units) {
    const count = Math.floor(seconds / length);
    seconds -= count * length;
    if (count) shown.push(`${count} ${unit}`);
  }
  return shown.slice(0, 2).join(" ") || "0 s";
}

export const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString([], { hour12: false });
const counts = (byReason) => Object.entries(byReason).map(([reason, count]) => `${count} ${reason}`).join(", ");

// -- what is selected: in the address, so that links and bookmarks work -----------------------------------------------

function selection() {
  const query = new URLSearchParams(location.hash.startsWith("#?") ? location.hash.slice(2) : "");
  return { method: query.get("method") ?? "", target: query.get("target") ?? "" };
}

function linkTo(changes) {
  const query = new URLSearchParams(Object.entries({ ...selection(), ...changes }).filter(([, value]) => value));
  return `#?${query}`;
}

// Calls without a route are counted together, under a name that is no call's own: it selects nothing.
const methodLink = (method) => method === "/unknown/unknown" ? method : method && make("a", { href: linkTo({ method }), "data-key": `m ${method}` }, method);
const targetLink = (target) => target && make("a", { href: linkTo({ target }), "data-key": `t ${target}` }, target);

const hasConsole = Boolean(document.querySelector('meta[name="console-token"]')?.content);
const consoleLink = (method) => hasConsole && /^\/[^/]+\/[^/]+$/.test(method) && !method.startsWith("/unknown/")
  ? make("a", { href: `#/console?${new URLSearchParams({ method })}`, "data-key": `c ${method}`,
    "aria-label": `Call ${method}` }, "call") : "";

// -- tables -----------------------------------------------------------------------------------------------------------

/** By table: its columns. Each has a title, a value, and perhaps a class. */
const CALL = [
  ["Time", (call) => clock(call.time)],
  ["Method", (call) => methodLink(call.method), "name"],
  ["Target", (call) => targetLink(call.target ?? ""), "name"],
  ["Status", (call) => make("span", { class: call.code === "OK" ? "good" : "bad" }, call.code)],
  ["Took", (call) => duration(call.seconds), "n"],
];
const ORIGIN = [
  ["Tenant", (call) => call.tenant ?? ""],
  ["Peer", (call) => call.peer ?? ""],
  ["AWS request id", (call) => call.request_id ?? ""],
  ["Trace id", (call) => call.trace_id ?? ""],
];
const FAILURE = [
  ...CALL,
  ["Message", (call) => call.message ?? "", "long"],
  ["Cause", (call) => call.cause ?? "", "long"],
  ["Attempts", (call) => call.attempts ?? "", "n"],
  ...ORIGIN,
];
const LATENCIES = [0, 1, 2].map((at) => [
  ["p50", "p90", "p99"][at], (row) => (row.seconds ? duration(row.seconds[at]) : ""), "n",
]);
const stateOf = ({ found, fault }) => {
  if (fault) return `${found ? "renewal fails" : "none yet"}: ${fault}`;
  return found ? "good" : "being sought";
};

const TABLES = {
  methods: [
    ["Method", (row) => methodLink(row.method), "name"],
    ["Type", (row) => row.type],
    ["Console", (row) => consoleLink(row.method)],
    ["Calls", (row) => row.calls, "n"],
    ["Failed", (row) => row.errors, "n"],
    ["In flight", (row) => row.in_flight, "n"],
    ["Calls, 5 min", (row) => row.recent_calls, "n"],
    ["Failed, 5 min", (row) => row.recent_errors, "n"],
    ...LATENCIES,
  ],
  targets: [
    ["Target", (row) => targetLink(row.target), "name"],
    ["In flight", (row) => row.in_flight, "n"],
    ["Waiting", (row) => row.waiting, "n"],
    ["Learned limit", (row) => row.limit ?? "", "n"],
    ["Calls, 5 min", (row) => row.recent_calls, "n"],
    ["Failed, 5 min", (row) => row.recent_errors, "n"],
    ...LATENCIES,
    ["Wait p50", (row) => (row.waits ? duration(row.waits[0]) : ""), "n"],
    ["Wait p99", (row) => (row.waits ? duration(row.waits[2]) : ""), "n"],
    ["Queue refused", (row) => counts(row.refused)],
    ["Throttled", (row) => counts(row.throttled), "some"],
    ["Retries", (row) => row.retries, "n"],
    ["Cold starts", (row) => row.cold_starts, "n"],
    ["Attached", (row) => row.instances || "", "n"],
    ["Last failure", (row) => {
      const last = row.last_failure;
      return last ? `${clock(last.time)} ${last.code}: ${last.message ?? ""}` : "";
    }, "long"],
  ],
  credentials: [
    ["Identity", (row) => row.identity, "name"],
    ["Signs for", (row) => (row.targets ?? []).join(", ") || "assuming roles", "long"],
    ["State", (row) => stateOf(row), "long"],
    ["Found", (row) => (row.found ? clock(row.found) : "")],
    ["Expires", (row) => (row.expires ? clock(row.expires) : "")],
  ],
  failures: FAILURE,
  refusals: FAILURE,
  slow: [
    ...CALL,
    ["Waited", (call) => (call.queued ? duration(call.queued) : ""), "n"],
    ["Target took", (call) => (call.upstream ? duration(call.upstream) : ""), "n"],
    ["Attempts", (call) => call.attempts ?? "", "n"],
    ["Cold start", (call) => (call.cold_start ? "yes" : "")],
    ...ORIGIN,
  ],
  open_calls: [
    ["Since", (call) => duration(call.seconds), "n"],
    ["Method", (call) => methodLink(call.method), "name"],
    ["Target", (call) => targetLink(call.target ?? ""), "name"],
    ["Stage", (call) => call.stage],
    ["Attempts", (call) => call.attempts ?? "", "n"],
    ["Tenant", (call) => call.tenant ?? ""],
    ["Peer", (call) => call.peer ?? ""],
  ],
};

function fill(name, rows) {
  const place = document.querySelector(`[data-table="${name}"]`);
  const wanted = element("text").value.toLowerCase();
  const shown = rows.filter((row) => !wanted || JSON.stringify(row).toLowerCase().includes(wanted));
  if (!shown.length) {
    place.replaceChildren(make("p", { class: "empty" }, "none"));
    return;
  }
  const columns = TABLES[name];
  const head = columns.map(([title, , kind]) => make("th", { scope: "col", class: kind }, title));
  const body = shown.map((row) => make("tr", {}, ...columns.map(([title, value, kind]) =>
    make("td", { class: kind, "data-label": title }, value(row)))));
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...body));
  const left = place.firstElementChild?.scrollLeft ?? 0;
  const wide = make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": name.replace("_", " ") }, table);
  const focused = place.contains(document.activeElement) ? document.activeElement : null;
  const key = focused?.dataset.key;
  place.replaceChildren(wide);
  wide.scrollLeft = left;
  // The keyboard stays where it was, although the row is new.
  if (focused) (key ? [...wide.querySelectorAll("[data-key]")].find((link) => link.dataset.key === key) ?? wide : wide)
    .focus({ preventScroll: true });
}

// -- plots ------------------------------------------------------------------------------------------------------------

const COLOURS = ["a", "b", "c", "d", "e", "f"];
const DASHES = ["", "6 3", "2 2", "8 3 2 3", "1 3", "4 4"];

/** The smallest of 1, 2, 5 times a power of ten that is not below the value. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * power).find((bound) => bound >= value * 0.999999);
}

class Plot {
  /** `isLog`: the axis goes by powers of ten. */
  constructor(id, format, isLog = false) {
    this.place = element(id);
    this.format = format;
    this.isLog = isLog;
    this.cursor = null;
    this.place.setAttribute("role", "img");
    this.place.addEventListener("pointermove", (event) => this.point(event));
    this.place.addEventListener("pointerleave", () => this.move(null));
    this.place.addEventListener("keydown", (event) => this.press(event));
  }

  show(series, begin, step) {
    Object.assign(this, { series, begin, step });
    this.draw();
  }

  get length() { return this.series[0]?.values.length ?? 0; }

  point(event) {
    const box = this.place.getBoundingClientRect();
    this.move(Math.round(((event.clientX - box.left - 48) / (box.width - 56)) * (this.length - 1)));
  }

  press(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    this.move((this.cursor ?? this.length - 1) + by);
  }

  move(at) {
    this.cursor = at === null ? null : Math.max(0, Math.min(this.length - 1, at));
    if (this.series) this.draw();
  }

  draw() {
    const width = this.place.clientWidth || 400, height = 160, left = 48, right = 8, top = 8, bottom = 20;
    const { part, ticks } = this.axis();
    const x = (at) => left + (at / Math.max(1, this.length - 1)) * (width - left - right);
    const y = (value) => height - bottom - part(value) * (height - top - bottom);
    const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    for (const tick of ticks) {
      svg.append(drawn("line", { x1: left, x2: width - right, y1: y(tick), y2: y(tick), class: "grid" }));
      svg.append(drawn("text", { x: left - 6, y: y(tick) + 4, "text-anchor": "end" }, this.format(tick)));
    }
    svg.append(drawn("text", { x: left, y: height - 4 }, clock(this.begin)));
    svg.append(drawn("text", { x: width - right, y: height - 4, "text-anchor": "end" },
      clock(this.begin + this.length * this.step)));
    this.series.forEach(({ values }, number) => this.line(svg, values, number, x, y));
    if (this.cursor !== null) {
      svg.append(drawn("line", { x1: x(this.cursor), x2: x(this.cursor), y1: top, y2: height - bottom, class: "cursor" }));
    }
    this.place.replaceChildren(svg, this.legend());
  }

  /** How far up a value stands (0 to 1), and the values with a line. */
  axis() {
    const values = this.series.flatMap((each) => each.values.filter((value) => value !== null && value > 0));
    const most = values.length ? Math.max(...values) : 1;
    if (!this.isLog) {
      const bound = roundUp(most);
      return { part: (value) => value / bound, ticks: [0, bound / 2, bound] };
    }
    const high = Math.ceil(Math.log10(most) - 1e-9);
    const low = Math.min(high - 1, Math.floor(Math.log10(values.length ? Math.min(...values) : 0.1) + 1e-9));
    const ticks = Array.from({ length: high - low + 1 }, (_, at) => 10 ** (low + at));
    return { part: (value) => Math.max(0, (Math.log10(value) - low) / (high - low)), ticks };
  }

  line(svg, values, number, x, y) {
    const colour = COLOURS[number % COLOURS.length], dash = DASHES[number % DASHES.length];
    let run = [];
    const end = () => {
      if (run.length === 1) svg.append(drawn("circle", { cx: run[0][0], cy: run[0][1], r: 2.5, class: colour }));
      if (run.length > 1) {
        svg.append(drawn("polyline", { points: run.join(" "), class: `series ${colour}`, "stroke-dasharray": dash }));
      }
      run = [];
    };
    values.forEach((value, at) => (value === null ? end() : run.push([x(at), y(value)])));
    end();
  }

  legend() {
    const at = this.cursor ?? this.length - 1;
    const read = ({ values }) => (values[at] === null || values[at] === undefined ? "–" : this.format(values[at]));
    const items = this.series.map((each, number) => make("span", {},
      make("i", { class: COLOURS[number % COLOURS.length] }), `${each.name} ${read(each)}`));
    const when = make("span", { class: "dim" }, clock(this.begin + at * this.step));
    const texts = this.series.map((each) => `${each.name} ${read(each)}`).join(", ");
    this.place.setAttribute("aria-label", `${this.place.previousElementSibling.textContent}: ${texts || "none"}`);
    return make("div", { class: "legend", "aria-live": this.cursor === null ? "off" : "polite" }, when,
      ...(items.length ? items : ["none"]));
  }
}

const rate = (value) => three(value);
const PLOTS = {
  rates: new Plot("plot-rates", rate),
  errors: new Plot("plot-errors", rate),
  latency: new Plot("plot-latency", duration, true),
};

function plot({ begin, step, rates, errors, quantiles }) {
  PLOTS.rates.show([{ name: "calls", values: rates }], begin, step);
  const failed = Object.entries(errors).sort(([one], [other]) => one.localeCompare(other));
  PLOTS.errors.show(failed.length ? failed.map(([name, values]) => ({ name, values }))
    : [{ name: "none", values: rates.map(() => 0) }], begin, step);
  PLOTS.latency.show(["p50", "p90", "p99"].map((name, at) => ({ name, values: quantiles[at] })), begin, step);
}

// -- the page ---------------------------------------------------------------------------------------------------------

let latest = null;
let isPaused = false;

function render() {
  if (!latest) return;
  const { totals } = latest;
  element("version").textContent = latest.version;
  element("ready").textContent = latest.unready.length ? `Not ready: ${latest.unready.join("; ")}` : "Ready";
  element("ready").className = latest.unready.length ? "bad" : "good";
  element("about").textContent = `up ${age(latest.uptime)}, listening on ${latest.listeners.join(", ") || "nothing"}`;
  const tiles = {
    Calls: totals.calls, "In flight": totals.in_flight, Waiting: totals.waiting, Connections: totals.connections,
    "Connections refused": totals.connections_refused, "Calls refused": totals.refused,
    "Protocol errors": totals.protocol_errors, Buffered: size(totals.buffered_bytes), Memory: size(totals.memory_bytes),
  };
  element("totals").replaceChildren(...Object.entries(tiles).map(([name, value]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, String(value)))));
  const { method, target } = latest.selected;
  element("selected").textContent = [method, target].filter(Boolean).join(" at ");
  plot(latest.plots);
  for (const name of Object.keys(TABLES)) fill(name, latest[name]);
  known("methods-known", latest.methods.map((row) => row.method));
  known("targets-known", latest.targets.map((row) => row.target));
}

function known(id, values) {
  const list = element(id);
  if (list.dataset.values === values.join("\n")) return;
  list.dataset.values = values.join("\n");
  list.replaceChildren(...values.map((value) => make("option", { value })));
}

async function showFunctions() {
  const functions = await (await fetch("/functions")).json();
  const open = new Set([...document.querySelectorAll("#functions-list details[open]")].map((each) => each.dataset.name));
  const shown = functions.map(({ name, running, concurrency, instances, lines }) => {
    const text = lines.map(([time, line]) => `${clock(time)} ${line}`).join("\n") || "no lines yet";
    const details = make("details", { "data-name": name },
      make("summary", {}, `${name}: ${instances} instances, ${running} of ${concurrency} invocations run`),
      make("pre", { tabindex: "0" }, text));
    details.open = open.has(name);
    return details;
  });
  if (element("functions-list").contains(document.activeElement)) return; // somebody reads
  element("functions-list").replaceChildren(...(shown.length ? shown : [make("p", { class: "empty" }, "none")]));
}

async function showConfiguration() {
  element("configuration-text").textContent = await (await fetch("/configuration")).text();
}

let source = null;

function connect() {
  source?.close();
  const { method, target } = selection();
  element("method").value = method;
  element("target").value = target;
  source = new EventSource(`/events?${new URLSearchParams({ method, target })}`);
  source.onopen = () => (element("live").textContent = "live");
  source.onerror = () => (element("live").textContent = "the bridge does not answer; trying again");
  source.onmessage = (event) => {
    if (isPaused) return;
    latest = JSON.parse(event.data);
    render();
    showFunctions().catch(() => {});
  };
}

/** The call console stands alone: `#/console`. Its own script does the rest. */
function isConsole() {
  const found = location.hash === "#/console" || location.hash.startsWith("#/console?");
  document.body.dataset.view = found ? "console" : "figures";
  return found;
}

function hashChanged() {
  if (isConsole()) return;
  if (location.hash.startsWith("#/")) {
    // A section: the selection stays, so the address gets it back.
    const section = element(location.hash.slice(2));
    const { method, target } = latest?.selected ?? { method: "", target: "" };
    history.replaceState(null, "", linkTo({ method, target }));
    section?.scrollIntoView();
    section?.querySelector("h2")?.setAttribute("tabindex", "-1");
    section?.querySelector("h2")?.focus({ preventScroll: true });
    return;
  }
  connect();
}

function choose() {
  location.hash = linkTo({ method: element("method").value.trim(), target: element("target").value.trim() });
}

function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}

element("method").addEventListener("change", choose);
element("target").addEventListener("change", choose);
element("text").addEventListener("input", render);
element("filters").addEventListener("submit", (event) => { event.preventDefault(); choose(); });
element("clear").addEventListener("click", () => {
  element("text").value = "";
  location.hash = "#?";
  render();
});
element("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  element("pause").setAttribute("aria-pressed", String(isPaused));
  element("live").textContent = isPaused ? "paused" : "live";
});
element("theme").addEventListener("change", () => {
  localStorage.setItem("theme", element("theme").value);
  setTheme(element("theme").value);
});
element("configuration-details").addEventListener("toggle", showConfiguration);
addEventListener("hashchange", hashChanged);
addEventListener("resize", () => Object.values(PLOTS).forEach((each) => each.series && each.draw()));
element("theme").value = localStorage.getItem("theme") ?? "";
setTheme(element("theme").value);
isConsole();
connect();
