"use strict";
// What more of an ordered factor pays, the roofline, correlations, cold start.

// ---------------------------------------------------------------- diminishing returns

const RETURN_COSTS = { accuracy: "accuracy", build_s: "build time", tuning_s: "tuning time" };
const LEAST_DROP = 0.001;
// Each step of an ordered factor: what it gains and what it costs, in the contexts that hold both.
function stepsOf(factor) {
  const own = factor.name === factor.layer;
  const { siblings } = factor;
  const kinds = new Map();
  for (const c of analysed()) {
    if (c[factor.name] === null || c[factor.name] === undefined || c[factor.name] === "") continue;
    const kind = own ? "" : EST.kinds[factor.layer][c[factor.layer]];
    const rest = [...LAYERS.filter((l) => l !== factor.layer).map((l) => c[l]), c.host, ...(own ? [] : siblings.map((s) => c[s]))].join("\u0001");
    if (!kinds.has(kind)) kinds.set(kind, new Map());
    if (!kinds.get(kind).has(rest)) kinds.get(kind).set(rest, new Map());
    kinds.get(kind).get(rest).set(Number(c[factor.name]), c.row);
  }
  const levels = factor.levels.map(Number);
  return [...kinds].flatMap(([kind, contexts]) => levels.slice(1).flatMap((to, i) => {
    const pairs = [...contexts.values()].filter((m) => m.has(levels[i]) && m.has(to)).map((m) => [m.get(levels[i]), m.get(to)]);
    if (!pairs.length) return [];
    const step = { factor: factor.name, kind, from: levels[i], to, pairs, ...Stats.meanRatio(pairs), costs: {} };
    for (const cost of Object.keys(RETURN_COSTS)) {
      const both = pairs.map(([a, b]) => [CELLS[a][cost], CELLS[b][cost]]).filter(([a, b]) => isNumber(a) && isNumber(b) && (cost === "accuracy" || (a > 0 && b > 0)));
      if (!both.length) continue;
      const change = cost === "accuracy" ? both.reduce((s, [a, b]) => s + b - a, 0) / both.length : geomean(both.map(([a, b]) => b / a));
      const worse = cost === "accuracy" ? change < -LEAST_DROP : change > 1 + EST.floor;
      const pays = !(worse && (EST.known ? step.high : step.ratio) < 1 + EST.floor);
      step.costs[cost] = { change, pays, sure: !worse || !pays || !EST.known || step.low > 1 + EST.floor };
    }
    return Object.keys(step.costs).length ? [step] : [];
  }));
}
const costSaid = (cost, change) => (cost === "accuracy" ? `accuracy ${change >= 0 ? "+" : "−"}${num(Math.abs(100 * change), 2)} points` : `${num(change)} times the ${RETURN_COSTS[cost]}`);
let returnShown = null;
// The factors of which more was tried than once: a single step shows no diminishing return.
const returning = () => [...new Map((TABLES.returns || []).map((r) => [`${r.factor}\u0001${r.technique}`, r])).keys()].filter((key) => unique(TABLES.returns.filter((r) => `${r.factor}\u0001${r.technique}` === key).map((r) => r.from)).length > 1);
function noReturns() {
  if (!(TABLES.returns || []).length) return "no factor has levels in an order whose accuracy or build time was measured.";
  return returning().length ? "" : "each ordered factor has a single step, which the findings tell.";
}
function drawReturns(body) {
  const groups = returning();
  const stops = (key) => TABLES.returns.filter((r) => `${r.factor}\u0001${r.technique}` === key && !r.pays).length;
  const title = (key) => { const [factor, kind] = key.split("\u0001"); return `${factor}${kind ? ` of ${kind}` : ""}${stops(key) ? ` (${plural(stops(key), "step")} that ${stops(key) === 1 ? "does" : "do"} not pay)` : ""}`; };
  returnShown ||= [...groups].sort((a, b) => stops(b) - stops(a))[0];
  part(body, "pick", () => el("div", { class: "picks" }, pick("more of", groups.map((g) => [g, title(g)]), returnShown, (v) => { returnShown = v; drawReturns(body); })));
  const [factor, kind] = returnShown.split("\u0001");
  const steps = stepsOf(EST.ordered.find((o) => o.name === factor)).filter((s) => s.kind === kind);
  const name = (s) => `${s.from} to ${s.to}`;
  const costs = (s) => Object.entries(s.costs).map(([c, v]) => costSaid(c, v.change));
  const room = Math.floor((wide() ? 560 : window.innerWidth - 90) / (6.5 * Math.max(1, steps.length)));
  const place = (s) => [name(s), ...(room >= 9 ? costs(s).map((c) => fold(c, room)) : [])].join("<br>");
  const state = (s) => { const all = Object.values(s.costs); return all.some((c) => !c.pays) ? 2 : all.some((c) => !c.sure) ? 1 : 0; };
  const STATES = ["pays, or costs nothing", "cannot tell whether it pays", "costs more for less than the floor"];
  const traces = STATES.flatMap((label, i) => {
    const own = steps.filter((s) => state(s) === i);
    return own.length ? [{ type: "scatter", mode: "markers", name: label, x: own.map(place), y: own.map((s) => s.ratio), error_y: bars(own, "ratio"), marker: { color: colour(i ? 3 - i : 0), symbol: symbol(i), size: 13 }, customdata: own.map((s) => s.pairs[0][1]),
      text: own.map((s) => costs(s).join("<br>")), hovertemplate: `%{y:.3g} times ${GOOD}<br>%{text}<extra></extra>` }] : [];
  });
  chart(part(body, "chart"), "returns", { title: `What each step of ${factor}${kind ? ` of ${kind}` : ""} gains, and what it costs.`, note: `Each step over the one before, everything else equal, with 95 % intervals; the dotted line is the floor, ${percent(EST.floor)}.${noteUnknown()}`,
    traces, height: 290, layout: { xaxis: { type: "category", categoryorder: "array", categoryarray: steps.map(place), range: [-0.6, steps.length - 0.4], title: { text: factor } }, yaxis: { type: "log", title: { text: `times ${GOOD} (log)` } }, shapes: [flat(1), flat(1 + EST.floor, "dot")] },
    head: ["step", "contexts", "speed-up", "low", "high", "cost", "pays", "cells"],
    rows: () => steps.map((s) => [name(s), s.pairs.length, s.ratio, s.low, s.high, costs(s).join("; "), ["yes, or it costs nothing", "cannot tell", "no"][state(s)], listButton(unique(s.pairs.flat()), plural(unique(s.pairs.flat()).length, "cell"), `${factor} ${name(s)}`)]) });
}

