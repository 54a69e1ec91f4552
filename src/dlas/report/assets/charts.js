"use strict";
// How charts and matrices are drawn, and when: what is on the first screen first, the rest while nobody waits.

// Okabe and Ito's palette: told apart by the colour-blind; symbols and dashes differ as well.
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", null, "#8A7A00"];
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "star", "x", "hexagon", "triangle-down", "pentagon"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"];
const theme = (name) => once(`theme ${name}`, () => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim());
const colour = (i) => COLOURS[i % COLOURS.length] || theme("ink");
const symbol = (i) => SYMBOLS[i % SYMBOLS.length];
const dash = (i) => DASHES[i % DASHES.length];

// ---------------------------------------------------------------- legends

const MARKS = {
  circle: "M8 3a5 5 0 1 0 .01 0z", square: "M4 4h8v8H4z", diamond: "M8 2l6 6-6 6-6-6z", "triangle-up": "M8 3l6 10H2z", "triangle-down": "M8 13L2 3h12z",
  cross: "M6 2h4v4h4v4h-4v4H6v-4H2V6h4z", x: "M4 2l4 4 4-4 2 2-4 4 4 4-2 2-4-4-4 4-2-2 4-4-4-4z", star: "M8 1l2 5h5l-4 3 2 6-5-4-5 4 2-6-4-3h5z",
  hexagon: "M5 2h6l4 6-4 6H5L1 8z", pentagon: "M8 1l7 5-3 8H4L1 6z",
};
const STROKES = { solid: "", dash: "5 3", dot: "2 2", dashdot: "5 2 2 2", longdash: "8 3", longdashdot: "8 3 2 3" };
const HATCHES = { "/": "M2 12L12 2M6 14L14 6", x: "M2 2l12 12M2 14L14 2" };
const first = (v) => (Array.isArray(v) ? v[0] : v);
function svg(tag, attributes, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
// What a trace looks like: its mark, its line or its bar.
function glyph(trace) {
  const marks = [];
  const tint = first(trace.marker?.color) || trace.line?.color || theme("ink");
  if (trace.type === "bar") {
    marks.push(svg("rect", { x: 2, y: 2, width: 12, height: 12, fill: tint }));
    const hatch = HATCHES[first(trace.marker?.pattern?.shape)];
    if (hatch) marks.push(svg("path", { d: hatch, stroke: theme("paper"), "stroke-width": 2 }));
  } else {
    if ((trace.mode || "").includes("lines")) marks.push(svg("line", { x1: 0, x2: 28, y1: 8, y2: 8, stroke: trace.line?.color || tint, "stroke-width": 2, "stroke-dasharray": STROKES[trace.line?.dash || "solid"] }));
    if ((trace.mode || "").includes("markers")) marks.push(svg("path", { d: MARKS[first(trace.marker?.symbol)] || MARKS.circle, fill: tint, transform: (trace.mode || "").includes("lines") ? "translate(6 0)" : "" }));
  }
  return svg("svg", { width: (trace.mode || "").includes("lines") ? 28 : 16, height: 16, "aria-hidden": "true" }, ...marks);
}
function legend(list, traces, place) {
  const named = traces.map((t, i) => [t, i]).filter(([t]) => t.name && t.showlegend !== false);
  list.hidden = named.length < 2;
  list.replaceChildren(...named.map(([t, i]) => el("li", {}, el("button", { type: "button", "aria-pressed": "true", title: "Show or hide", onclick: (e) => {
    const on = e.currentTarget.getAttribute("aria-pressed") !== "true";
    e.currentTarget.setAttribute("aria-pressed", on);
    Plotly.restyle(place, { visible: on ? true : "legendonly" }, [i]);
  } }, glyph(t), t.name))));
}

// ---------------------------------------------------------------- texts on axes

// A long name in lines of a chart: broken after signs between its parts, where it must be within one.
function fold(text, most = wide() ? 28 : 15) {
  const lines = [""];
  const pieces = String(text).split(/(?<=[\s,+·(=/-])/).flatMap((p) => (p.length > most ? p.match(new RegExp(`.{1,${most}}`, "g")) : [p]));
  for (const piece of pieces) {
    const last = lines[lines.length - 1];
    if (last && (last + piece).trimEnd().length > most) lines.push(piece);
    else lines[lines.length - 1] += piece;
  }
  return lines.map((l) => l.trim()).join("<br>");
}
// The height of a chart with a row for each label, whatever they fold to.
const rowsHigh = (labels, least, around) => around + Math.max(1, labels.length) * Math.max(least, 15 * Math.max(1, ...labels.map((l) => l.split("<br>").length)) + 10);
// Log axes with every label whole: 0.5, 1, 2, not 5, 1, 2.
function logTicks(axis, traces, name, shapes = []) {
  if (axis?.type !== "log" || axis.tickvals) return {};
  const error = (t) => t[`error_${name}`];
  const ends = (t) => (error(t) ? t[name].flatMap((v, i) => [v + error(t).array[i], v - error(t).arrayminus[i]]) : t[name] || []);
  const marked = shapes.filter((s) => s[`${name}ref`] !== "paper").flatMap((s) => [s[`${name}0`], s[`${name}1`]]);
  const values = [...traces.flatMap(ends), ...marked].filter((v) => isNumber(v) && v > 0);
  if (!values.length) return {};
  const low = Math.min(...values), high = Math.max(...values);
  if (high / low < 1.6) {
    const most = wide() ? 6 : 4;
    const step = [0.01, 0.02, 0.05, 0.1, 0.2].map((s) => s * 10 ** Math.floor(Math.log10(low))).find((s) => (high - low) / s <= most) || (high - low) / 3 || low / 4;
    const even = Array.from({ length: 12 }, (_, i) => Number(((Math.floor(low / step) - 1 + i) * step).toPrecision(4))).filter((v) => v > 0);
    return { tickvals: even, ticktext: even.map(String) };
  }
  const many = wide() && window.innerWidth >= 1200;
  const steps = high / low > 2000 ? [1] : high / low > 60 ? (many ? [1, 3] : [1]) : high / low > 8 || !many ? [1, 2, 5] : [1, 1.5, 2, 3, 5, 7];
  const ticks = [];
  for (let p = Math.floor(Math.log10(low)) - 1; p <= Math.ceil(Math.log10(high)); p++) for (const s of steps) ticks.push(Number((s * 10 ** p).toPrecision(3)));
  return { tickvals: ticks, ticktext: ticks.map(plainly) };
}
const plainly = (v) => (v >= 1e6 ? `${num(v / 1e6)}M` : v >= 1e4 ? `${num(v / 1e3)}k` : String(v));
const flat = (y, style = "dash") => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: { color: theme("soft"), width: 1, dash: style } });
const upright = (x) => ({ type: "line", yref: "paper", y0: 0, y1: 1, x0: x, x1: x, line: { color: theme("soft"), width: 1, dash: "dash" } });

