// A form for a message, made from its descriptor. It reads and writes JSON text, so that no number is rounded.
//
// A control is `{node, read, write, focus}`: `read` returns JSON text, or undefined for nothing; it throws a FormProblem.
// `write` takes a JSON value, or undefined for nothing. It returns false if the control cannot show the value.
import { make } from "/page/page.js";
import { noteOf } from "/page/console_json.js";

/** Something in the form that is no value of its field. */
export class FormProblem extends Error {
  constructor(text, input) {
    super(text);
    this.input = input;
  }
}

let lastId = 0;
const newId = () => `field-${(lastId += 1)}`;

const WELL_KNOWN = "google.protobuf.";
const WRAPPED = {
  DoubleValue: "double", FloatValue: "float", Int64Value: "int64", UInt64Value: "uint64", Int32Value: "int32",
  UInt32Value: "uint32", BoolValue: "bool", StringValue: "string", BytesValue: "bytes",
};
const TEXTS = {
  Timestamp: { example: "2026-01-31T12:00:00Z", pattern: /^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)$/ },
  Duration: { example: "1.5s", pattern: /^-?\d{1,12}(\.\d{1,9})?s$/ },
  FieldMask: { example: "id,totalCents", pattern: /^[\w.,]*$/ },
};
const JSON_EXAMPLES = {
  Any: '{"@type": "type.googleapis.com/package.Message"}', Struct: '{"name": "value"}', Value: '"any JSON"',
  ListValue: "[1, 2]",
};
const EMPTY_JSON = {
  Any: "{}", Struct: "{}", ListValue: "[]", Value: "null", Empty: "{}", Timestamp: '"1970-01-01T00:00:00Z"',
  Duration: '"0s"', FieldMask: '""', BoolValue: "false", StringValue: '""', BytesValue: '""', DoubleValue: "0",
  FloatValue: "0", Int32Value: "0", UInt32Value: "0", Int64Value: '"0"', UInt64Value: '"0"',
};

const wellKnown = (name) => (name.startsWith(WELL_KNOWN) ? name.slice(WELL_KNOWN.length) : "");

// -- scalars ----------------------------------------------------------------------------------------------------------

const INTEGER = /^[+-]?\d+$/;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;
const BASE64 = /^[A-Za-z0-9+/_-]*={0,2}$/;
const is64 = (type) => type.endsWith("64");

/** The JSON of what was typed for a scalar of this type. */
function scalarText(type, typed, input) {
  const text = typed.trim();
  if (type === "string") return JSON.stringify(typed);
  if (type === "bytes") {
    if (!BASE64.test(text.replace(/\s/g, ""))) throw new FormProblem("is not base64", input);
    return JSON.stringify(text.replace(/\s/g, ""));
  }
  if (type === "double" || type === "float") {
    if (/^([+-]?Infinity|NaN)$/.test(text)) return JSON.stringify(text.replace("+", ""));
    if (!NUMBER.test(text)) throw new FormProblem("is not a number", input);
    return Number.isFinite(Number(text)) && JSON.stringify(Number(text)) === text ? text : JSON.stringify(text.replace("+", ""));
  }
  if (!INTEGER.test(text)) throw new FormProblem("is not a whole number", input);
  const plain = BigInt(text.replace("+", "")).toString();
  return is64(type) ? `"${plain}"` : plain;
}

function boolean({ id }) {
  const node = make("input", { type: "checkbox", id });
  return {
    node, input: node, isSet: () => node.checked, read: () => String(node.checked),
    write(value) { node.checked = value === true; return value === undefined || typeof value === "boolean"; },
  };
}

function choice({ id, names }) {
  const node = make("select", { id }, ...names.map((name) => make("option", { value: name }, name)));
  return {
    node, input: node, isSet: () => node.selectedIndex > 0, read: () => JSON.stringify(node.value),
    write(value) {
      node.value = value === undefined ? names[0] : String(value);
      return value === undefined || node.value === value;
    },
  };
}

function typed({ id, type }) {
  const isLong = type === "string" || type === "bytes";
  const node = make(isLong ? "textarea" : "input", {
    id, rows: isLong ? 1 : undefined, spellcheck: "false", inputmode: isLong ? undefined : "decimal",
    placeholder: type === "bytes" ? "base64" : undefined,
  });
  const grow = () => {
    if (isLong) node.rows = Math.min(8, Math.max(1, node.value.split("\n").length));
  };
  node.addEventListener("input", () => { node.removeAttribute("aria-invalid"); grow(); });
  return {
    node: type === "bytes" ? make("span", { class: "joined" }, node, encoder(node)) : node, input: node, isSet: () => node.value !== "", read: () => scalarText(type, node.value, node),
    write(value) {
      node.value = value === undefined ? "" : String(value);
      grow();
      return value === undefined || typeof value === "string" || (typeof value === "number" && !isLong);
    },
  };
}

