// How long each stage took: a bar, with the numbers beside it.

import { element, number } from "./dom.js";

const NAMES = { first_stage: "first stage", queue: "queue", rerank: "rerank", rest: "rest" };

/** `[[name, milliseconds]]` of the stages, in their order; what the total leaves over is the rest. */
export function stages(milliseconds) {
  const known = Object.keys(NAMES).filter((name) => Number.isFinite(milliseconds[name]));
  const parts = known.map((name) => [name, milliseconds[name]]);
  const sum = parts.reduce((total, [, value]) => total + value, 0);
  const rest = (milliseconds.total ?? sum) - sum;
  return rest >= 0.5 ? [...parts, ["rest", rest]] : parts;
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
