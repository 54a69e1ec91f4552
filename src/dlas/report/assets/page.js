"use strict";
// The numbers of the study are in #payload; this script only draws. Every chart and table is a
// function of the filtered cells, so that a filter acts on all of them.
const DATA = JSON.parse(document.getElementById("payload").textContent);
const LAYERS = ["dataset", "model", "optimization", "algorithm", "software", "hardware"];
// Okabe and Ito's palette: told apart by the colour-blind; symbols differ as well.
const COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999933"];
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "star", "x", "hexagon"];
const chosen = {};
const el = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
};
const show = (value, digits = 3) => {
  if (value === null || value === undefined || value === "") return "";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return Math.abs(value) >= 100 ? value.toFixed(1) : String(Number(value.toPrecision(digits)));
};
const unique = (values) => [...new Set(values)].sort();
const cells = () => DATA.cells.filter((c) => Object.entries(chosen).every(([l, v]) => !v || c[l] === v));
const complete = () => cells().filter((c) => c.status === "complete");
const stackText = (c) => LAYERS.map((l) => c[l]).join(" | ");
const draws = [];

function section(id, title, text, draw) {
  const body = el("div");
  const node = el("section", { id, "aria-labelledby": `${id}-h` }, el("h2", { id: `${id}-h` }, title),
    text ? el("p", { class: "soft" }, text) : null, body);
  document.getElementById("main").append(node);
  document.getElementById("sections").append(el("a", { href: `#${id}` }, title));
  draws.push(() => draw(body));
}

function plot(body, name, traces, layout, tableOf) {
  let chart = body.querySelector(`[data-chart="${name}"]`);
  if (!chart) {
    chart = el("div", { class: "chart", "data-chart": name, role: "img", "aria-label": layout.title.text });
    const holder = el("details", {}, el("summary", {}, "The same as a table"));
    holder.append(el("div", { class: "scroll", "data-table": name }));
    body.append(chart, holder);
    chart.addEventListener("click", () => 0);
  }
  const base = { margin: { t: 40, r: 10, l: 60, b: 50 }, font: { size: 12 }, hovermode: "closest",
    legend: { orientation: "h", y: -0.2 }, paper_bgcolor: "#fff", plot_bgcolor: "#fff" };
  Plotly.react(chart, traces, { ...base, ...layout }, { responsive: true, displaylogo: false });
  chart.removeAllListeners && chart.removeAllListeners("plotly_click");
  chart.on("plotly_click", (e) => e.points[0].customdata && openCell(e.points[0].customdata));
  const place = body.querySelector(`[data-table="${name}"]`);
  place.replaceChildren(simpleTable(...tableOf()));
}

function simpleTable(head, rows, caption) {
  const numeric = head.map((_, i) => rows.length > 0 && rows.every((r) => typeof r[i] === "number" || r[i] === null));
  return el("table", {}, caption ? el("caption", {}, caption) : null,
    el("thead", {}, el("tr", {}, ...head.map((h, i) => el("th", { scope: "col", class: numeric[i] ? "number" : null }, h)))),
    el("tbody", {}, ...rows.map((r) => el("tr", {}, ...r.map((v, i) =>
      el("td", { class: numeric[i] ? "number" : null }, v instanceof Node ? v : show(v)))))));
}

function openCell(id) {
  const c = DATA.cells.find((x) => x.cell === id);
  const box = document.getElementById("cell");
  const rows = Object.entries(c).filter(([, v]) => v !== null && v !== "").map(([k, v]) => [k, v]);
  box.replaceChildren(el("h2", { id: "cell-title" }, `Cell ${c.cell}`), el("p", {}, stackText(c)),
    el("pre", {}, `dlas show ${DATA.folders[0]} ${c.cell}\n${DATA.reproduce.replace("CELL", c.cell)}`),
    el("div", { class: "scroll" }, simpleTable(["what", "value"], rows)),
    el("button", { onclick: () => box.close() }, "Close"));
  box.showModal();
}

function buildFilters() {
  const form = document.getElementById("filters");
  for (const layer of DATA.filters) {
    const levels = unique(DATA.cells.map((c) => c[layer]).filter((v) => v !== null));
    if (levels.length < 2) continue;
    const select = el("select", { name: layer, onchange: (e) => { chosen[layer] = e.target.value; redraw(); } },
      el("option", { value: "" }, "all"), ...levels.map((v) => el("option", { value: v }, String(v))));
    form.append(el("label", {}, layer, select));
  }
  form.append(el("button", { type: "reset" }, "Show all"), el("output", { id: "count", "aria-live": "polite" }));
  form.addEventListener("reset", () => { for (const k of Object.keys(chosen)) delete chosen[k]; setTimeout(redraw); });
  form.addEventListener("submit", (e) => e.preventDefault());
}

function redraw() {
  document.getElementById("count").textContent = `${cells().length} of ${DATA.cells.length} cells`;
  for (const draw of draws) draw();
}

