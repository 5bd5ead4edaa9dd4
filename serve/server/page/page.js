// The page: what is asked, what is shown, and the keys.

import { ask } from "./api.js";
import { debounced, element, number } from "./dom.js";
import { wantKey } from "./keyasking.js";
import { counted, drawLines, moves } from "./moves.js";
import { finalItem, firstItem, firstItems, showJudgement, toggle } from "./results.js";
import { timing } from "./timing.js";
import { queryWords } from "./words.js";

const AT_FIRST = 10;
const PROBABLE = 0.5;
const at = (id) => document.getElementById(id);
const [box, slider, lists] = [at("box"), at("depth"), at("lists")];

// `answer` is what is shown, `query` what it answers; `judged` holds its judgements by document, `marked` is a document.
const now = { deepest: null, controller: null, query: "", answer: null, shown: AT_FIRST, judged: new Map(), marked: null };

// --- asking

async function start() {
  const parameters = new URLSearchParams(location.search);
  box.value = parameters.get("q") ?? "";
  try {
    about(await ask("info", { wantKey }), Number(parameters.get("depth")));
  } catch {
    // The search says what is wrong; without the depth there is no slider.
  }
  search();
}

function about(info, depth) {
  at("about").textContent = [info.name?.replace(/^secondstage-/, "bundle "), `${number(info.documents)} documents`, info.backend].filter(Boolean).join(" · ");
  if (info.verdict) at("about").title = info.verdict.sentence;
  // Where none are kept there are no buttons; who judges by a key is told why it was not kept.
  lists.classList.toggle("unjudged", info.judgements === false);
  now.deepest = info.depth;
  slider.max = info.depth;
  slider.value = depth >= 1 && depth <= info.depth ? depth : info.depth;
  slider.disabled = info.depth < 2;
  showDepth();
}

/** The request for what the page shows now. All candidates are asked for: so each one's text and place are known. */
function request(query) {
  const asked = { query, top_n: now.deepest ?? AT_FIRST, explain: true };
  if (lowered()) asked.depth = Number(slider.value);
  if (at("min").checked) asked.min_score = PROBABLE;
  return asked;
}

function lowered() {
  return now.deepest !== null && Number(slider.value) !== now.deepest;
}

async function search() {
  const query = box.value.trim();
  now.controller?.abort();
  if (!query) return nothingYet();
  const controller = (now.controller = new AbortController());
  lists.setAttribute("aria-busy", "true");
  at("message").replaceChildren();
  at("timing").replaceChildren();
  tell("Searching …");
  try {
    show(query, await ask("search", { body: request(query), signal: controller.signal, wantKey }));
  } catch (error) {
    if (controller.signal.aborted) return;
    wrong(error);
  } finally {
    if (now.controller === controller) lists.removeAttribute("aria-busy");
  }
}

/** The address holds the query and, unless it is the bundle's own, the depth. */
function address() {
  const parameters = new URLSearchParams();
  if (box.value.trim()) parameters.set("q", box.value.trim());
  if (lowered()) parameters.set("depth", slider.value);
  const text = parameters.toString();
  return location.pathname + (text && `?${text}`);
}

// --- showing

function tell(words) {
  at("status").textContent = words;
}

function message(...nodes) {
  at("found").hidden = true;
  at("message").replaceChildren(...nodes);
}

function nothingYet() {
  now.answer = null;
  document.title = "secondstage";
  tell("");
  message(
    element("p", {}, "Type a query: on the left what the first stage finds, on the right the order after reranking, and lines that show who moved."),
    element("p", { class: "soft" }, element("kbd", {}, "/"), " to type, ", element("kbd", {}, "?"), " for all keys."),
  );
}

function wrong(error) {
  const words = error.message || String(error);
  tell("");
  const again = element("button", { type: "button" }, "Try again");
  again.addEventListener("click", search);
  message(element("p", { class: "refused", role: "alert" }, words), element("p", {}, again));
}

function show(query, answer) {
  if (query !== now.query) [now.shown, now.judged, now.marked] = [AT_FIRST, new Map(), null];
  [now.query, now.answer] = [query, answer];
  document.title = `${query} – secondstage`;
  at("depth-used").textContent = slider.disabled ? "" : `${answer.depth} reranked`;
  at("timing").replaceChildren(timing(answer.milliseconds));
  if (!answer.results.length) {
    tell("");
    const none = at("min").checked ? `No result has a probability of ${100 * PROBABLE} %.` : "Nothing found. Other words may help.";
    return message(element("p", { role: "status" }, none));
  }
  at("message").replaceChildren();
  at("found").hidden = false;
  showVerdict(answer);
  showLists();
}

function showVerdict({ answerable, confidence, fell_back }) {
  const sure = typeof confidence === "number" ? ` (confidence ${number(confidence, 2)})` : "";
  const said = [];
  if (!answerable) said.push(`Probably no relevant document${sure}: below the threshold that was chosen on dev queries.`);
  else if (sure) said.push(`A relevant document is probably among these${sure}.`);
  if (fell_back) said.push("This is the first stage's order: the gate or the time limit would not have another.");
  at("verdict").hidden = !said.length;
  at("verdict").className = answerable ? "banner" : "banner refused";
  at("verdict").textContent = said.join(" ");
}

function shownItems() {
  const { answer, shown } = now;
  return { first: firstItems(answer).slice(0, shown), final: answer.results.slice(0, shown) };
}

