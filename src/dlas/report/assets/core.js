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
CELLS.forEach((c, i) => { c.row = i; });
const ROWS_OF = new Map();
for (const c of CELLS) ROWS_OF.set(c.cell, [...(ROWS_OF.get(c.cell) || []), c.row]);

// Okabe and Ito's palette: told apart by the colour-blind; symbols and dashes differ as well.
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A7A00"];
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "star", "x", "hexagon", "triangle-down", "pentagon"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
const colour = (i) => COLOURS[i % COLOURS.length];
const symbol = (i) => SYMBOLS[i % SYMBOLS.length];

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
const gain = (ratio) => (ratio >= 1 ? `${num(ratio)} times faster` : `${num(1 / ratio)} times slower`);
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const unique = (values) => [...new Set(values)];
const short = (layer, level) => (DATA.short[layer] && DATA.short[layer][level]) || String(level);
const geomean = (values) => Math.exp(values.reduce((s, v) => s + Math.log(v), 0) / values.length);
const wide = () => window.innerWidth >= 700;

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
  text || stackText(CELLS[row]));
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

// ---------------------------------------------------------------- charts

const drawn = new Set();
// Draws or redraws a chart with its table. `traces` empty: says so instead.
function chart(body, name, { title, traces, layout = {}, height, head, rows, note }) {
  let box = body.querySelector(`[data-box="${name}"]`);
  if (!box) {
    box = el("figure", { "data-box": name }, el("figcaption", {}), el("div", { class: "chart", "data-chart": name, role: "img" }),
      el("p", { class: "soft nothing", hidden: "" }, "Nothing to draw with these filters."),
      el("details", { "data-table": name, ontoggle: () => fill(box) }, el("summary", {}, "The same as a table")));
    body.append(box);
    drawn.add(name);
  }
  box.querySelector("figcaption").replaceChildren(el("strong", {}, title), note ? ` ${note}` : "");
  const place = box.querySelector(".chart");
  const empty = !traces.length;
  place.hidden = empty;
  box.querySelector(".nothing").hidden = !empty;
  place.setAttribute("aria-label", `${title}. Chart; the same numbers follow as a table.`);
  box.makeTable = () => table(head, rows(), title);
  fill(box);
  place.dataset.points = traces.reduce((n, t) => n + ((t.x || t.z || []).length || 0), 0);
  if (empty) { if (place.data) Plotly.purge(place); return; }
  const size = wide() ? 12 : 10;
  const tall = height || 420;
  place.style.height = `${tall}px`;
  const base = { height: tall, margin: { t: 16, r: 12, l: 50, b: 44 }, font: { size, color: "#1b1f24" }, hovermode: "closest", hoverlabel: { align: "left" },
    legend: { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0 }, paper_bgcolor: "#fff", plot_bgcolor: "#fff" };
  const made = { ...base, ...layout };
  for (const axis of ["xaxis", "yaxis", "xaxis2", "yaxis2"]) {
    if (made[axis] || axis.length === 5) made[axis] = { automargin: true, gridcolor: "#e3e7eb", zeroline: false, ...logTicks(made[axis], traces, axis[0]), ...made[axis] };
  }
  Plotly.react(place, traces, made, { responsive: true, displaylogo: false, displayModeBar: false });
  place.removeAllListeners("plotly_click");
  place.on("plotly_click", (e) => { const row = e.points[0].customdata; if (isNumber(row)) openCell(row); });
}
// Log axes with every label whole: 0.5, 1, 2, not 5, 1, 2.
function logTicks(axis, traces, name) {
  if (axis?.type !== "log" || axis.tickvals) return {};
  const error = (t) => t[`error_${name}`];
  const ends = (t) => (error(t) ? t[name].flatMap((v, i) => [v + error(t).array[i], v - error(t).arrayminus[i]]) : t[name] || []);
  const values = traces.flatMap(ends).filter((v) => isNumber(v) && v > 0);
  if (!values.length) return {};
  const low = Math.min(...values), high = Math.max(...values);
  if (high / low < 1.6) {
    const step = [0.01, 0.02, 0.05, 0.1, 0.2].map((s) => s * 10 ** Math.floor(Math.log10(low))).find((s) => (high - low) / s <= 6) || (high - low) / 4;
    const even = Array.from({ length: 12 }, (_, i) => Number(((Math.floor(low / step) - 1 + i) * step).toPrecision(4))).filter((v) => v > 0);
    return { tickvals: even, ticktext: even.map(String) };
  }
  const steps = high / low > 60 ? (wide() ? [1, 3] : [1]) : high / low > 8 || !wide() ? [1, 2, 5] : [1, 1.2, 1.5, 2, 3, 4, 5, 7];
  const ticks = [];
  for (let p = Math.floor(Math.log10(low)) - 1; p <= Math.ceil(Math.log10(high)); p++) for (const s of steps) ticks.push(Number((s * 10 ** p).toPrecision(3)));
  return { tickvals: ticks, ticktext: ticks.map(String) };
}
function fill(box) {
  const details = box.querySelector("details");
  [...details.children].slice(1).forEach((child) => child.remove());
  if (details.open) details.append(box.makeTable());
}

// ---------------------------------------------------------------- sections

const draws = [];
function section(id, title, text, draw) {
  const body = el("div");
  document.getElementById("main").append(el("section", { id, "aria-labelledby": `${id}-h` },
    el("h2", { id: `${id}-h`, tabindex: "-1" }, title), text ? el("p", { class: "soft" }, text) : null, body));
  document.getElementById("sections").append(el("a", { href: `#${id}` }, title));
  draws.push(() => draw(body));
}
// Keeps a part of a section for controls, so that a redraw does not take the focus away.
function part(body, name, make) {
  let found = body.querySelector(`[data-part="${name}"]`);
  if (!found) {
    found = el("div", { "data-part": name });
    body.append(found);
    if (make) found.append(...[make()].flat());
  }
  return found;
}
function redraw() {
  applyFilters();
  for (const draw of draws) draw();
  const state = `${cells().length} of ${CELLS.length} cells`;
  document.getElementById("count").textContent = state;
  document.getElementById("filter-state").textContent = filtering() ? state : "none";
}