function drawAnswer(body) {
  const found = complete();
  const fastest = [...found].filter((c) => c.latency_ms !== null).sort((a, b) => a.latency_ms - b.latency_ms)[0];
  const counts = unique(cells().map((c) => c.status)).map((s) => `${cells().filter((c) => c.status === s).length} ${s}`);
  const card = (title, big, text) => el("div", { class: "card" }, el("h3", {}, title), el("div", { class: "big" }, big), el("p", {}, text));
  const cards = el("div", { class: "cards" }, card("Cells", counts.join(", "), `${DATA.hosts.join("; ")}`));
  if (fastest) {
    cards.append(card("Fastest complete stack", `${show(fastest.latency_ms)} ms`,
      el("span", {}, stackText(fastest), ` (${show(fastest.latency_low_ms)} to ${show(fastest.latency_high_ms)} ms), accuracy ${show(fastest.accuracy)} `,
        el("button", { onclick: () => openCell(fastest.cell) }, "details"))));
  }
  const best = DATA.choice && DATA.cells.find((c) => c.cell === DATA.choice.cell);
  if (best) cards.append(card("Within the study's goals", `${show(best.latency_ms)} ms`, `${stackText(best)}; ${DATA.choice.why}`));
  cards.append(card("How far to trust it", DATA.trust.headline, DATA.trust.text));
  body.replaceChildren(cards);
}

function drawScatter(body) {
  const found = complete().filter((c) => c.accuracy !== null && c.latency_ms !== null);
  const groups = unique(DATA.cells.map((c) => c.software));
  const traces = groups.map((g, i) => {
    const rows = found.filter((c) => c.software === g);
    return { type: "scatter", mode: "markers", name: g, x: rows.map((c) => c.latency_ms), y: rows.map((c) => c.accuracy),
      customdata: rows.map((c) => c.cell), text: rows.map(stackText), hovertemplate: "%{text}<br>%{x:.3g} ms, accuracy %{y:.3f}<extra></extra>",
      marker: { color: COLOURS[i % COLOURS.length], symbol: SYMBOLS[i % SYMBOLS.length], size: 8, opacity: 0.8 } };
  });
  plot(body, "latency-accuracy", traces, { title: { text: "Latency against accuracy" },
    xaxis: { title: { text: "latency, ms (log)" }, type: "log" }, yaxis: { title: { text: "accuracy" } } },
    () => [["cell", ...LAYERS, "latency, ms", "accuracy"], found.map((c) => [c.cell, ...LAYERS.map((l) => c[l]), c.latency_ms, c.accuracy])]);
}

let sortBy = "latency_ms";
let sortUp = true;
function drawTable(body) {
  const columns = DATA.columns;
  const compare = (a, b) => (a === null) - (b === null) || (a > b ? 1 : a < b ? -1 : 0) * (sortUp ? 1 : -1);
  const rows = [...cells()].sort((a, b) => compare(a[sortBy], b[sortBy]));
  const head = el("tr", {}, el("th", { scope: "col" }, "cell"), ...columns.map((name) =>
    el("th", { scope: "col", "aria-sort": name === sortBy ? (sortUp ? "ascending" : "descending") : null },
      el("button", { type: "button", onclick: () => { sortUp = name === sortBy ? !sortUp : true; sortBy = name; drawTable(body); } },
        name + (name === sortBy ? (sortUp ? " ▲" : " ▼") : "")))));
  const line = (c) => el("tr", {}, el("td", {}, el("button", { onclick: () => openCell(c.cell) }, c.cell.slice(0, 8))),
    ...columns.map((name) => el("td", { class: typeof c[name] === "number" ? "number" : name === "status" ? c.status : null }, show(c[name]))));
  body.replaceChildren(el("div", { class: "scroll", tabindex: "0" }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows.map(line)))));
}

function drawFailures(body) {
  const rows = new Map();
  for (const c of cells().filter((x) => x.status !== "complete")) {
    const name = [c.status, c.stage || "", c.reason || ""].join("\u0000");
    if (!rows.has(name)) rows.set(name, []);
    rows.get(name).push(c);
  }
  const lines = [...rows.entries()].sort((a, b) => b[1].length - a[1].length).map(([name, found]) => {
    const [status, stage, reason] = name.split("\u0000");
    const first = el("button", { onclick: () => openCell(found[0].cell) }, found[0].cell.slice(0, 8));
    return [status, stage, found.length, reason, first];
  });
  body.replaceChildren(lines.length ? el("div", { class: "scroll", tabindex: "0" },
    simpleTable(["status", "stage", "cells", "reason", "for example"], lines)) : el("p", {}, "Every cell is complete."));
}

function drawFloor(body) {
  const head = ["runtime", "threads", "A/A pairs", "smallest ratio told apart", "A/A pairs inside"];
  if (!body.querySelector("[data-floor]")) {
    body.append(el("div", { class: "scroll", "data-floor": "" }, simpleTable(head,
      DATA.floor.map((f) => [f.runtime, f.threads, f.pairs, f.ratio, f.inside]))));
  }
  plot(body, "drift", DATA.sentinels.map((s, i) => ({ type: "scatter", mode: "lines+markers", name: s.name, x: s.minutes, y: s.relative,
    marker: { symbol: SYMBOLS[i % SYMBOLS.length], size: 5 }, line: { color: COLOURS[i % COLOURS.length], width: 1 } })),
    { title: { text: "Drift: the sentinel over its median" }, xaxis: { title: { text: "minutes" } }, yaxis: { title: { text: "ratio" } } },
    () => [["session", "minutes", "ratio"], DATA.sentinels.flatMap((s) => s.minutes.map((m, i) => [s.name, m, s.relative[i]]))]);
}

document.getElementById("title").textContent = DATA.title;
document.getElementById("subtitle").textContent = DATA.subtitle;
section("answer", "The answer", "", drawAnswer);
section("scatter", "Latency against accuracy", "Each mark is a complete stack; choose one for all that is known of it.", drawScatter);
section("table", "All cells", "Empty means not measured.", drawTable);
section("failures", "What did not run, and why", "", drawFailures);
section("trust", "Noise floor and drift", "A/A controls are cells measured twice under another id: differences smaller than theirs mean nothing.", drawFloor);
buildFilters();
redraw();
