// The call console: it chooses a method, sends messages, and shows what comes back. Nothing here is read as HTML.
import { clock, duration, element, make, size } from "/page/page.js";
import { copyAs, hideSecrets, HIDDEN, isSecret } from "/page/console_copy.js";
import { messageForm, FormProblem } from "/page/console_form.js";
import { clear as clearHistory, entries, remember } from "/page/console_history.js";
import { compact, Completion, parseExact, pretty } from "/page/console_json.js";

const meta = (name) => document.querySelector(`meta[name="${name}"]`).content;
const TOKEN = meta("console-token");
const LISTENERS = TOKEN ? JSON.parse(meta("console-listeners")) : [];
const LISTENER = LISTENERS.find((each) => !each.address.startsWith("unix:")) ?? LISTENERS[0];

const MOST_SHOWN = 200; // messages of one call
const MOST_TEXT = 4 << 20; // characters of all of them
const LONG = 20_000; // characters of one that are shown at first

const STREAMS = new Set(["client_stream", "bidi_stream"]);
const KINDS = {
  unary: "one message, one reply", server_stream: "one message, a stream of replies",
  client_stream: "a stream of messages, one reply", bidi_stream: "streams in both directions",
};

const state = {
  services: [],
  form: null, // the descriptor of the chosen method
  message: null, // its form
  call: null, // `{id, path, ...}` while one is under way
  last: null, // the one before
};

// -- to the bridge ----------------------------------------------------------------------------------------------------

const HEADERS = { "Content-Type": "application/json", "X-Console-Token": TOKEN };

async function post(path, body, options = {}) {
  const response = await fetch(path, {
    method: "POST", headers: HEADERS, body: JSON.stringify(body), referrerPolicy: "same-origin", ...options,
  });
  if (!response.ok) throw new Error((await response.text()).trim() || `HTTP ${response.status}`);
  return response;
}

async function ask(question) {
  const answer = await (await post("/console/ask", question)).json();
  if (answer.is === "refused") throw new Error(answer.text);
  return answer;
}

/** Yield the lines of a response as they come. */
async function* linesOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  while (true) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

function problem(error, place = "console-problem") {
  element(place).textContent = error ? error.message ?? String(error) : "";
}

// -- the method -------------------------------------------------------------------------------------------------------

const option = (value, text = value) => make("option", { value }, text);

async function loadServices() {
  const chosen = wanted();
  state.services = (await ask({ do: "list" })).services;
  const isBuiltIn = ({ name }) => name.startsWith("grpc.health.") || name.startsWith("grpc.reflection.");
  const ordered = [...state.services.filter((each) => !isBuiltIn(each)), ...state.services.filter(isBuiltIn)];
  // Nothing is chosen at first if that would ask a target, which may start a function.
  const first = chosen.service || (ordered[0]?.methods ? ordered[0].name : "");
  element("call-service").replaceChildren(...(first ? [] : [option("", "choose a service")]),
    ...ordered.map(({ name }) => option(name)));
  if (chosen.service && !ordered.some(({ name }) => name === chosen.service)) {
    element("call-service").append(option(chosen.service));
  }
  if (first) await choose(first, chosen.method);
  else noForm();
}

/** The method that the address names: `#/console?method=/package.Service/Method`. */
function wanted() {
  const path = new URLSearchParams(location.hash.split("?")[1] ?? "").get("method") ?? "";
  const [, service, method] = path.split("/");
  return { service: service ?? "", method: method ?? "" };
}

async function choose(service, method) {
  if (!service) {
    noForm();
    return;
  }
  element("call-service").value = service;
  let found = state.services.find(({ name }) => name === service);
  if (!found?.methods) {
    element("call-types").textContent = "Asking the target what it offers, which may start a function…";
    element("call-method").replaceChildren();
    try {
      const [told] = (await ask({ do: "describe", service })).services;
      state.services = [...state.services.filter((each) => each !== found), told];
      found = told;
    } catch (error) {
      element("call-types").textContent = "";
      noForm();
      throw error;
    }
    if (element("call-service").value !== service) return; // another one was chosen meanwhile
  }
  element("call-method").replaceChildren(...found.methods.map(({ name }) => option(name)));
  await chooseMethod(service, found.methods.some(({ name }) => name === method) ? method : found.methods[0]?.name);
}

