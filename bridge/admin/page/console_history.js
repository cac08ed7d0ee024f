// The requests of this browser, the newest first. Their number and size are bounded.

const KEY = "console-history";
const MOST = 50;
const LARGEST = 32 << 10; // characters of one entry; a larger one is kept without its messages
const LARGEST_ALL = 512 << 10;

export function entries() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(found) ? found.filter((each) => typeof each?.path === "string").slice(0, MOST) : [];
  } catch {
    return []; // not ours, or the browser keeps nothing
  }
}

/** Keep a request: `{time, path, kind, metadata, deadline, messages, status, seconds}`. */
export function remember(entry) {
  const kept = JSON.stringify(entry).length > LARGEST ? { ...entry, messages: [], isCut: true } : entry;
  const all = [kept, ...entries()].slice(0, MOST);
  while (JSON.stringify(all).length > LARGEST_ALL) all.pop();
  save(all);
}

export const clear = () => save([]);

function save(all) {
  try {
    localStorage.setItem(KEY, JSON.stringify(all));
  } catch {
    // The browser keeps nothing: there is no history then.
  }
}
