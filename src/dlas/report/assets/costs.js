"use strict";
// The roofline, what more of an ordered factor pays, correlations.

function drawRoofline(body) {
  const all = TABLES.roofline || [];
  const readings = CEILINGS.filter((c) => HOSTS.length < 2 || unique(cells().map((x) => x.host)).includes(c.host));
  if (!all.length) {
    const why = CEILINGS.length ? `Ceilings were read, but no complete cell has both a latency and a count of multiplications. ` : "The ceilings of arithmetic, memory and overhead were not measured in this study, and none are taken from a file.";
    part(body, "roof-none").replaceChildren(el("p", { class: "soft" }, `No roofline: ${why}`));
    return;
  }
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
    return { type: "scatter", mode: "lines", name: `ceiling of ${short("hardware", hardware)}${HOSTS.length > 1 ? ` on ${host}` : ""}: ${num(top)} GFLOP/s${speed ? `, ${num(Number(speed))} GB/s` : ""}`, x: at, y: at.map((x) => (speed ? Math.min(top, slope * x) : top)), line: { color: "#1b1f24", width: 1.5, dash: DASHES[i % DASHES.length] }, hoverinfo: "skip" };
  });
  chart(part(body, "roof"), "roofline", { title: "Roofline: arithmetic done, against work per byte of weights.", note: "Lines: the most this machine did in this study, with those threads. The slope is memory; it caps only weights that do not fit into the last cache.",
    traces: marks.length ? [...lines, ...marks] : [], height: 480 + 18 * lines.length,
    layout: { xaxis: { type: "log", title: { text: "multiply-accumulates per byte of weights (log)" } }, yaxis: { type: "log", title: { text: "GFLOP/s (log)" } } },
    head: ["cell", "undisturbed latency, ms", "arithmetic, ms", "weights from memory, ms", "overhead, ms", "bound by", "explains", "GFLOP/s"],
    rows: () => [...roof].sort((a, b) => (b.explained ?? 0) - (a.explained ?? 0)).map((r) => [cellButton(r.row), r.ms, r.arithmetic_ms, r.memory_ms, r.overhead_ms, r.bound, isNumber(r.explained) ? percent(r.explained) : "", r.gflops]) });
  part(body, "ceilings").replaceChildren(el("details", {}, el("summary", {}, "The ceilings as they were read"),
    table(["ceiling", "hardware", "of", "when", "read", "unit", "how, or why not"], readings.map((c) => [c.kind, short("hardware", c.hardware), c.software ? `${short("software", c.software)}${MANY.includes("dataset") ? `, ${short("dataset", c.dataset)}` : ""}` : "", c.moment, c.value, c.unit, c.reason ? `not measured: ${c.reason}` : c.method]), "Of several readings the largest arithmetic and bandwidth and the least overhead count")));
}

// ---------------------------------------------------------------- the promise waterfall