/** A button that makes base64 of what was typed as text. */
function encoder(node) {
  const button = make("button", { type: "button", title: "Make base64 of this text" }, "encode");
  button.addEventListener("click", () => {
    node.value = btoa(String.fromCodePoint(...new TextEncoder().encode(node.value.slice(0, 50_000))));
    changed(node);
  });
  return button;
}

function scalar(type, of, id, form) {
  if (type === "bool") return boolean({ id });
  if (type === "enum") return choice({ id, names: form.enums[of] ?? [] });
  return typed({ id, type });
}

// -- one value of any type --------------------------------------------------------------------------------------------

/** A text with a format of its own: a Timestamp, a Duration, a FieldMask. */
function formatted(name, id) {
  const { example, pattern } = TEXTS[name];
  const input = make("input", { id, placeholder: example, spellcheck: "false" });
  const now = name === "Timestamp" ? make("button", { type: "button" }, "now") : undefined;
  now?.addEventListener("click", () => {
    input.value = new Date().toISOString();
    input.dispatchEvent(new Event("input", { bubbles: true }));
  });
  input.addEventListener("input", () => input.removeAttribute("aria-invalid"));
  return {
    node: make("span", { class: "joined" }, input, now), input, isSet: () => input.value.trim() !== "",
    read() {
      if (!pattern.test(input.value.trim())) throw new FormProblem(`is not like ${example}`, input);
      return JSON.stringify(input.value.trim());
    },
    write(value) { input.value = value ?? ""; return value === undefined || typeof value === "string"; },
  };
}

/** JSON of any form: a Struct, an Any, or a message whose fields are not known here. */
function json(id, example) {
  const node = make("textarea", { id, rows: 2, spellcheck: "false", placeholder: example });
  node.addEventListener("input", () => node.removeAttribute("aria-invalid"));
  return {
    node, input: node, isSet: () => node.value.trim() !== "",
    read() {
      try {
        JSON.parse(node.value);
      } catch {
        throw new FormProblem("is not JSON", node);
      }
      return node.value.trim();
    },
    write(value) { node.value = value === undefined ? "" : JSON.stringify(value); return true; },
  };
}

function nothing(id) {
  const node = make("input", { type: "checkbox", id });
  return {
    node, input: node, isSet: () => node.checked, read: () => "{}",
    write(value) { node.checked = value !== undefined; return true; },
  };
}

/** The control for one value: no list and no map. Its fields are made when they are first needed. */
function single({ type, of }, id, form) {
  if (type !== "message") return scalar(type, of, id, form);
  const known = wellKnown(of);
  if (known in WRAPPED) return { ...scalar(WRAPPED[known], "", id, form), hasPresence: true };
  if (known in TEXTS) return formatted(known, id);
  if (known === "Empty") return nothing(id);
  if (known || !form.messages[of]) return json(id, JSON_EXAMPLES[known] ?? "{}");
  return { ...fields(of, form), isGroup: true };
}

// -- fields -----------------------------------------------------------------------------------------------------------

const label = (field, id) => make("label", { for: id, title: field.of || undefined }, field.name, " ",
  make("span", { class: "dim" }, `${noteOf(field)}${field.required ? ", required" : ""}`));

/** A field with one value. With presence, a box says whether it is there although it holds its default. */
function plain(field, form) {
  const id = newId();
  const control = single(field, id, form);
  if (control.isGroup) return group(field, form);
  const { node, input } = control;
  const hasBox = (field.presence || control.hasPresence) && !field.oneof && ("rows" in input || input.type === "checkbox" ||
    input.tagName === "SELECT") && !(field.type === "message" && !control.hasPresence);
  if (!hasBox) {
    return {
      node: make("div", { class: "pair" }, label(field, id), node), focus: () => input.focus(),
      read: () => (control.isSet() ? control.read() : undefined), write: control.write, control,
    };
  }
  const box = make("input", { type: "checkbox", "aria-label": `Send ${field.name}` });
  for (const kind of ["input", "change"]) input.addEventListener(kind, () => { box.checked = true; });
  return {
    node: make("div", { class: "pair" }, label(field, id), make("span", { class: "joined" },
      make("label", { class: "box" }, box, " send"), node)),
    focus: () => input.focus(), read: () => (box.checked ? control.read() : undefined),
    write(value) { box.checked = value !== undefined; return control.write(value); }, control,
  };
}