async function chooseMethod(service, method) {
  if (!method) {
    noForm();
    return;
  }
  element("call-method").value = method;
  clearForm();
  const form = await ask({ do: "form", service, method });
  if (element("call-method").value !== method || element("call-service").value !== service) return;
  state.form = form;
  const { kind, input, output } = form.method;
  element("call-types").textContent = `${input} → ${output}: ${KINDS[kind]}`;
  history.replaceState(null, "", location.hash.startsWith("#/console")
    ? `#/console?${new URLSearchParams({ method: `/${service}/${method}` })}` : location.hash);
  completion.form = form;
  state.message = messageForm(form);
  element("form-view").replaceChildren(state.message.node);
  element("json").value = "{}";
  showButtons();
  problem(null, "view-problem");
  showCopy();
}

function noForm() {
  element("call-method").replaceChildren();
  clearForm();
}

/** Nothing can be sent until the form of the chosen method is here. */
function clearForm() {
  state.form = state.message = null;
  element("call-types").textContent = "";
  element("form-view").replaceChildren();
  showButtons();
}

const path = () => `/${element("call-service").value}/${element("call-method").value}`;

/** Run what the page does on an event, and show what goes wrong. */
const safely = (action) => async (event) => {
  try {
    problem(null);
    await action(event);
  } catch (error) {
    problem(error);
  }
};

// -- the message ------------------------------------------------------------------------------------------------------

const completion = new Completion(element("json"), element("json-names"));
const isJson = () => element("as-json").checked;

/** The message as JSON text. Throws a FormProblem. */
const messageText = () => (isJson() ? element("json").value : state.message.read());

function setView(view) {
  element("form-view").hidden = view === "json";
  element("json-view").hidden = view !== "json";
  element(view === "json" ? "as-json" : "as-form").checked = true;
}

function switchView() {
  problem(null, "view-problem");
  try {
    if (isJson()) {
      setView("form");
      const text = pretty(state.message?.read() ?? "{}");
      setView("json");
      element("json").value = text;
      return;
    }
    if (!state.message?.write(parseExact(element("json").value || "{}"))) {
      throw new Error("The form cannot show all of this JSON, so it stays JSON.");
    }
    setView("form");
  } catch (error) {
    const back = error instanceof FormProblem ? "form" : "json";
    setView(back);
    problem(error instanceof SyntaxError ? new Error(`This is not JSON: ${error.message}`) : error, "view-problem");
  }
}

// -- metadata ---------------------------------------------------------------------------------------------------------

function addMetadata(name = "", value = "") {
  const number = element("metadata-rows").children.length + 1;
  const remove = make("button", { type: "button", "aria-label": `Remove metadata ${number}` }, "Remove");
  const row = make("div", { class: "row" },
    make("input", { "aria-label": `Name of metadata ${number}`, placeholder: "name", class: "metadata-name" }),
    make("input", { "aria-label": `Value of metadata ${number}`, placeholder: "value", class: "metadata-value" }), remove);
  row.children[0].value = name;
  row.children[1].value = value;
  remove.addEventListener("click", () => { row.remove(); element("metadata-add").focus(); showCopy(); });
  element("metadata-rows").append(row);
  return row;
}

const metadata = () => [...element("metadata-rows").children]
  .map((row) => [row.children[0].value.trim().toLowerCase(), row.children[1].value])
  .filter(([name, value]) => name || value);

/** The metadata as the history and copies may show it. */
const shownMetadata = () => (element("with-secrets").checked ? metadata() : hideSecrets(metadata()));

// -- a call -----------------------------------------------------------------------------------------------------------

function showButtons() {
  const call = state.call, kind = state.form?.method.kind;
  const isOpen = Boolean(call && STREAMS.has(call.kind) && !call.hasEnded);
  element("send").textContent = isOpen ? "Send a message" : STREAMS.has(kind) ? "Begin with this message" : "Call";
  // Until its id is here, a call cannot be told anything.
  element("send").disabled = !kind || Boolean(call && !(isOpen && call.id));
  element("end").disabled = !call?.id;
  element("begin").hidden = Boolean(call) || !STREAMS.has(kind);
  element("end").hidden = !isOpen;
  element("cancel").disabled = !call;
  for (const id of ["call-service", "call-method"]) element(id).disabled = Boolean(call);
}

