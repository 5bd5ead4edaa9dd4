// Who moved: the documents that both lists show, and the lines between them.

import { drawn, element } from "./dom.js";

/** `{doc_id, from, to, way}` of every document in both lists; ranks from 1, `way` is up, down or same. */
export function moves(first, results) {
  const ranks = new Map(results.map((result) => [result.doc_id, result.rank]));
  return first
    .filter(({ doc_id }) => ranks.has(doc_id))
    .map(({ doc_id, rank }) => ({ doc_id, from: rank, to: ranks.get(doc_id), way: way(rank, ranks.get(doc_id)) }));
}

/** Which way it went. */
export function way(from, to) {
  return to < from ? "up" : to > from ? "down" : "same";
}

/** How many of so many shown results went each way, in words. */
export function counted(all, results) {
  const count = (name) => all.filter((move) => move.way === name).length;
  const below = results - all.length;
  if (count("same") === results) return "Reranking kept their order.";
  const came = below ? `, ${below} came from below` : "";
  return `${count("up")} moved up, ${count("down")} down, ${count("same")} stayed${came}.`;
}

/** A movement as a sign with a number, and in words for those who hear it. */
export function sign(from, to) {
  const name = way(from, to);
  const steps = Math.abs(from - to);
  const shown = { up: `▲ ${steps}`, down: `▼ ${steps}`, same: "=" }[name];
  const said = { up: `up ${steps}, was ${from}`, down: `down ${steps}, was ${from}`, same: "not moved" }[name];
  return element(
    "span",
    { class: `sign ${name}`, title: said },
    element("span", { "aria-hidden": "true" }, shown),
    element("span", { class: "hidden" }, said),
  );
}

/**
 * Draw a line for each movement into `svg`, which lies between the lists and is as high as they are.
 *
 * `leftOf` and `rightOf` give the element of a document in each list. Up is whole, down is dashed, both have an arrow.
 */
export function drawLines(svg, all, leftOf, rightOf) {
  const box = svg.getBoundingClientRect();
  const height = (item) => {
    const place = item.querySelector(".rank").getBoundingClientRect();
    return place.top + place.height / 2 - box.top;
  };
  const lines = all.map(({ doc_id, way: name }) => {
    const [y1, y2] = [height(leftOf(doc_id)), height(rightOf(doc_id))];
    const [x1, x2] = [2, box.width - (name === "same" ? 2 : 7)];
    const bend = (x2 - x1) * 0.45;
    const d = `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`;
    const marker = name === "same" ? null : `url(#arrow-${name})`;
    return drawn("path", { class: `line ${name}`, "data-doc": doc_id, d, "marker-end": marker });
  });
  // What did not move lies below.
  const rank = (line) => (line.classList.contains("same") ? 0 : 1);
  svg.replaceChildren(arrows(), ...lines.sort((one, other) => rank(one) - rank(other)));
}

function arrows() {
  const arrow = (name) =>
    drawn(
      "marker",
      { id: `arrow-${name}`, viewBox: "0 0 8 8", refX: 2, refY: 4, markerWidth: 8, markerHeight: 8, orient: "auto", markerUnits: "userSpaceOnUse" },
      drawn("path", { class: `head ${name}`, d: "M0 0L8 4L0 8Z" }),
    );
  return drawn("defs", {}, arrow("up"), arrow("down"));
}