// ---------------------------------------------------------------- charts

const drawn = new Set();
const awaiting = [];
const NOTHING = "Nothing to draw with these filters.";
function figure(body, name, inner) {
  let box = body.querySelector(`[data-box="${name}"]`);
  if (!box) {
    box = el("figure", { "data-box": name }, el("figcaption", {}), ...inner, el("p", { class: "soft nothing", hidden: "" }, NOTHING),
      el("details", { "data-table": name, ontoggle: () => fill(box) }, el("summary", {}, "The same as a table")));
    body.append(box);
    drawn.add(name);
  }
  return box;
}
function caption(box, title, note) {
  box.querySelector("figcaption").replaceChildren(el("strong", {}, title), note ? ` ${note}` : "");
}
function fill(box) {
  const details = box.querySelector("details");
  [...details.children].slice(1).forEach((child) => child.remove());
  if (details.open) details.append(box.makeTable());
}
// Draws or redraws a chart with its legend and its table. `traces` empty: says so instead.
function chart(body, name, { title, traces, layout = {}, height = 290, head, rows, note }) {
  const box = figure(body, name, [el("ul", { class: "legend" }), el("div", { class: "chart", "data-chart": name, role: "img" })]);
  caption(box, title, note);
  const place = box.querySelector(".chart"), list = box.querySelector(".legend");
  const empty = !traces.length;
  place.hidden = empty;
  box.querySelector(".nothing").hidden = !empty;
  place.setAttribute("aria-label", `${title} Chart; the same numbers follow as a table.`);
  box.makeTable = () => table(head, rows(), title);
  fill(box);
  place.dataset.points = traces.reduce((n, t) => n + ((t.x || t.z || []).length || 0), 0);
  place.style.height = `${height}px`;
  if (empty) list.hidden = true; else legend(list, traces, place);
  const paint = () => (empty ? place.data && Plotly.purge(place) : react(place, traces, framed(layout, traces, height)));
  if (window.Plotly) paint(); else awaiting.push(paint);
}
function framed(layout, traces, height) {
  const base = { height, margin: { t: 12, r: 14, l: 50, b: 44 }, font: { size: wide() ? 12 : 10, color: theme("ink"), family: "system-ui, sans-serif" }, hovermode: "closest",
    hoverlabel: { align: "left" }, showlegend: false, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", ...(printing ? { width: PRINTED, autosize: false } : { autosize: true }) };
  const made = { ...base, ...layout };
  for (const axis of ["xaxis", "yaxis"]) {
    const given = made[axis] || {};
    made[axis] = { automargin: true, gridcolor: theme("line"), linecolor: theme("line"), zeroline: false, ...logTicks(given, traces, axis[0], made.shapes), ...given,
      ...(given.title ? { title: { standoff: 8, ...given.title } } : {}) };
  }
  return made;
}
function react(place, traces, layout) {
  Plotly.react(place, traces, layout, { responsive: true, displaylogo: false, displayModeBar: false });
  place.removeAllListeners("plotly_click");
  place.on("plotly_click", (e) => { const row = e.points[0].customdata; if (isNumber(row)) openCell(row); });
}

// ---------------------------------------------------------------- matrices

// A chart of tinted squares that hold text: a table, so that nothing overflows at any width.
// `cell(y, x)`: null, or {text, sub, tint (0 to 1), hue, row, title}.
function matrix(body, name, { title, note, ys, xs, label, cell, head, rows, corner = "" }) {
  const box = figure(body, name, [el("div", { class: "matrix", "data-chart": name, role: "region", tabindex: "0" })]);
  caption(box, title, note);
  const place = box.querySelector(".matrix");
  const cells_ = ys.map((y) => xs.map((x) => cell(y, x)));
  const empty = !cells_.some((r) => r.some((c) => c));
  place.hidden = empty;
  box.querySelector(".nothing").hidden = !empty;
  place.setAttribute("aria-label", title);
  place.dataset.points = cells_.flat().filter((c) => c).length;
  const square = (c) => (c ? el("td", { style: `--tint: ${Math.round(45 * (c.tint ?? 1))}%; --hue: ${c.hue || "var(--accent)"}`, title: c.title },
    isNumber(c.row) ? cellButton(c.row, c.text) : el("span", {}, c.text), c.sub ? el("span", { class: "sub" }, c.sub) : null) : el("td", { class: "none" }));
  place.replaceChildren(el("table", {}, el("caption", { class: "hidden" }, title), el("thead", {}, el("tr", {}, el("th", { scope: "col" }, ...breakable(corner)), ...xs.map((x) => el("th", { scope: "col" }, ...breakable(label(x, "x")))))),
    el("tbody", {}, ...ys.map((y, i) => el("tr", {}, el("th", { scope: "row" }, ...breakable(label(y, "y"))), ...cells_[i].map(square))))));
  box.makeTable = () => table(head, rows(), title);
  fill(box);
}

// ---------------------------------------------------------------- groups and sections

const GROUPS = [];
const SECTIONS = [];
function group(id, title, text) {
  const grid = el("div", { class: "grid" });
  const aside = el("div", { class: "unsaid" });
  document.getElementById("main").append(el("section", { id, class: "group", "aria-labelledby": `${id}-h` },
    el("h2", { id: `${id}-h`, tabindex: "-1" }, title), text ? el("p", { class: "soft" }, text) : null, grid, aside));
  const links = el("ul", {});
  document.getElementById("menu").append(el("div", {}, el("a", { href: `#${id}` }, title), links));
  GROUPS.push({ id, grid, aside, links, silent: [] });
}
// A part of the last group. `silent`: why it would say nothing in this study; then it is not drawn.
function section(id, title, text, draw, { wide: across = false, silent = () => "" } = {}) {
  const own = GROUPS[GROUPS.length - 1];
  const why = silent();
  if (why) { own.silent.push([title, why]); return; }
  const body = el("div");
  own.grid.append(el("section", { id, class: across ? "wide" : null, "aria-labelledby": title ? `${id}-h` : null, "aria-label": title ? null : id },
    title ? el("h3", { id: `${id}-h`, tabindex: "-1" }, title) : null, text ? el("p", { class: "soft" }, text) : null, body));
  if (title) own.links.append(el("li", {}, el("a", { href: `#${id}` }, title)));
  SECTIONS.push({ id, draw: () => draw(body), at: GROUPS.length - 1 });
}
function tellSilent() {
  for (const { aside, silent } of GROUPS) {
    if (silent.length) aside.replaceChildren(el("details", {}, el("summary", {}, `Not drawn, as it would say nothing here: ${silent.map(([t]) => t.toLowerCase()).join(", ")}`), el("ul", {}, ...silent.map(([t, why]) => el("li", {}, `${t}: ${why}`)))));
  }
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

// ---------------------------------------------------------------- when

const queue = [];
let printing = false;
const PRINTED = 690; // A page of paper is narrower than most screens.
const SLICE_MS = 40;
function step() {
  if (!window.Plotly) return;
  const began = performance.now();
  while (queue.length && performance.now() - began < SLICE_MS) queue.shift()();
  if (queue.length) setTimeout(step);
  else document.body.dataset.drawn = "true";
}
function flush() {
  while (awaiting.length) awaiting.shift()();
  while (queue.length) queue.shift()();
  document.body.dataset.drawn = "true";
}
// The first group at once, the others in slices, so that the page answers meanwhile.
function redraw() {
  applyFilters();
  document.body.dataset.drawn = "false";
  queue.length = 0;
  for (const { draw, at } of SECTIONS) if (at) queue.push(draw); else draw();
  const state = `${cells().length} of ${CELLS.length} cells`;
  document.getElementById("count").textContent = state;
  document.getElementById("filter-state").textContent = filtering() ? state : "none";
  setTimeout(step);
}
function chartsReady() {
  while (awaiting.length) awaiting.shift()();
  document.body.dataset.ready = "true";
  setTimeout(step);
}
function onPaper(on) {
  printing = on;
  document.documentElement.toggleAttribute("data-print", on);
  for (const more of document.querySelectorAll("#claims details")) more.open = on;
  redraw();
  flush();
}