/** A button that is switched off loses the keyboard: give it to the one that comes next. */
function keepFocus(wasAt, next) {
  if (wasAt?.disabled || wasAt?.hidden || wasAt === document.body) element(next).focus();
}

async function send() {
  problem(null, "view-problem");
  let text;
  try {
    text = messageText();
  } catch (error) {
    if (!(error instanceof FormProblem)) throw error;
    error.input?.setAttribute("aria-invalid", "true");
    error.input?.focus();
    problem(error, "view-problem");
    return;
  }
  if (state.call) {
    state.call.messages.push(text);
    showCopy();
    await say({ do: "send", message: text });
  } else {
    await begin([text]);
  }
}

const say = (line) => post(`/console/calls/${state.call.id}`, line);

async function begin(messages) {
  const { kind } = state.form.method;
  if (metadata().some(([, value]) => value === HIDDEN)) {
    throw new Error(`Some metadata was not kept in the history: write its value in place of ${HIDDEN}.`);
  }
  const call = {
    id: "", kind, path: path(), hasEnded: !STREAMS.has(kind), messages, count: 0, size: 0, dropped: 0,
    metadata: shownMetadata(), deadline: element("deadline").value, time: Date.now() / 1000, abort: new AbortController(),
  };
  const wasAt = document.activeElement;
  state.call = call;
  showButtons();
  keepFocus(wasAt, "cancel");
  clearResult();
  if (matchMedia("(max-width: 60rem)").matches) element("result").scrollIntoView({ block: "start" });
  try {
    const [, service, method] = call.path.split("/");
    const response = await post("/console/calls", {
      do: "call", service, method, metadata: metadata(), timeout: call.deadline, messages, is_whole: call.hasEnded,
    }, { signal: call.abort.signal });
    for await (const event of linesOf(response)) SHOWN[event.is]?.(event, call);
    if (!call.status) throw new Error("The bridge ended the connection before the call had its status.");
  } catch (error) {
    if (!call.status) status("bad", `No status: ${error.message}`);
    throw error;
  } finally {
    const before = document.activeElement;
    state.call = null;
    state.last = call;
    showButtons();
    if (before === element("cancel") || before === element("end")) keepFocus(before, "send");
    keep(call);
    showCopy();
  }
}

function keep({ time, path: called, kind, metadata: shown, deadline, messages, status: code, seconds }) {
  remember({ time, path: called, kind, metadata: shown, deadline, messages, status: code ?? "", seconds });
  showHistory();
}

// -- what comes back --------------------------------------------------------------------------------------------------

function clearResult() {
  for (const id of ["call-stages", "call-details", "call-headers", "call-messages", "call-trailers"]) {
    element(id).replaceChildren();
  }
  status("", "Under way…");
}

function status(kind, text, more = "") {
  element("call-status").replaceChildren(make("strong", { class: kind || undefined }, text), more ? ` ${more}` : "");
}

const after = (at) => `after ${duration(at)}`;

/** What is done with each event, by its kind. */
const SHOWN = {
  begun: (event, call) => { call.id = event.id; showButtons(); },
  refused: (event, call) => { call.status = "not sent"; status("bad", "Not sent.", event.text); },
  failed: (event, call) => { call.status = "no status"; status("bad", "No status.", event.text); },
  sent: (event, call) => {
    const title = `→ message ${event.number} sent, ${size(event.size)}, ${after(event.at)}`;
    // Of a single message nothing need be said again: it stands in the form.
    note(call, title, "sent", STREAMS.has(call.kind) ? pretty(call.messages[event.number - 1] ?? "") : "");
  },
  not_sent: (event, call) => { call.messages.pop(); problem(new Error(`Not sent: ${event.text}`), "view-problem"); },
  headers: (event) => element("call-headers").replaceChildren(...entriesOf("Headers", event.metadata, after(event.at))),
  message: (event, call) => {
    const title = `← message ${event.number}, ${size(event.size)}, ${after(event.at)}`;
    note(call, title, "came", event.json === null ? `${event.problem}\n${event.base64}`.trim() : pretty(event.json));
  },
  ended: (event, call) => {
    call.status = event.name;
    call.seconds = event.at;
    status(event.code === 0 ? "good" : "bad", event.name, [event.message, after(event.at)].filter(Boolean).join(" · "));
    if (event.stages) element("call-stages").replaceChildren(...stagesOf(event.stages));
    if (event.details.length) {
      element("call-details").replaceChildren(make("h4", {}, "Details"),
        ...event.details.map((detail) => make("pre", { tabindex: "0" }, JSON.stringify(detail, null, 2))));
    }
    element("call-trailers").replaceChildren(...entriesOf("Trailers", event.metadata, ""));
  },
};