// ---------------------------------------------------------------- correlations

let withinShown = "";
const ranks = (values) => {
  const order = values.map((v, i) => [v, i]).sort((a, b) => a[0] - b[0]);
  const out = new Array(values.length);
  for (let i = 0; i < order.length;) {
    let j = i;
    while (j < order.length && order[j][0] === order[i][0]) j += 1;
    for (let k = i; k < j; k += 1) out[order[k][1]] = (i + j + 1) / 2;
    i = j;
  }
  return out;
};
function spearman(list, x, y) {
  const both = list.filter((c) => isNumber(c[x]) && isNumber(c[y]));
  const a = ranks(both.map((c) => c[x])), b = ranks(both.map((c) => c[y]));
  const n = both.length, mean = (n + 1) / 2;
  const sum = (f) => a.reduce((s, _, i) => s + f(i), 0);
  const va = sum((i) => (a[i] - mean) ** 2), vb = sum((i) => (b[i] - mean) ** 2);
  if (n < 5 || va === 0 || vb === 0) return null;
  return { cells: n, spearman: sum((i) => (a[i] - mean) * (b[i] - mean)) / Math.sqrt(va * vb) };
}
const NO_CORRELATIONS = () => (unique((TABLES.correlations || []).flatMap((r) => [r.x, r.y])).length > 2 ? "" : "fewer than three measures were taken of five cells or more.");
function drawCorrelations(body) {
  const told = TABLES.correlations;
  const names = unique(told.flatMap((r) => [r.x, r.y]));
  const layers = unique(told.map((r) => r.by)).filter((l) => l);
  part(body, "pick", () => el("div", { class: "picks" }, pick("correlations", [["", "of all measures, over all cells"], ...layers.map((l) => [l, `with ${METRIC}, within each ${l}`])], withinShown, (v) => { withinShown = v; drawCorrelations(body); })));
  const list = analysed().filter((c) => c.status === "complete");
  const by = withinShown;
  const columns = by ? Stats.ordered(by, list.map((c) => c[by])) : names;
  const value = (x, column) => {
    if (!by && x === column) return null;
    if (by) return spearman(list.filter((c) => c[by] === column), x, METRIC);
    return spearman(list, x, column);
  };
  const lines = by ? names.filter((n) => n !== METRIC) : names;
  const found = once(`correlations ${by}`, () => lines.map((x) => columns.map((c) => value(x, c))));
  const label = (c) => (by ? short(by, c) : c);
  const kendall = new Map(told.map((r) => [[r.x, r.y, r.by, r.at].join("\u0001"), r]));
  const known = (x, c) => (filtering() ? undefined : by ? kendall.get([x, METRIC, by, c].join("\u0001")) : kendall.get([x, c, "", ""].join("\u0001")) || kendall.get([c, x, "", ""].join("\u0001")));
  const cell = (x, c) => { const v = found[lines.indexOf(x)][columns.indexOf(c)]; return v ? { text: v.spearman.toFixed(2).replace("-", "−"), tint: Math.abs(v.spearman), hue: v.spearman < 0 ? COLOURS[4] : COLOURS[5], title: `${x} and ${label(c)}, ${v.cells} cells` } : null; };
  const row = (x, c, v) => { const r = known(x, c); return [x, label(c), v.cells, v.spearman, r ? r.kendall : null, r ? listButton(r.odd.flatMap((o) => (ROWS_OF.get(o) || []).slice(0, 1)), "2 cells", `${r.x} orders these two least as ${r.y} does`) : ""]; };
  matrix(part(body, "chart"), "correlations", { title: by ? `Spearman's correlation with ${titleOf(METRIC)}, within each ${by}.` : "Spearman's correlation between measures, over all cells.", note: "1: the same order; 0: none; −1: the reverse. A proxy that orders the cells well over all of them may not do so within one model.",
    ys: lines, xs: columns, label: (v, side) => (side === "y" ? v : label(v)), cell, head: ["measure", by ? `${METRIC} within` : "and", "cells", "Spearman", "Kendall", "least alike"],
    rows: () => lines.flatMap((x, i) => columns.flatMap((c, j) => (!found[i][j] || (!by && columns.indexOf(x) > j) ? [] : [row(x, c, found[i][j])]))) });
}

