// The API, readable: openapi.json as one page.

import { ask } from "./api.js";
import { element } from "./dom.js";
import { wantKey } from "./keyasking.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const place = document.getElementById("api");
let document_ = null;

/** What a `$ref` refers to, or the schema itself. */
function found(schema) {
  const path = schema?.$ref?.split("/").slice(1) ?? null;
  return path ? path.reduce((inner, name) => inner?.[name], document_) ?? {} : schema ?? {};
}

/** A schema's type in a few words: `array of string`, `integer ≥ 1`, `A or B`. */
function kind(schema) {
  if (schema?.$ref) return schema.$ref.split("/").at(-1);
  const any = schema?.anyOf ?? schema?.oneOf;
  if (any) return any.map(kind).join(" or ");
  if (schema?.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if ("const" in (schema ?? {})) return JSON.stringify(schema.const);
  if (schema?.type === "array") return `array of ${kind(schema.items)}`;
  if (schema?.type === "object" && typeof schema.additionalProperties === "object") {
    return `object of ${kind(schema.additionalProperties)}`;
  }
  const bounds = [
    ["minimum", "≥"], ["exclusiveMinimum", ">"], ["maximum", "≤"], ["exclusiveMaximum", "<"], ["minLength", "length ≥"], ["maxLength", "length ≤"],
  ];
  const said = bounds.filter(([name]) => name in (schema ?? {})).map(([name, sign]) => `${sign} ${schema[name]}`);
  return [schema?.type ?? "any", ...said].join(" ");
}

/** Text with its `code`. */
function prose(text) {
  const nodes = text.split("`").map((part, i) => (i % 2 ? element("code", {}, part) : part));
  return element("p", {}, ...nodes);
}

/** The schemas that a schema names, itself first, each once. */
function named(schema, seen = new Map()) {
  if (Array.isArray(schema)) schema.forEach((inner) => named(inner, seen));
  else if (schema && typeof schema === "object") {
    const name = schema.$ref?.split("/").at(-1);
    if (name && !seen.has(name)) named(seen.set(name, found(schema)).get(name), seen);
    else if (!name) Object.values(schema).forEach((inner) => named(inner, seen));
  }
  return seen;
}

function row(name, schema, required) {
  const standard = "default" in schema && schema.default !== null ? `, ${JSON.stringify(schema.default)} unless told` : "";
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, element("code", {}, name), required ? element("small", {}, "required") : null),
    element("td", {}, kind(schema) + standard),
    element("td", {}, schema.description ?? ""),
  );
}

function table(caption, rows) {
  const head = ["Field", "Type", "Meaning"].map((name) => element("th", { scope: "col" }, name));
  return element(
    "div",
    { class: "scroll", role: "region", tabindex: "0", "aria-label": caption },
    element("table", { class: "texts" }, element("caption", {}, caption), element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...rows)),
  );
}

function fields(name, schema) {
  const rows = Object.entries(schema.properties ?? {}).map(([field, inner]) => row(field, inner, schema.required?.includes(field)));
  return rows.length ? table(name, rows) : null;
}

function schemas(title, body) {
  const all = [...named(Object.values(body?.content ?? {}).map((media) => media.schema))];
  const tables = all.map(([name, schema]) => fields(name, schema)).filter(Boolean);
  return tables.length ? element("details", { open: title === "Request" }, element("summary", {}, title), ...tables) : null;
}

function operation(path, method, said, shared) {
  const id = `${method}${path.replace(/\W+/g, "-")}`;
  const parameters = [...(shared ?? []), ...(said.parameters ?? [])].map(found);
  const rows = parameters.map((parameter) =>
    row(`${parameter.name} (${parameter.in})`, { description: parameter.description, ...parameter.schema }, parameter.required));
  const answers = Object.entries(said.responses ?? {});
  return element(
    "section",
    { "aria-labelledby": id },
    element("h2", { id }, element("span", { class: "method" }, method.toUpperCase()), " ", element("code", {}, path)),
    ...(said.description ?? said.summary ?? "").split(/\n{2,}/).map(prose),
    rows.length ? table("Parameters", rows) : null,
    schemas("Request", found(said.requestBody)),
    ...answers.filter(([status]) => status.startsWith("2")).map(([, answer]) => schemas("Answer", found(answer))),
    element("ul", { class: "statuses" }, ...answers.map(([status, answer]) => element("li", {}, element("b", {}, status), ` ${found(answer).description}`))),
  );
}

try {
  document_ = await ask("openapi.json", { wantKey });
  const { info, paths } = document_;
  const operations = Object.entries(paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => operation(path, method, item[method], item.parameters)));
  place.replaceChildren(element("h1", {}, `${info.title} ${info.version ?? ""}`), element("p", { class: "lead" }, info.description ?? ""), ...operations);
} catch (error) {
  place.replaceChildren(element("p", { class: "refused", role: "alert" }, error.message));
}
