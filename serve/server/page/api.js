// Asking the server. A refusal becomes a `Problem` in words; where a key is wanted, it is asked for and kept for the tab.

const KEPT = "secondstage.key";

/** What went wrong, in words; `status` is 0 where no answer came. */
export class Problem extends Error {
  constructor(words, status = 0) {
    super(words);
    this.status = status;
  }
}

/**
 * The answer to a request: JSON, or null where there is none. With a body it is a POST.
 *
 * `wantKey(words)` gives a key or, if the user has none, null. It is called on every 401.
 */
export async function ask(path, { body, signal, wantKey } = {}) {
  for (;;) {
    const key = sessionStorage.getItem(KEPT);
    const response = await sent(path, body, signal, key);
    if (response.ok) return response.status === 204 ? null : response.json();
    const problem = new Problem(await refusal(response), response.status);
    if (response.status !== 401 || !wantKey) throw problem;
    // Another request may have got a key meanwhile.
    if (sessionStorage.getItem(KEPT) !== key) continue;
    const given = await wantKey(key ? "The server did not accept this key." : "");
    if (!given) throw problem;
    sessionStorage.setItem(KEPT, given);
  }
}

async function sent(path, body, signal, key) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  if (body) headers["Content-Type"] = "application/json";
  try {
    return await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    const away = navigator.onLine ? "The server does not answer. Is it running?" : "This computer is offline.";
    throw new Problem(away);
  }
}

async function refusal(response) {
  const wait = response.headers.get("Retry-After");
  const later = wait && /^\d+$/.test(wait) ? ` Try again in ${wait} s.` : "";
  let said = "";
  try {
    said = inWords(await response.json());
  } catch {
    // Not JSON: a proxy may have answered.
  }
  return (said || `The server answered with status ${response.status}.`) + later;
}

/** The words of an error in any of the shapes that rerank APIs have. */
export function inWords(said) {
  if (typeof said === "string") return said;
  if (Array.isArray(said)) return said.map(inWords).filter(Boolean).join("; ");
  if (said === null || typeof said !== "object") return "";
  const where = Array.isArray(said.loc) ? said.loc.filter((part) => part !== "body").join(".") : "";
  const words = ["message", "detail", "error", "msg"].map((name) => inWords(said[name])).find(Boolean) ?? "";
  return where && words ? `${where}: ${words}` : words;
}