// ---------------------------------------------------------------- the roofline

// Where all stacks are bound by the same, or nothing was read, there is nothing to see.
function noRoofline() {
  const all = TABLES.roofline || [];
  if (!all.length) return CEILINGS.length ? "no complete cell has both a latency and a count of multiplications." : "the ceilings of arithmetic, memory and overhead were not measured, and none are taken from a file.";
  const bounds = unique(all.map((r) => r.bound));
  return bounds.length > 1 ? "" : bounds[0] === "none of them" ? "no stack comes near a ceiling: none of them explains half of its time." : `all ${all.length} stacks are bound by ${bounds[0]}.`;
}
function drawRoofline(body) {
  const all = TABLES.roofline;
  const roof = all.map((r) => ({ ...r, row: (ROWS_OF.get(r.cell) || []).find((i) => CELLS[i].host === r.host) })).filter((r) => seen(r.row));
  const drawnOnes = roof.filter((r) => isNumber(r.macs_per_byte) && isNumber(r.gflops));
  const bounds = unique(all.map((r) => r.bound)).sort();
  const marks = bounds.map((b, i) => {
    const own = drawnOnes.filter((r) => r.bound === b);
    return { type: "scatter", mode: "markers", name: b === "none of them" ? "none explains half" : `bound by ${b}`, x: own.map((r) => r.macs_per_byte), y: own.map((r) => r.gflops), customdata: own.map((r) => r.row), marker: { color: colour(i), symbol: symbol(i), size: 8, opacity: 0.75 },
      text: own.map((r) => `${stackText(CELLS[r.row])}<br>${num(r.gflops)} GFLOP/s of ${num(r.most_gflops)}<br>${[["arithmetic", r.arithmetic_ms], ["weights from memory", r.memory_ms], ["overhead", r.overhead_ms]].filter(([, v]) => isNumber(v)).map(([n, v]) => `${n} ${num(v)} ms`).join(", ")} of ${num(r.ms)} ms`), hovertemplate: "%{text}<extra></extra>" };
  }).filter((t) => t.x.length);
  const xs = drawnOnes.map((r) => r.macs_per_byte);
  const ends = xs.length ? [Math.min(...xs) / 1.5, Math.max(...xs) * 1.5] : [];
  const tops = unique(drawnOnes.filter((r) => isNumber(r.most_gflops)).map((r) => [CELLS[r.row].hardware, r.most_gflops, r.most_gb_s, r.host].join("\u0001"))).map((k) => k.split("\u0001"));
  const lines = tops.map(([hardware, most, speed, host], i) => {
    const top = Number(most), slope = 2 * Number(speed);
    const knee = speed ? top / slope : ends[0];
    const at = unique([ends[0], Math.min(Math.max(knee, ends[0]), ends[1]), ends[1]]);
    return { type: "scatter", mode: "lines", name: `ceiling of ${short("hardware", hardware)}${HOSTS.length > 1 ? ` on ${host}` : ""}: ${num(top)} GFLOP/s${speed ? `, ${num(Number(speed))} GB/s` : ""}`, x: at, y: at.map((x) => (speed ? Math.min(top, slope * x) : top)), line: { color: theme("ink"), width: 1.5, dash: dash(i) }, hoverinfo: "skip" };
  });
  chart(part(body, "roof"), "roofline", { title: "Roofline: arithmetic done, against work per byte of weights.", note: "Lines: the most this machine did in this study, with those threads. The slope is memory; it caps only weights that do not fit into the last cache.",
    traces: marks.length ? [...lines, ...marks] : [], height: 290,
    layout: { xaxis: { type: "log", title: { text: "multiply-accumulates per byte of weights (log)" } }, yaxis: { type: "log", title: { text: "GFLOP/s (log)" } } },
    head: ["cell", "undisturbed latency, ms", "arithmetic, ms", "weights from memory, ms", "overhead, ms", "bound by", "explains", "GFLOP/s"],
    rows: () => [...roof].sort((a, b) => (b.explained ?? 0) - (a.explained ?? 0)).map((r) => [cellButton(r.row), r.ms, r.arithmetic_ms, r.memory_ms, r.overhead_ms, r.bound, isNumber(r.explained) ? percent(r.explained) : "", r.gflops]) });
  drawCeilings(part(body, "ceilings"));
}
function drawCeilings(body) {
  const readings = CEILINGS.filter((c) => HOSTS.length < 2 || unique(cells().map((x) => x.host)).includes(c.host));
  if (readings.length) body.replaceChildren(el("details", {}, el("summary", {}, "The ceilings as they were read"),
    table(["ceiling", "hardware", "of", "when", "read", "unit", "how, or why not"], readings.map((c) => [c.precision && c.precision !== "float32" ? `${c.kind}, ${c.precision}` : c.kind, short("hardware", c.hardware), c.software ? `${short("software", c.software)}${MANY.includes("dataset") ? `, ${short("dataset", c.dataset)}` : ""}` : "", c.moment, c.value, c.unit, c.reason ? `not measured: ${c.reason}` : c.method]), "Of several readings the largest arithmetic and bandwidth and the least overhead count")));
}

