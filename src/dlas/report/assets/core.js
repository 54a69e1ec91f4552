"use strict";
// What every part of the page uses: the numbers, elements, formats, filters, tables and charts.
const DATA = JSON.parse(document.getElementById("payload").textContent);
const unpack = (packed) => {
  const texts = DATA.texts;
  const columns = Object.entries(packed.columns).map(([name, c]) => {
    if ("c" in c) return [name, () => c.c];
    if (c.s) return [name, (i) => (c.s[i] < 0 ? null : texts[c.s[i]])];
    if (c.l) return [name, (i) => c.l[i].map((t) => texts[t])];
    return [name, (i) => c.v[i]];
  });
  return Array.from({ length: packed.n }, (_, i) => Object.fromEntries(columns.map(([name, at]) => [name, at(i)])));
};
const LAYERS = DATA.layers;
const CELLS = unpack(DATA.cells);
const TABLES = Object.fromEntries(Object.entries(DATA.tables).map(([name, packed]) => [name, unpack(packed)]));
const FINDINGS = unpack(DATA.findings);
const CEILINGS = unpack(DATA.ceilings);
const EST = DATA.estimates;
const coldStart = (c) => ([c.import_s, c.load_ms, c.first_inference_ms].every(isNumber) ? c.import_s + (c.load_ms + c.first_inference_ms) / 1e3 : null);
CELLS.forEach((c, i) => { c.row = i; });
const ROWS_OF = new Map();
for (const c of CELLS) ROWS_OF.set(c.cell, [...(ROWS_OF.get(c.cell) || []), c.row]);

// ---------------------------------------------------------------- formats

const isNumber = (v) => typeof v === "number" && Number.isFinite(v);
// As `dlas show` prints a number: four significant digits.
function exact(value) {
  if (value === null || value === undefined || value === "") return "";
  if (typeof value === "boolean") return String(value);
  if (typeof value === "object") return JSON.stringify(value);
  if (typeof value !== "number") return String(value);
  if (!Number.isFinite(value)) return "";
  if (Number.isInteger(value)) return String(value);
  const power = Math.floor(Math.log10(Math.abs(Number(value.toPrecision(4)))));
  if (power >= -4 && power < 4) return String(Number(value.toPrecision(4)));
  const [digits, exponent] = value.toExponential(3).split("e");
  const sign = exponent[0] === "-" ? "-" : "+";
  return `${Number(digits)}e${sign}${exponent.replace(/[+-]/, "").padStart(2, "0")}`;
}
// For tables: whole numbers in groups of three digits.
const show = (v) => (Number.isInteger(v) && Math.abs(v) >= 10000 ? v.toLocaleString("en") : exact(v));
const num = (v, digits = 3) => {
  if (!isNumber(v)) return "?";
  const rounded = Number(v.toPrecision(digits));
  return Math.abs(rounded) >= 10000 ? rounded.toLocaleString("en") : String(rounded);
};
const percent = (v, digits = 2) => (isNumber(v) && Math.abs(v) < 0.0005 ? "0 %" : `${num(100 * v, digits)} %`);
const signed = (change) => (Math.abs(change) < 0.0005 ? "±0" : `${change < 0 ? "−" : "+"}${num(Math.abs(change), 2)}`);
const [GOOD, BAD] = DATA.words;
// A factor of at least 1 as it is said in words: below 1.5 in per cent.
const sized = (ratio) => { const size = Math.max(ratio, 1 / ratio); return size < 1.5 ? percent(size - 1) : `${num(size)} times`; };
const gain = (ratio) => (Math.abs(Math.log(ratio)) < 0.0005 ? "the same" : `${sized(ratio)} ${ratio >= 1 ? GOOD : BAD}`);
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const unique = (values) => [...new Set(values)];
const short = (layer, level) => (DATA.short[layer] && DATA.short[layer][level]) || String(level);
const geomean = (values) => Math.exp(values.reduce((s, v) => s + Math.log(v), 0) / values.length);
const wide = () => window.innerWidth >= 700;
// What can be put on an axis or in a column: its title, and whether more of it is better.
const MEASURES = Object.fromEntries(DATA.measures.map((m) => [m.name, m]));
const METRIC = DATA.metric;
const titleOf = (name) => MEASURES[name]?.title || name;
const plainOf = (name) => (MEASURES[name]?.unit ? titleOf(name).slice(0, -MEASURES[name].unit.length - 2) : titleOf(name));
// A sentence of goals, its columns in words.
const inWords = (text) => text.replace(/\b[a-z][a-z0-9_]*\b/g, (n) => (MEASURES[n] ? plainOf(n) : n));
const valueOf = (c, name) => (name === "cold_start_s" ? coldStart(c) : c[name]);
const amount = (name, value) => (MEASURES[name]?.share ? percent(value, 3) : `${num(value)}${MEASURES[name]?.unit ? ` ${MEASURES[name].unit}` : ""}`);
const SCORE = DATA.score;