const FALL = [["macs", "fewer multiplications"], ["width", "narrower type"], ["zeros", "zeros skipped"], ["precision", "type that ran"], ["kernels", "kernels"], ["overhead", "overhead"], ["left", "measured"]];
let fallShown = null;
// Each factor: its geometric mean over the stacks in which it is known, and what is left after it.
function fallOf(stacks) {
  let after = 1;
  return FALL.map(([step, name]) => {
    const known = stacks.map((s) => s[step]).filter(isNumber);
    const factor = known.length ? geomean(known) : null;
    const before = step === "left" ? 1 : after;
    if (factor !== null) after = step === "left" ? factor : after * factor;
    return { name, factor, before, after, known: known.length, why: unique(stacks.map((s) => s.why[step]).filter(Boolean)).join("; ") };
  });
}
function drawWaterfall(body) {
  const all = TABLES.waterfall_stacks || [];
  if (!all.length) { part(body, "fall-none").replaceChildren(el("p", { class: "soft" }, "No promise to follow: no optimization stands beside the stack without it, or neither multiplications nor the type that ran are known.")); return; }
  const levels = unique(all.map((s) => s.level));
  fallShown ||= levels[0];
  part(body, "fall-pick", () => el("div", { class: "picks" }, pick("optimization", levels.map((l) => [l, short("optimization", l)]), fallShown, (v) => { fallShown = v; drawWaterfall(body); })));
  const stacks = all.filter((s) => s.level === fallShown && (ROWS_OF.get(s.cell) || []).some(seen));
  const steps = fallOf(stacks);
  const bars_ = steps.filter((s) => s.factor !== null);
  const label = (s) => (s.factor === null ? "not measured" : `×${num(s.factor)}${s.known < stacks.length ? ` in ${s.known}` : ""}`);
  chart(part(body, "fall"), "waterfall", { title: `What became of the promise of ${short("optimization", fallShown)}.`, note: `Geometric means over ${plural(stacks.length, "stack")}, each against the same stack without optimization. A bar begins where the one before ended; the last is the speed-up that was measured. What is not measured is in the kernels.`,
    traces: stacks.length ? [{ type: "bar", x: bars_.map((s) => s.name), base: bars_.map((s) => s.before), y: bars_.map((s) => s.after - s.before), customdata: bars_.map((s) => s.factor), text: bars_.map(label), textposition: "outside", cliponaxis: false, textangle: 0, constraintext: "none", textfont: { size: wide() ? 12 : 8 },
      marker: { color: bars_.map((s) => (s.name === "measured" ? COLOURS[6] : s.factor < 1 ? COLOURS[1] : COLOURS[0])), pattern: { shape: bars_.map((s) => (s.name === "measured" ? "x" : s.factor < 1 ? "/" : "")) } }, hovertemplate: "%{x}: %{text}<extra></extra>" }] : [],
    height: 380, layout: { margin: { t: 30, r: 12, l: 50, b: 44 }, annotations: stacks.length ? steps.filter((s) => s.factor === null).map((s) => ({ x: s.name, y: s.after, yanchor: "bottom", text: "not<br>measured", showarrow: false, font: { size: wide() ? 12 : 8 } })) : [], xaxis: { type: "category", categoryorder: "array", categoryarray: FALL.map(([, n]) => n) }, yaxis: { rangemode: "tozero", title: { text: "times faster" } }, shapes: [flat(1)] },
    head: ["step", "factor", "times faster after it", "known in", "not measured because"], rows: () => steps.map((s) => [s.name, s.factor, s.after, s.known, s.why]) });
}

// ---------------------------------------------------------------- diminishing returns