function entriesOf(title, pairs, more) {
  const shown = pairs.length
    ? make("dl", { class: "metadata" }, ...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]))
    : make("p", { class: "dim" }, "none");
  return [make("h4", {}, title, " ", make("span", { class: "dim" }, more)), shown];
}

/** Add to the messages. The oldest ones go when there are too many. */
function note(call, title, kind, text = "") {
  const log = element("call-messages");
  const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const entry = make("div", { class: `entry ${kind}` }, make("p", {}, title));
  if (text) entry.append(...longText(text));
  entry.dataset.size = text.length;
  log.append(entry);
  call.count += 1;
  call.size += text.length;
  while (call.count > MOST_SHOWN || (call.size > MOST_TEXT && call.count > 1)) {
    const oldest = log.querySelector(".entry");
    call.size -= Number(oldest.dataset.size);
    call.count -= 1;
    call.dropped += 1;
    oldest.remove();
    const line = log.querySelector(".dropped") ?? make("p", { class: "dropped dim" });
    line.textContent = `${call.dropped} older messages are no longer shown.`;
    log.prepend(line);
  }
  if (isAtEnd) log.scrollTop = log.scrollHeight;
}

function longText(text) {
  const shown = make("pre", { tabindex: "0" }, text.slice(0, LONG));
  if (text.length <= LONG) return [shown];
  const more = make("button", { type: "button" }, `Show all ${text.length.toLocaleString("en")} characters`);
  more.addEventListener("click", () => { shown.textContent = text; more.remove(); shown.focus(); });
  return [shown, more];
}

/** Where the time went: a bar whose parts are also words. */
function stagesOf(stages) {
  const rest = Math.max(0, stages.total - stages.queued - stages.upstream);
  const all = [
    ["Queue", stages.queued, "b"], [stages.cold_start ? "Target, with a cold start" : "Target", stages.upstream, "a"],
    ["Bridge and waits", rest, "f"],
  ];
  const parts = all.filter(([, seconds]) => seconds > 0);
  const bar = make("div", { class: "bar", "aria-hidden": "true" }, ...parts.map(([, seconds, colour]) =>
    make("i", { class: colour, "data-part": Math.round((seconds / (stages.total || 1)) * 100) })));
  for (const part of bar.children) part.style.flexGrow = part.dataset.part;
  const legend = make("ul", { class: "legend" }, ...all.map(([name, seconds, colour]) =>
    make("li", {}, make("i", { class: colour }), `${name} ${duration(seconds)}`)));
  const facts = {
    Target: stages.target || "the bridge itself", Attempts: stages.attempts, "Cold start": stages.cold_start ? "yes" : "none reported",
    Tenant: stages.tenant, "AWS request id": stages.request_id,
  };
  const shown = Object.entries(facts).filter(([, value]) => value !== "");
  return [make("h4", {}, "Time"), bar, legend,
    make("dl", { class: "metadata" }, ...shown.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]))];
}

// -- copies -----------------------------------------------------------------------------------------------------------

function showCopy() {
  const place = element("copy-text");
  if (!state.form || !LISTENER) {
    place.textContent = "";
    return;
  }
  let messages;
  try {
    messages = state.call?.messages ?? [messageText()];
    const { last } = state;
    if (!state.call && last?.path === path() && last.messages.at(-1) === messages[0]) messages = last.messages;
  } catch (error) {
    place.textContent = error.message;
    return;
  }
  place.textContent = copyAs(element("copy-as").value, {
    listener: LISTENER, path: path(), metadata: shownMetadata(), deadline: element("deadline").value,
    messages: messages.map(compact), kind: state.form.method.kind,
  });
}