/** A message in a message: added and removed as a whole. */
function group(field, form) {
  const place = make("div", { class: "nested" });
  const add = make("button", { type: "button" }, `Add ${field.name}`);
  const remove = make("button", { type: "button", hidden: "" }, `Remove ${field.name}`);
  let inner = null;
  const set = (isThere) => {
    inner = isThere ? fields(field.of, form) : null;
    place.replaceChildren(...(inner ? [inner.node] : []));
    add.hidden = isThere;
    remove.hidden = !isThere;
  };
  add.addEventListener("click", () => { set(true); (inner.hasFields ? inner : remove).focus(); changed(place); });
  remove.addEventListener("click", () => { set(false); add.focus(); changed(place); });
  return {
    node: make("fieldset", {}, make("legend", {}, field.name, " ", make("span", { class: "dim" }, noteOf(field))), place, add, remove),
    focus: () => (inner ?? add).focus(), read: () => inner?.read(),
    write(value) { set(value !== undefined); return value === undefined || inner.write(value); },
  };
}

const changed = (node) => node.dispatchEvent(new Event("input", { bubbles: true }));

/** Rows that are added and removed: of a list, or of a map. */
function rows(field, form, { newRow, name }) {
  const place = make("div", { class: "rows" });
  const add = make("button", { type: "button" }, `Add ${name}`);
  let all = [];
  const append = () => {
    const row = newRow(all.length + 1);
    const remove = make("button", { type: "button", "aria-label": `Remove ${name} ${all.length + 1}` }, "Remove");
    row.whole = make("div", { class: "row" }, row.node, remove);
    remove.addEventListener("click", () => {
      const at = all.indexOf(row);
      all = all.filter((each) => each !== row);
      row.whole.remove();
      (all[at] ?? all[at - 1])?.focus() ?? add.focus();
      if (!all.length) add.focus();
      changed(place);
    });
    all.push(row);
    place.append(row.whole);
    return row;
  };
  add.addEventListener("click", () => { append().focus(); changed(place); });
  const clear = () => { all = []; place.replaceChildren(); };
  return {
    node: make("fieldset", {}, make("legend", {}, field.name, " ", make("span", { class: "dim" }, noteOf(field))), place, add),
    focus: () => (all[0] ?? add).focus(), all: () => all, append, clear,
  };
}

function list(field, form) {
  const whole = rows(field, form, { name: field.name, newRow: (number) => item({ ...field, repeated: false }, number, form) });
  return {
    ...whole, read: () => (whole.all().length ? `[${whole.all().map((row) => row.read()).join(",")}]` : undefined),
    write(value) {
      whole.clear();
      return value === undefined || (Array.isArray(value) && value.every((each) => whole.append().write(each)));
    },
  };
}

/** One value of a list or a map: always there. */
function item(field, number, form) {
  const id = newId();
  const control = single(field, id, form);
  if (control.isGroup) {
    return { node: make("div", { class: "nested" }, make("span", { class: "dim" }, `${field.name} ${number}`), control.node),
      focus: control.focus, read: control.read, write: control.write };
  }
  control.input.setAttribute("aria-label", `${field.name} ${number}`);
  return { node: control.node, focus: () => control.input.focus(), read: control.read, write: control.write };
}

function map(field, form) {
  const newRow = (number) => {
    const key = scalar(field.key, "", newId(), form);
    key.input.setAttribute("aria-label", `${field.name} key ${number}`);
    const value = item({ name: `${field.name} value`, type: field.type, of: field.of }, number, form);
    const keyText = () => (field.key === "string" ? key.read() : JSON.stringify(key.read().replaceAll('"', "")));
    return {
      node: make("span", { class: "joined" }, key.node, value.node), focus: () => key.input.focus(),
      read: () => `${keyText()}:${value.read()}`,
      write: ([name, inner]) => key.write(field.key === "bool" ? name === "true" : name) && value.write(inner),
    };
  };
  const whole = rows(field, form, { name: field.name, newRow });
  return {
    ...whole, read: () => (whole.all().length ? `{${whole.all().map((row) => row.read()).join(",")}}` : undefined),
    write(value) {
      whole.clear();
      if (value === undefined) return true;
      return typeof value === "object" && value !== null && !Array.isArray(value)
        && Object.entries(value).every((entry) => whole.append().write(entry));
    },
  };
}