function showLists() {
  const { answer, query, shown } = now;
  const words = queryWords(query);
  const { first, final } = shownItems();
  at("first").replaceChildren(...first.map((item) => firstItem(item, words, shown)));
  at("final").replaceChildren(...final.map((result) => finalItem(result, words)));
  // Equal ranks lie side by side: both lists share the rows of one grid.
  lists.style.setProperty("--rows", Math.max(first.length, final.length));
  const most = Math.max(answer.results.length, answer.first_stage?.length ?? 0);
  const part = final.length < answer.results.length ? `The first ${final.length} of ${answer.results.length}` : `${final.length} found`;
  tell(`${part}: ${counted(moves(first, final), final.length)}`);
  at("more").hidden = most <= AT_FIRST;
  at("more").textContent = shown < most ? `Show all ${most}` : `Show the first ${AT_FIRST}`;
  for (const docId of now.judged.keys()) showJudgements(docId);
  draw();
}

function draw() {
  if (!now.answer || at("found").hidden) return;
  const { first, final } = shownItems();
  drawLines(at("lines"), moves(first, final), (docId) => itemOf("first", docId), (docId) => itemOf("final", docId));
  mark(now.marked);
}

// --- one document

function itemOf(side, docId) {
  return [...at(side).children].find((item) => item.dataset.doc === docId);
}

function itemsOf(docId) {
  return [itemOf("first", docId), itemOf("final", docId)].filter(Boolean);
}

function open(item) {
  const of = item.dataset.side === "first" ? firstItems(now.answer) : now.answer.results;
  toggle(item, of.find(({ doc_id }) => doc_id === item.dataset.doc), queryWords(now.query));
}

function showJudgements(docId) {
  for (const item of itemsOf(docId)) showJudgement(item, now.judged.get(docId));
}

async function judge(docId, relevance) {
  const { judged, query, answer } = now;
  const became = (state, words) => {
    judged.set(docId, { relevance, state, words });
    if (judged === now.judged) showJudgements(docId);
  };
  became("sending");
  try {
    const body = { id: answer.id, query, doc_id: docId, relevance, kind: "judgement" };
    await ask("judgements", { body, wantKey });
    became("kept");
  } catch (error) {
    became("failed", error.message);
  }
}

/** The same document is marked in both lists, and its line with it: again whenever these are made anew. */
function mark(docId) {
  now.marked = docId;
  for (const item of lists.querySelectorAll("[data-doc]")) item.classList.toggle("same-document", item.dataset.doc === docId);
}

// --- the keyboard

function move(step) {
  const current = document.activeElement.closest?.(".item");
  const items = [...(current?.parentElement ?? at("final")).children];
  const next = current ? items[items.indexOf(current) + step] : items[0];
  next?.querySelector(".opener").focus();
}

function across(side) {
  const current = document.activeElement.closest?.(".item");
  if (!current || current.dataset.side === side) return;
  const rank = [...current.parentElement.children].indexOf(current);
  const other = itemOf(side, current.dataset.doc) ?? at(side).children[rank] ?? at(side).lastElementChild;
  other?.querySelector(".opener").focus();
}

const KEYS = {
  "/": () => box.select(),
  "?": () => at("help").showModal(),
  j: () => move(1),
  k: () => move(-1),
  h: () => across("first"),
  l: () => across("final"),
  ArrowDown: () => move(1),
  ArrowUp: () => move(-1),
  ArrowLeft: () => across("first"),
  ArrowRight: () => across("final"),
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector("dialog[open]")) return;
  const { target, key } = event;
  if (target === box && key !== "ArrowDown") return;
  if (target === slider && key.startsWith("Arrow")) return;
  const item = document.activeElement.closest?.(".item");
  if (item && /^[0-3]$/.test(key)) judge(item.dataset.doc, Number(key));
  // Arrows scroll the page until a result has the focus.
  else if (KEYS[key] && (item || target === box || !key.startsWith("Arrow"))) KEYS[key]();
  else return;
  event.preventDefault();
}

// --- what the user does

function showDepth() {
  at("depth-shown").textContent = slider.value;
}

const deeper = debounced(() => {
  history.replaceState(null, "", address());
  search();
}, 250);

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  history.pushState(null, "", address());
  search();
});
slider.addEventListener("input", () => {
  showDepth();
  deeper();
});
at("min").addEventListener("change", search);
at("more").addEventListener("click", () => {
  now.shown = now.shown === AT_FIRST ? Infinity : AT_FIRST;
  showLists();
});
at("help-button").addEventListener("click", () => at("help").showModal());
lists.addEventListener("click", ({ target }) => {
  const item = target.closest(".item");
  if (target.closest(".opener")) open(item);
  else if (target.closest(".judge")) judge(item.dataset.doc, Number(target.closest(".judge").dataset.grade));
});
for (const name of ["focusin", "pointerover"]) {
  lists.addEventListener(name, ({ target }) => mark(target.closest("[data-doc]")?.dataset.doc));
}
document.addEventListener("keydown", onKey);
window.addEventListener("popstate", () => {
  const parameters = new URLSearchParams(location.search);
  box.value = parameters.get("q") ?? "";
  slider.value = parameters.get("depth") ?? now.deepest ?? 1;
  showDepth();
  search();
});
new ResizeObserver(draw).observe(lists);
start();
