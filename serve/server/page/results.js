// The two lists: their items, how one is opened, and what is kept as its judgement.

import { element, number } from "./dom.js";
import { sign } from "./moves.js";
import { excerpt, marked } from "./words.js";

export const GRADES = ["not relevant", "relevant", "very relevant", "perfect"];

/** What the first stage found, in its order: `[{doc_id, title, text, score, rank, to}]`; `to` is the rank after reranking. */
export function firstItems(answer) {
  const found = new Map(answer.results.map((result) => [result.doc_id, result]));
  return (answer.first_stage ?? []).map((item) => {
    const result = found.get(item.doc_id);
    return { ...item, text: result?.text, to: result?.rank };
  });
}

/** An item of the left list. */
export function firstItem(item, words, shown) {
  const { doc_id, rank, score, to } = item;
  const where = to === undefined ? "not in the answer" : to > shown ? `now at ${to}` : null;
  const facts = typeof score === "number" ? [element("span", {}, fact("score", number(score, 3)))] : [];
  if (where) facts.push(element("span", { class: "gone" }, where));
  return listItem({ ...item, side: "first", rank }, words, null, facts, doc_id);
}

/** An item of the right list. */
export function finalItem(result, words) {
  const { rank, first_stage_rank: from, reranker_score: read, probability } = result;
  const facts = [
    element("span", {}, fact("fused", number(result.score, 3))),
    element("span", {}, fact("reranker", typeof read === "number" ? number(read, 2) : "did not read it")),
  ];
  if (typeof probability === "number") facts.push(element("span", {}, fact("probability", `${number(100 * probability)} %`)));
  return listItem({ ...result, side: "final" }, words, sign(from, rank), facts, result.doc_id);
}

function fact(name, value) {
  const nodes = document.createDocumentFragment();
  nodes.append(`${name} `, element("b", {}, value));
  return nodes;
}

function listItem(item, words, moved, facts, docId) {
  const { side, rank, title, text } = item;
  const id = `${side}-${rank}`;
  const name = title?.trim() || (text ? excerpt(text, [], 80) : docId);
  const opener = element(
    "button",
    { class: "opener", type: "button", "aria-expanded": "false", "aria-controls": `${id}-full`, dir: "auto" },
    marked(name, words),
  );
  const teaser = text ? element("p", { class: "teaser", dir: "auto" }, marked(excerpt(text, words), words)) : null;
  return element(
    "li",
    { class: "item", "data-doc": docId, "data-side": side },
    element("span", { class: "rank", "aria-hidden": "true" }, String(rank)),
    element(
      "div",
      { class: "body" },
      element("h3", {}, element("span", { class: "hidden" }, `${rank}. `), opener),
      teaser,
      element("div", { class: "full", id: `${id}-full`, hidden: true }),
      element("div", { class: "foot" }, element("p", { class: "facts-line" }, moved, ...facts), judging()),
    ),
  );
}

function judging() {
  const button = (grade, words) =>
    element("button", { class: "judge", type: "button", "data-grade": grade, "aria-pressed": "false" }, words);
  return element(
    "div",
    { class: "judging", role: "group", "aria-label": "Judge this document" },
    button(1, "relevant"),
    button(0, "not relevant"),
    element("span", { class: "became", role: "status" }),
  );
}

/** Open or close an item; the text is put in when it is first opened. */
export function toggle(item, { doc_id, text }, words) {
  const opener = item.querySelector(".opener");
  const open = opener.getAttribute("aria-expanded") !== "true";
  const full = item.querySelector(".full");
  if (open && !full.hasChildNodes()) {
    const whole = text ? marked(text, words) : "The answer holds no text of this document.";
    full.append(element("p", { dir: "auto" }, whole), element("p", { class: "id" }, `document ${doc_id}`));
  }
  opener.setAttribute("aria-expanded", String(open));
  full.hidden = !open;
  const teaser = item.querySelector(".teaser");
  if (teaser) teaser.hidden = open;
}

/** Show what became of a judgement: `{relevance, state, words}`; `state` is sending, kept or failed. */
export function showJudgement(item, { relevance, state, words }) {
  for (const button of item.querySelectorAll(".judge")) {
    const chosen = state !== "failed" && (relevance > 0) === (button.dataset.grade === "1");
    button.setAttribute("aria-pressed", String(chosen));
  }
  const became = item.querySelector(".became");
  became.className = `became ${state}`;
  became.textContent = { sending: "keeping …", kept: `✓ kept: ${relevance}, ${GRADES[relevance]}`, failed: `Not kept: ${words}` }[state];
}