/** The fields of a oneof: at most one of them is sent. */
function oneof(name, members, form) {
  const id = newId();
  const select = make("select", { id }, make("option", { value: "" }, "none"),
    ...members.map((field) => make("option", { value: field.name }, field.name)));
  const place = make("div");
  let chosen = null;
  const choose = (which) => {
    const field = members.find((each) => each.name === which);
    select.value = field?.name ?? "";
    chosen = field ? member(field, form) : null;
    place.replaceChildren(...(chosen ? [chosen.node] : []));
  };
  select.addEventListener("change", () => choose(select.value));
  return {
    node: make("fieldset", {}, make("legend", {}, name, " ", make("span", { class: "dim" }, "oneof")),
      make("div", { class: "pair" }, make("label", { for: id }, "Which"), select), place),
    focus: () => select.focus(), choose,
    members: () => (chosen ? [[select.value, chosen.read()]] : []),
    write(which, value) { choose(which); return chosen === null || chosen.write(value); },
  };
}

/** A field of a oneof that was chosen: it is sent even if it holds its default. */
function member(field, form) {
  const id = newId();
  const control = single(field, id, form);
  if (control.isGroup) return { ...control, node: make("div", { class: "nested" }, control.node) };
  const isNeeded = field.type === "message" && !control.hasPresence && wellKnown(field.of) in EMPTY_JSON;
  return {
    node: make("div", { class: "pair" }, label(field, id), control.node), write: control.write,
    read: () => (isNeeded && !control.isSet() ? EMPTY_JSON[wellKnown(field.of)] : control.read()),
  };
}

/** All fields of a message. */
function fields(of, form) {
  const shown = [];
  const oneofs = new Map();
  for (const field of form.messages[of]) {
    if (field.oneof) {
      if (oneofs.has(field.oneof)) continue;
      const members = form.messages[of].filter((each) => each.oneof === field.oneof);
      const made = oneof(field.oneof, members, form);
      oneofs.set(field.oneof, made);
      shown.push({ made, members: () => made.members(), node: made.node, names: members });
      continue;
    }
    const made = field.key ? map(field, form) : field.repeated ? list(field, form) : plain(field, form);
    shown.push({ made, node: made.node, names: [field], members: () => [[field.name, made.read()]] });
  }
  const node = make("div", { class: "fields" }, ...shown.map((each) => each.node));
  if (!shown.length) node.append(make("p", { class: "dim" }, "no fields"));
  return {
    node, hasFields: shown.length > 0, focus: () => shown[0]?.made.focus(),
    read() {
      const members = shown.flatMap((each) => named(each)).filter(([, text]) => text !== undefined);
      return `{${members.map(([name, text]) => `${JSON.stringify(name)}:${text}`).join(",")}}`;
    },
    write: (value) => writeFields(shown, value),
  };
}

/** The members of a field. A problem in them says which field it is. */
function named({ members, names }) {
  try {
    return members();
  } catch (problem) {
    if (problem instanceof FormProblem) {
      const isInner = problem.message.includes(": ") || problem.message.includes(".");
      problem.message = `${names[0].oneof || names[0].name}${isInner && problem.isNamed ? "." : " "}${problem.message}`;
      problem.isNamed = true;
    }
    throw problem;
  }
}

function writeFields(shown, value) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const left = new Map(Object.entries(value));
  const take = (field) => {
    const name = left.has(field.name) ? field.name : field.proto_name;
    const found = left.get(name) ?? undefined;
    left.delete(name);
    return found;
  };
  let isWhole = true;
  for (const { made, names } of shown) {
    if (!names[0].oneof) {
      isWhole = made.write(take(names[0])) && isWhole;
      continue;
    }
    const given = names.map((field) => [field, take(field)]).filter(([, found]) => found !== undefined);
    isWhole = given.length <= 1 && made.write(given[0]?.[0].name ?? "", given[0]?.[1]) && isWhole;
  }
  return isWhole && left.size === 0;
}

// -- the whole --------------------------------------------------------------------------------------------------------

/** The form of a method's request. */
export function messageForm(form) {
  const of = form.method.input;
  if (form.messages[of] && !wellKnown(of)) return fields(of, form);
  const id = newId();
  const field = { name: of, type: "message", of };
  const control = single(field, id, { ...form, messages: {} });
  const empty = EMPTY_JSON[wellKnown(of)] ?? "{}";
  if (wellKnown(of) === "Empty") {
    return { node: make("p", { class: "dim" }, "The message has no fields."), focus() {}, read: () => "{}",
      write: (value) => typeof value === "object" && value !== null && Object.keys(value).length === 0 };
  }
  return {
    node: make("div", { class: "pair" }, make("label", { for: id }, of), control.node), focus: () => control.input.focus(),
    read: () => (control.isSet() ? control.read() : empty), write: control.write,
  };
}