const MANY = LAYERS.filter((l) => unique(CELLS.map((c) => c[l])).length > 1);
const HOSTS = unique(CELLS.map((c) => c.host)).filter((h) => h);
const stackText = (c) => {
  const parts = (MANY.length ? MANY : LAYERS).map((l) => short(l, c[l]));
  return [...parts, ...(HOSTS.length > 1 ? [`on ${c.host}`] : [])].join(" · ");
};
const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
const LONG = LAYERS.flatMap((l) => Object.entries(DATA.short[l] || {})).filter(([a, b]) => a !== b)
  .sort((a, b) => b[0].length - a[0].length);
const CONSTANT = LAYERS.filter((l) => !MANY.includes(l)).map((l) => `${l}=${CELLS[0][l]}`);
function readable(text) {
  for (const same of CONSTANT) text = text.split(`${same}, `).join("").split(`, ${same}`).join("");
  for (const [long, brief] of LONG) {
    text = text.replace(new RegExp(`(^|[^\\w+-])${escaped(long)}(?![\\w(+-])`, "g"), (_, before) => before + brief);
  }
  return text;
}

// ---------------------------------------------------------------- elements

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== ""));
  return node;
}
const cellButton = (row, text) => el("button", { type: "button", class: "cell", "data-row": row,
  "aria-label": `All that is known of ${CELLS[row].cell}: ${stackText(CELLS[row])}`, onclick: () => openCell(row) },
  ...breakable(text || stackText(CELLS[row])));
// A sentence in which the hash of a cell is a button that opens it.
function sentence(text) {
  const said = readable(text);
  const parts = [];
  let end = 0;
  for (const match of said.matchAll(/\b[0-9a-f]{16}\b/g)) {
    const rows = ROWS_OF.get(match[0]);
    if (!rows) continue;
    parts.push(said.slice(end, match.index), cellButton(rows[0]));
    end = match.index + match[0].length;
  }
  return [...parts, said.slice(end)];
}
// A name that may be broken between its parts, and nowhere else.
const breakable = (text) => String(text).split(/(?<=[_+(,/·])/).flatMap((p, i) => (i ? [el("wbr"), p] : [p]));
function pick(label, options, value, onchange) {
  const select = el("select", { onchange: (e) => onchange(e.target.value) },
    ...options.map(([v, text]) => el("option", { value: v, selected: v === value }, text)));
  return el("label", { class: "pick" }, label, select);
}

// ---------------------------------------------------------------- filters

const chosen = {};
const EMPTY = "(empty)";
const levelOf = (c, name) => (c[name] === null || c[name] === undefined ? EMPTY : String(c[name]));
let filtered = { rows: CELLS, set: new Set(CELLS.map((c) => c.row)) };
const filtering = () => Object.values(chosen).some((v) => v);
const cells = () => filtered.rows;
const complete = () => filtered.rows.filter((c) => c.status === "complete");
const seen = (row) => filtered.set.has(row);
const analysed = () => (EST ? filtered.rows.filter((c) => c.row < DATA.analyzed && isNumber(EST.mean[c.row])) : []);
function applyFilters() {
  const wanted = Object.entries(chosen).filter(([, v]) => v);
  const rows = CELLS.filter((c) => wanted.every(([name, v]) => levelOf(c, name) === v));
  filtered = { rows, set: new Set(rows.map((c) => c.row)) };
  remembered.clear();
}
// Results that several charts share, until the filters change.
const remembered = new Map();
function once(name, make) {
  if (!remembered.has(name)) remembered.set(name, make());
  return remembered.get(name);
}

// ---------------------------------------------------------------- tables

const wrap = (value) => (value instanceof Node ? value : Array.isArray(value) ? el("span", {}, ...value) : show(value));
function table(head, rows, caption, most = 400) {
  const numeric = head.map((_, i) => rows.length > 0 && rows.every((r) => typeof r[i] === "number" || r[i] === null || r[i] === undefined)
    && rows.some((r) => typeof r[i] === "number"));
  const line = (r) => el("tr", {}, ...r.map((v, i) => el("td", { class: numeric[i] ? "number" : null }, wrap(v))));
  const body = el("tbody", {}, ...rows.slice(0, most).map(line));
  const made = el("table", {}, caption ? el("caption", {}, caption) : null,
    el("thead", {}, el("tr", {}, ...head.map((h, i) => el("th", { scope: "col", class: numeric[i] ? "number" : null }, h)))), body);
  if (!rows.length) body.append(el("tr", {}, el("td", { colspan: head.length, class: "soft" }, "Nothing to show with these filters.")));
  const box = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption || head.join(", ") }, made);
  if (rows.length <= most) return box;
  const more = el("button", { type: "button", onclick: () => { body.append(...rows.slice(most).map(line)); more.remove(); } },
    `Show all ${rows.length} rows`);
  return el("div", {}, box, more);
}
