// JSON as text: pretty and compact without touching its numbers, and names that fit where the caret is.

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

/** Indent JSON. Numbers and the order of keys stay as they are. */
export function pretty(text) {
  const shown = [];
  let depth = 0, last = "";
  const newline = () => `\n${"  ".repeat(depth)}`;
  for (const [token] of text.matchAll(TOKEN)) {
    const isClose = token === "}" || token === "]";
    if (isClose) depth -= 1;
    if (last && (isClose ? last !== "{" && last !== "[" : last === "{" || last === "[" || last === ",")) shown.push(newline());
    shown.push(token === ":" ? ": " : token);
    if (token === "{" || token === "[") depth += 1;
    last = token;
  }
  return shown.join("");
}

/** Take out the white space, if the text is JSON. */
export function compact(text) {
  try {
    JSON.parse(text);
  } catch {
    return text.trim();
  }
  return (text.match(TOKEN) ?? []).join("");
}

/** The value of JSON. Integers that JavaScript would round come as texts. */
export function parseExact(text) {
  const exact = text.replace(/"(?:[^"\\]|\\.)*"|-?\d{16,}(?![\d.eE])/g,
    (token) => (token.startsWith('"') ? token : `"${token}"`));
  return JSON.parse(exact);
}

/** What the text is before the caret: the field or message that a name or value would be for. */
function contextAt(text, form) {
  const frames = [];
  let field = { type: "message", of: form.method.input };
  let last = "", open = null;
  for (const found of text.matchAll(/"(?:[^"\\]|\\.)*(?:"|$)|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    const [token] = found;
    const frame = frames.at(-1);
    const isString = token.startsWith('"');
    if (isString && found.index + token.length === text.length && (token.length === 1 || !token.endsWith('"'))) {
      open = token.slice(1);
      break;
    }
    if (!isString && !/[{}[\],:]/.test(token) && found.index + token.length === text.length) {
      open = token;
      break;
    }
    if (token === "{" || token === "[") {
      frames.push({ token, field, isKey: token === "{" });
    } else if (token === "}" || token === "]") {
      frames.pop();
    } else if (token === ",") {
      if (frame) frame.isKey = frame.token === "{";
      if (frame?.token === "[") field = frame.field;
    } else if (token === ":") {
      if (frame) {
        frame.isKey = false;
        field = memberOf(frame.field, last, form);
      }
    }
    if (token === "[" && field?.repeated) field = { ...field, repeated: false };
    last = isString ? token.slice(1, -1) : token;
  }
  return { frame: frames.at(-1), field, open };
}

function memberOf(field, name, form) {
  if (field?.key) return { type: field.type, of: field.of };
  return fieldsOf(field, form).find((each) => each.name === name || each.proto_name === name);
}

const fieldsOf = (field, form) => (field?.type === "message" && !field.key ? form.messages[field.of] ?? [] : []);

/** What fits at the caret: `{from, offers: [{text, note}]}`, where `text` replaces what stands after `from`. */
export function offersAt(text, caret, form) {
  const before = text.slice(0, caret);
  const { frame, field, open } = contextAt(before, form);
  const prefix = (open ?? "").toLowerCase();
  const isQuoted = open !== null && before.at(-open.length - 1) === '"';
  const from = caret - (open ?? "").length - (isQuoted ? 1 : 0);
  const isKey = frame?.token === "{" && frame.isKey;
  let offers = [];
  if (isKey) {
    offers = fieldsOf(frame.field, form).map((each) => ({ text: `"${each.name}": `, name: each.name, note: noteOf(each) }));
  } else if (field?.type === "enum") {
    offers = (form.enums[field.of] ?? []).map((name) => ({ text: `"${name}"`, name, note: "" }));
  } else if (field?.type === "bool") {
    offers = ["true", "false"].map((name) => ({ text: name, name, note: "" }));
  }
  const fits = ({ name }) => name.toLowerCase().startsWith(prefix);
  return { from, offers: offers.filter(fits).slice(0, 50) };
}

/** How a .proto file writes the type of a field, without the package. */
export function noteOf(field) {
  const type = field.of ? field.of.split(".").at(-1) : field.type;
  return field.key ? `map<${field.key}, ${type}>` : `${field.repeated ? "repeated " : ""}${type}`;
}

/** Offers names in a text area. The list belongs to it, for screen readers too. */
export class Completion {
  constructor(area, list) {
    this.area = area;
    this.list = list;
    this.form = null;
    this.chosen = 0;
    area.addEventListener("input", (event) => this.typed(event));
    area.addEventListener("keydown", (event) => this.press(event));
    area.addEventListener("blur", () => this.close());
  }

  get isOpen() { return !this.list.hidden; }

  typed(event) {
    const typed = event.data ?? "";
    if (this.isOpen || typed === '"' || /^\w$/.test(typed)) this.offer();
  }

  press(event) {
    if (event.key === " " && event.ctrlKey) {
      event.preventDefault();
      this.offer();
    } else if (this.isOpen && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      this.choose(this.chosen + (event.key === "ArrowDown" ? 1 : -1));
    } else if (this.isOpen && (event.key === "Enter" || event.key === "Tab") && !event.ctrlKey && !event.shiftKey) {
      event.preventDefault();
      this.take(this.offers[this.chosen]);
    } else if (this.isOpen && event.key === "Escape") {
      event.preventDefault();
      this.close();
    } else if (["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) {
      this.close();
    }
  }

  offer() {
    if (!this.form) return;
    const { from, offers } = offersAt(this.area.value, this.area.selectionStart, this.form);
    const typed = this.area.value.slice(from, this.area.selectionStart);
    if (!offers.length || (offers.length === 1 && offers[0].text.trim() === typed)) {
      this.close();
      return;
    }
    this.from = from;
    this.offers = offers;
    this.list.replaceChildren(...offers.map((offer, at) => this.option(offer, at)));
    this.list.hidden = false;
    this.choose(0);
  }

  option(offer, at) {
    const option = document.createElement("li");
    option.id = `json-name-${at}`;
    option.setAttribute("role", "option");
    const note = document.createElement("span");
    note.className = "dim";
    note.textContent = offer.note;
    option.append(offer.name, " ", note);
    option.addEventListener("pointerdown", (event) => {
      event.preventDefault(); // the text area keeps the focus
      this.take(offer);
    });
    return option;
  }

  choose(at) {
    this.chosen = (at + this.offers.length) % this.offers.length;
    [...this.list.children].forEach((option, each) => option.setAttribute("aria-selected", String(each === this.chosen)));
    this.list.children[this.chosen].scrollIntoView({ block: "nearest" });
    this.area.setAttribute("aria-activedescendant", `json-name-${this.chosen}`);
  }

  take(offer) {
    this.area.setRangeText(offer.text, this.from, this.area.selectionStart, "end");
    this.close();
    this.area.dispatchEvent(new Event("change"));
  }

  close() {
    this.list.hidden = true;
    this.area.removeAttribute("aria-activedescendant");
  }
}