const RETURN_COSTS = { accuracy: "accuracy", build_s: "build time", tuning_s: "tuning time" };
const LEAST_DROP = 0.001;
// Each step of an ordered factor: what it gains and what it costs, in the contexts that hold both.
function stepsOf(factor) {
  const own = factor.name === factor.layer;
  const siblings = EST.parameters.filter((p) => p !== factor.name && p.startsWith(`${factor.layer}.`));
  const kinds = new Map();
  for (const c of analysed()) {
    if (c[factor.name] === null || c[factor.name] === undefined || c[factor.name] === "") continue;
    const kind = own ? "" : EST.skeletons[factor.layer][c[factor.layer]];
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
function drawReturns(body) {
  const groups = unique((TABLES.returns || []).map((r) => `${r.factor}\u0001${r.technique}`));
  if (!EST || !groups.length) { part(body, "none").replaceChildren(el("p", {}, "No factor of this study has levels in an order whose accuracy or build time was measured.")); return; }
  const stops = (key) => TABLES.returns.filter((r) => `${r.factor}\u0001${r.technique}` === key && !r.pays).length;
  const title = (key) => { const [factor, kind] = key.split("\u0001"); return `${factor}${kind ? ` of ${kind}` : ""}${stops(key) ? ` (${plural(stops(key), "step")} that ${stops(key) === 1 ? "does" : "do"} not pay)` : ""}`; };
  returnShown ||= [...groups].sort((a, b) => stops(b) - stops(a))[0];
  part(body, "pick", () => el("div", { class: "picks" }, pick("more of", groups.map((g) => [g, title(g)]), returnShown, (v) => { returnShown = v; drawReturns(body); })));
  const [factor, kind] = returnShown.split("\u0001");
  const steps = stepsOf(EST.ordered.find((o) => o.name === factor)).filter((s) => s.kind === kind);
  const name = (s) => `${s.from} to ${s.to}`;
  const costs = (s) => Object.entries(s.costs).map(([c, v]) => costSaid(c, v.change));
  const state = (s) => { const all = Object.values(s.costs); return all.some((c) => !c.pays) ? 2 : all.some((c) => !c.sure) ? 1 : 0; };
  const STATES = ["pays, or costs nothing", "cannot tell whether it pays", "costs more for less than the floor"];
  const traces = STATES.flatMap((label, i) => {
    const own = steps.filter((s) => state(s) === i);
    return own.length ? [{ type: "scatter", mode: "markers+text", name: label, x: own.map(name), y: own.map((s) => s.ratio), error_y: bars(own, "ratio"), marker: { color: colour(i ? 3 - i : 0), symbol: symbol(i), size: 13 }, customdata: own.map((s) => s.pairs[0][1]), cliponaxis: false,
      text: own.map((s) => costs(s).map((c) => `  ${c}`).join("<br>")), textposition: "middle right", hovertemplate: "%{x}: %{y:.3g} times faster<br>%{text}<extra></extra>" }] : [];
  });
  const line = (y, dash) => ({ ...flat(y), line: { color: "#57606a", width: 1, dash } });
  chart(part(body, "chart"), "returns", { title: `What each step of ${factor}${kind ? ` of ${kind}` : ""} gains, and what it costs.`, note: `Speed-up of each step over the one before, everything else equal, with 95 % intervals; the dotted line is the floor, ${percent(EST.floor)}.${noteUnknown()}`,
    traces, height: 400, layout: { showlegend: true, xaxis: { type: "category", categoryorder: "array", categoryarray: steps.map(name), range: [-0.5, Math.max(0.7, steps.length - 0.3)], title: { text: factor } }, yaxis: { type: "log", title: { text: "speed-up of the step (log)" } }, shapes: [line(1, "dash"), line(1 + EST.floor, "dot")] },
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
function drawCorrelations(body) {
  const told = TABLES.correlations || [];
  const names = unique(told.flatMap((r) => [r.x, r.y]));
  if (!names.length) { part(body, "none").replaceChildren(el("p", {}, "Fewer than two metrics were measured of five cells or more.")); return; }
  const layers = unique(told.map((r) => r.by)).filter((l) => l);
  part(body, "pick", () => el("div", { class: "picks" }, pick("correlations", [["", "of all metrics, over all cells"], ...layers.map((l) => [l, `with ${DATA.metric}, within each ${l}`])], withinShown, (v) => { withinShown = v; drawCorrelations(body); })));
  const list = analysed().filter((c) => c.status === "complete");
  const by = withinShown;
  const columns = by ? Stats.ordered(by, list.map((c) => c[by])) : names;
  const value = (x, column) => {
    if (!by && x === column) return null;
    if (by) return spearman(list.filter((c) => c[by] === column), x, DATA.metric);
    return spearman(list, x, column);
  };
  const lines = by ? names.filter((n) => n !== DATA.metric) : names;
  const found = once(`correlations ${by}`, () => lines.map((x) => columns.map((c) => value(x, c))));
  const label = (c) => (by ? short(by, c) : c);
  const words = lines.flatMap((x, i) => columns.flatMap((c, j) => (found[i][j] ? [{ x: label(c), y: x, text: found[i][j].spearman.toFixed(2).replace("-", "−"), showarrow: false, font: { size: wide() ? 12 : 8, color: Math.abs(found[i][j].spearman) > 0.65 ? "#fff" : "#1b1f24" } }] : [])));
  const any = found.some((r) => r.some((v) => v));
  const kendall = new Map(told.map((r) => [[r.x, r.y, r.by, r.at].join("\u0001"), r]));
  const known = (x, c) => (filtering() ? undefined : by ? kendall.get([x, DATA.metric, by, c].join("\u0001")) : kendall.get([x, c, "", ""].join("\u0001")) || kendall.get([c, x, "", ""].join("\u0001")));
  chart(part(body, "chart"), "correlations", { title: by ? `Spearman's correlation with ${DATA.metric}, within each ${by}.` : "Spearman's correlation between metrics, over all cells.", note: "1: the same order; 0: none; −1: the reverse. A proxy that orders the cells well over all of them may not do so within one model.",
    traces: any ? [{ type: "heatmap", x: columns.map(label), y: lines, z: found.map((r) => r.map((v) => (v ? v.spearman : null))), zmin: -1, zmax: 1, colorscale: [[0, "#a04600"], [0.5, "#ffffff"], [1, "#0b4f8a"]], showscale: false, xgap: 2, ygap: 2, hovertemplate: "%{y} and %{x}: %{z:.2f}<extra></extra>" }] : [],
    height: 130 + (wide() ? 34 : 30) * lines.length, layout: { annotations: words, xaxis: { type: "category", showgrid: false }, yaxis: { type: "category", autorange: "reversed", showgrid: false } },
    head: ["metric", by ? `${DATA.metric} within` : "and", "cells", "Spearman", "Kendall", "least alike"],
    rows: () => lines.flatMap((x, i) => columns.flatMap((c, j) => { if (!found[i][j] || (!by && columns.indexOf(x) > j)) return []; const r = known(x, c); return [[x, label(c), found[i][j].cells, found[i][j].spearman, r ? r.kendall : null, r ? listButton(r.odd.flatMap((o) => (ROWS_OF.get(o) || []).slice(0, 1)), "2 cells", `${r.x} orders these two least as ${r.y} does`) : ""]]; })) });
}