async function copy() {
  showCopy();
  const hidden = !element("with-secrets").checked && metadata().some((entry) => entry[1] && isSecret(entry));
  try {
    await navigator.clipboard.writeText(element("copy-text").textContent);
    element("copied").textContent = hidden ? `copied; some metadata is ${HIDDEN}` : "copied";
  } catch {
    getSelection().selectAllChildren(element("copy-text"));
    element("copied").textContent = "selected: copy it with the keyboard";
  }
}

// -- history ----------------------------------------------------------------------------------------------------------

function showHistory() {
  const all = entries();
  element("history-list").replaceChildren(...all.map((entry) => {
    const again = make("button", { type: "button", class: "link" }, entry.path);
    again.addEventListener("click", safely(() => restore(entry)));
    const kind = entry.status === "OK" ? "good" : "bad";
    const took = entry.seconds === undefined ? "" : duration(entry.seconds);
    return make("li", {}, again, " ", make("span", { class: kind }, String(entry.status)),
      make("span", { class: "dim" }, ` ${clock(entry.time)} ${took}`));
  }));
  element("history-clear").disabled = !all.length;
}

async function restore(entry) {
  if (state.call) throw new Error("A call is under way: wait for its end, or cancel it.");
  const [, service, method] = entry.path.split("/");
  if (!state.services.some(({ name }) => name === service)) element("call-service").append(option(service));
  await choose(service, method);
  if (element("call-method").value !== method) throw new Error(`${entry.path} is no longer offered.`);
  element("metadata-rows").replaceChildren();
  for (const [name, value] of entry.metadata ?? []) addMetadata(name, value);
  element("deadline").value = entry.deadline ?? "";
  const text = entry.messages?.[0] ?? "{}";
  element("json").value = pretty(text);
  setView("json");
  try {
    if (state.message.write(parseExact(text))) setView("form");
  } catch {
    // It was no JSON: it stays as it was typed.
  }
  if (entry.isCut) problem(new Error("The message was too large for the history: write it again."), "view-problem");
  else if (entry.messages?.length > 1) {
    problem(new Error(`The request had ${entry.messages.length} messages. This is the first one.`), "view-problem");
  }
  showCopy();
  element("send").focus();
}

// -- the page ---------------------------------------------------------------------------------------------------------

let isLoaded = false;

const isShown = () => location.hash === "#/console" || location.hash.startsWith("#/console?");

async function show() {
  if (!isShown() || !TOKEN) return;
  if (!isLoaded) {
    isLoaded = true;
    showHistory();
    await loadServices();
    return;
  }
  const { service, method } = wanted();
  if (service && !state.call && `/${service}/${method}` !== path()) await choose(service, method);
}

if (TOKEN) {
  element("call-service").addEventListener("change", safely(() => choose(element("call-service").value)));
  element("call-method").addEventListener("change", safely(() =>
    chooseMethod(element("call-service").value, element("call-method").value)));
  for (const id of ["as-form", "as-json"]) element(id).addEventListener("change", switchView);
  element("metadata-add").addEventListener("click", () => addMetadata().children[0].focus());
  element("call").addEventListener("submit", (event) => { event.preventDefault(); safely(send)(event); });
  element("call").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.ctrlKey && !element("send").disabled) safely(send)(event);
  });
  for (const kind of ["input", "change", "click"]) element("call").addEventListener(kind, () => showCopy());
  element("begin").addEventListener("click", safely(() => begin([])));
  element("end").addEventListener("click", safely(async () => {
    await say({ do: "end" });
    if (!state.call) return;
    state.call.hasEnded = true;
    const wasAt = document.activeElement;
    showButtons();
    keepFocus(wasAt, "cancel");
  }));
  element("cancel").addEventListener("click", safely(async () => {
    const { call } = state;
    if (call?.id) await say({ do: "cancel" });
    else call?.abort.abort();
  }));
  element("copy-as").addEventListener("change", showCopy);
  element("with-secrets").addEventListener("change", showCopy);
  element("copy").addEventListener("click", copy);
  element("history-clear").addEventListener("click", () => { clearHistory(); showHistory(); });
} else {
  for (const each of document.querySelectorAll(".console-on")) each.hidden = true;
  element("console-off").hidden = false;
  element("console-off").textContent = `The call console is off: ${meta("console-off")}.`;
}
addEventListener("hashchange", safely(show));
safely(show)();
