// How long each stage took: a bar, with the numbers beside it.

import { element, number } from "./dom.js";

const NAMES = { first_stage: "first stage", queue: "queue", rerank: "rerank", rest: "rest" };

/** `[[name, milliseconds]]` of the stages, in their order: reranking without its queue, and what the total leaves over. */
export function stages({ first_stage = 0, rerank = 0, queue = 0, total = 0 }) {
  const waited = Math.min(queue, rerank);
  const parts = { first_stage, queue: waited, rerank: rerank - waited, rest: total - first_stage - rerank };
  return Object.entries(parts).filter(([name, value]) => (name === "rest" ? value >= 0.5 : value > 0));
}

/** The bar and its numbers. */
export function timing(milliseconds) {
  const parts = stages(milliseconds);
  const bar = element("div", { class: "bar-of-stages", "aria-hidden": "true" });
  const list = element("ul", { class: "stages" });
  for (const [name, value] of parts) {
    const share = element("span", { class: `stage ${name}` });
    share.style.flexGrow = String(value);
    bar.append(share);
    list.append(
      element("li", {}, element("span", { class: `key ${name}`, "aria-hidden": "true" }), `${NAMES[name]} `, element("b", {}, digits(value))),
    );
  }
  list.append(element("li", { class: "total" }, "total ", element("b", {}, `${digits(milliseconds.total)} ms`)));
  return element("div", { class: "timing" }, bar, list);
}

function digits(value) {
  return number(value, value < 10 ? 1 : 0);
}