// ---------------------------------------------------------------- cold start

const COLD = [["import_s", "import", 1], ["load_ms", "load", 1e-3], ["first_inference_ms", "first inference", 1e-3], ["quiet_ms", "steady state", 1e-3]];
const NO_COLD = () => (!MANY.includes("software") ? "one runtime only." : CELLS.some((c) => isNumber(coldStart(c))) ? "" : "import, load and first inference were not measured.");
function drawCold(body) {
  const groups = unique(complete().map((c) => c.software));
  const middle = (g, key, scale) => { const v = complete().filter((c) => c.software === g && isNumber(c[key])).map((c) => c[key] * scale); return v.length ? Stats.quantile(v, 0.5) : null; };
  const names = groups.map((g) => fold(short("software", g)));
  chart(body, "cold-start", { title: "Cold start by runtime, medians.", note: "From starting a process to inferring at full speed, in seconds on a log axis.", height: rowsHigh(names, 40, 70),
    traces: groups.length ? COLD.map(([key, name, scale], i) => ({ type: "scatter", mode: "markers", name, y: names, x: groups.map((g) => middle(g, key, scale)), marker: { color: colour(i), symbol: symbol(i), size: 12 }, hovertemplate: `%{y}, ${name}: %{x:.3g} s<extra></extra>` })) : [],
    layout: { xaxis: { type: "log", title: { text: "seconds (log)" } }, yaxis: { type: "category", autorange: "reversed" } },
    head: ["software", "cells", "import, s", "load, s", "first inference, s", "steady state, s"], rows: () => groups.map((g) => [short("software", g), complete().filter((c) => c.software === g).length, ...COLD.map(([key, , scale]) => middle(g, key, scale))]) });
}
