"use strict";
// What each choice gains, what was promised of it, where one overtakes another.

// ---------------------------------------------------------------- speed-ups

let factorShown = null;
function drawSpeedups(body) {
  const factors = unique((TABLES.speedups || []).map((s) => s.factor));
  factorShown ||= factors.includes("optimization") ? "optimization" : factors[0];
  part(body, "pick", () => el("div", { class: "picks" }, pick("choices of", factors.map((f) => [f, f]), factorShown, (v) => { factorShown = v; drawSpeedups(body); })));
  const name = (level) => short(factorShown, level);
  const rows = TABLES.contexts.filter((r) => r.factor === factorShown && seen(r.cell) && seen(r.base));
  const levels = unique(rows.map((r) => r.level));
  const summary = levels.map((level) => {
    const own = rows.filter((r) => r.level === level);
    const whole = filtering() ? null : TABLES.speedups.find((s) => s.factor === factorShown && s.level === level);
    const mean = Stats.meanRatio(own.map((r) => [r.base, r.cell]));
    return { level, own, median: Stats.quantile(own.map((r) => r.ratio), 0.5), mean: whole || mean, slower: own.filter((r) => r.ratio < 1).length / own.length };
  }).sort((a, b) => b.median - a.median);
  const base = rows.length ? name(rows[0].baseline) : "";
  const label = (level) => fold(name(level));
  const traces = summary.map((s, i) => ({ type: "box", orientation: "h", name: name(s.level), x: s.own.map((r) => r.ratio), y: s.own.map(() => label(s.level)), boxpoints: "all", jitter: 0.5, pointpos: 0, line: { color: colour(i), width: 1.5 }, fillcolor: "rgba(0,0,0,0.04)",
    marker: { color: colour(i), symbol: symbol(i), size: 5, opacity: 0.6 }, customdata: s.own.map((r) => r.cell), text: s.own.map((r) => `${stackText(CELLS[r.cell])}<br>${gain(r.ratio)} (${base})${range(r.low, r.high)}`), hovertemplate: "%{text}<extra></extra>", hoveron: "points", showlegend: false }));
  chart(part(body, "chart"), "speedups", { title: `Each ${factorShown} over ${base}, everything else equal.`, note: `Each mark is a context; boxes hold the middle half of the contexts. Left of 1: ${BAD}.${noteUnknown()}`, traces, height: rowsHigh(summary.map((s) => label(s.level)), 32, 70),
    layout: { xaxis: { type: "log", title: { text: `times ${GOOD} (log)` } }, yaxis: { type: "category", autorange: "reversed" }, shapes: [upright(1)] },
    head: [factorShown, "over", "contexts", "geometric mean", "low", "high", "median", "least", "most", `${BAD} in`, "the two ends"],
    rows: () => summary.map((s) => { const sorted = [...s.own].sort((a, b) => a.ratio - b.ratio); const ends = [sorted[0], sorted[sorted.length - 1]]; return [name(s.level), base, s.own.length, s.mean.ratio, s.mean.low, s.mean.high, s.median, ends[0].ratio, ends[1].ratio, percent(s.slower), listButton(unique(ends.flatMap((e) => [e.cell, e.base])), "cells", `${name(s.level)} against ${base}`)]; }) });
}

// ---------------------------------------------------------------- expected against observed

let costShown = null;
const COSTS = { effective_macs: "effective multiply-accumulates", macs: "multiply-accumulates", weights_mb: "bytes of weights", ran_threads: "threads", ran_precision: "width of the type" };
const NO_PROMISE = () => ((TABLES.expected_contexts || []).length ? "" : "no choice changes a cost whose promise could be compared.");
function drawExpected(body) {
  const all = TABLES.expected_contexts;
  const costs = unique(all.map((r) => r.cost));
  costShown ||= costs.includes("effective_macs") ? "effective_macs" : costs[0];
  part(body, "pick", () => el("div", { class: "picks" }, pick("promised by", costs.map((c) => [c, COSTS[c] || c]), costShown, (v) => { costShown = v; drawExpected(body); })));
  const rows = all.filter((r) => r.cost === costShown && r.factor in DATA.short && seen(r.cell) && seen(r.base));
  const levels = unique(rows.map((r) => `${r.factor}\u0001${r.level}`));
  const ends = rows.flatMap((r) => [r.expected, r.observed]);
  const span = ends.length ? [Math.min(...ends) * 0.9, Math.max(...ends) * 1.1] : [1, 2];
  const traces = levels.map((key, i) => {
    const [factor, level] = key.split("\u0001");
    const own = rows.filter((r) => r.factor === factor && r.level === level);
    return { type: "scatter", mode: "markers", name: short(factor, level), x: own.map((r) => r.expected), y: own.map((r) => r.observed), customdata: own.map((r) => r.cell), marker: { color: colour(i), symbol: symbol(i), size: 8, opacity: 0.7 },
      text: own.map((r) => `${stackText(CELLS[r.cell])}<br>expected ${num(r.expected)}, observed ${num(r.observed)}`), hovertemplate: "%{text}<extra></extra>" };
  });
  if (rows.length) traces.push({ type: "scatter", mode: "lines", name: "as promised", x: span, y: span, line: { color: theme("soft"), dash: "dash" }, hoverinfo: "skip" });
  const verdict = new Map(TABLES.expected.map((e) => [`${e.factor}\u0001${e.level}\u0001${e.cost}`, e]));
  const line = (key) => { const [factor, level] = key.split("\u0001"); const own = rows.filter((r) => r.factor === factor && r.level === level); const x = geomean(own.map((r) => r.expected)), y = geomean(own.map((r) => r.observed)); return [short(factor, level), short(factor, CELLS[own[0].base][factor]), own.length, x, y, y / x, verdict.get(`${key}\u0001${costShown}`)?.verdict || ""]; };
  chart(part(body, "chart"), "expected", { title: `Gain expected from ${COSTS[costShown] || costShown}, and observed.`, note: "Below the line less came of it than was promised.", traces: rows.length ? traces : [], height: 290,
    layout: { xaxis: { type: "log", title: { text: "expected (log)" } }, yaxis: { type: "log", title: { text: "observed (log)" } } },
    head: ["choice", "over", "contexts", "expected", "observed", "observed over expected", "verdict (all cells)"], rows: () => levels.map(line) });
}

// ---------------------------------------------------------------- the promise waterfall

const FALL = [["macs", "fewer MACs"], ["width", "narrower type"], ["zeros", "zeros skipped"], ["precision", "type that ran"], ["kernels", "kernels"], ["overhead", "overhead"], ["left", "measured"]];
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
  const all = TABLES.waterfall_stacks;
  const levels = unique(all.map((s) => s.level));
  fallShown ||= levels[0];
  part(body, "fall-pick", () => el("div", { class: "picks" }, pick("optimization", levels.map((l) => [l, short("optimization", l)]), fallShown, (v) => { fallShown = v; drawWaterfall(body); })));
  const stacks = all.filter((s) => s.level === fallShown && (ROWS_OF.get(s.cell) || []).some(seen));
  const steps = fallOf(stacks);
  const bars_ = steps.filter((s) => s.factor !== null);
  const label = (s) => `×${num(s.factor)}${s.known < stacks.length ? `<br>in ${s.known}` : ""}`;
  const roomy = wide() && !(window.innerWidth >= 1280 && window.innerWidth < 1500);
  const place = (s) => fold(s.name, roomy ? 12 : 9);
  const tint = (s) => (s.name === "measured" ? theme("ink") : s.factor < 1 ? COLOURS[1] : COLOURS[0]);
  const unknown = stacks.length ? steps.filter((s) => s.factor === null) : [];
  const small = { size: roomy ? 11 : wide() ? 10 : 8 };
  chart(part(body, "fall"), "waterfall", { title: `What became of the promise of ${short("optimization", fallShown)}.`, note: `Geometric means over ${plural(stacks.length, "stack")}, each against the same stack without optimization. A bar begins where the one before ended; the last is the speed-up that was measured. What is not measured is in the kernels.`,
    traces: stacks.length ? [{ type: "bar", x: bars_.map(place), base: bars_.map((s) => s.before), y: bars_.map((s) => s.after - s.before), customdata: bars_.map((s) => s.factor), text: bars_.map(label), textposition: "outside", cliponaxis: false, textangle: 0, constraintext: "none", textfont: small,
      marker: { color: bars_.map(tint), pattern: { shape: bars_.map((s) => (s.name === "measured" ? "x" : s.factor < 1 ? "/" : "")) } }, hovertemplate: "%{x}: %{text}<extra></extra>" }] : [],
    height: 290, layout: { margin: { t: 30, r: 14, l: 50, b: 44 }, annotations: unknown.map((s) => ({ x: place(s), y: s.after, yanchor: "bottom", text: "not<br>measured", showarrow: false, font: small })), xaxis: { type: "category", categoryorder: "array", categoryarray: steps.map(place), tickangle: 0, tickfont: small }, yaxis: { rangemode: "tozero", title: { text: `times ${GOOD}` } }, shapes: [flat(1)] },
    head: ["step", "factor", `times ${GOOD} after it`, "known in", "not measured because"], rows: () => steps.map((s) => [s.name, s.factor, s.after, s.known, s.why]) });
}

// ---------------------------------------------------------------- break-even

let curveShown = null;
const curveKey = (b) => [b.factor, b.layer, b.a, b.b].join("\u0001");
const curved = (b) => (EST.ordered.find((o) => o.name === b.factor)?.levels.length || 0) > 2;
function noCurve() {
  const all = TABLES.break_evens || [];
  if (!all.length) return "no factor has levels in an order (such as threads or sparsity) along which two choices can be compared.";
  return all.some(curved) ? "" : `two levels make no curve (${unique(all.map((b) => b.factor)).join(", ")}); the flips tell where two choices change order.`;
}
function drawBreakEven(body) {
  const all = TABLES.break_evens.filter(curved);
  const groups = new Map();
  for (const b of all) groups.set(curveKey(b), [...(groups.get(curveKey(b)) || []), b]);
  const crossing = (list) => list.filter((b) => b.verdict === "crosses").length / list.length;
  const firsts = [...groups.values()].sort((x, y) => crossing(y) - crossing(x)).map((list) => list[0]).slice(0, 60);
  curveShown ||= curveKey(firsts[0]);
  const crosses = (b) => (groups.get(curveKey(b)).some((o) => o.verdict === "crosses") ? "crosses" : b.verdict);
  const title = (b) => `${short(b.layer, b.a)} or ${short(b.layer, b.b)}, along ${b.factor} (${crosses(b)})`;
  part(body, "pick", () => el("div", { class: "picks" }, pick("choices", firsts.map((b) => [curveKey(b), title(b)]), curveShown, (v) => { curveShown = v; drawBreakEven(body); })));
  const b = all.find((x) => curveKey(x) === curveShown);
  const own = all.filter((x) => curveKey(x) === curveShown && x.verdict === "crosses" && isNumber(x.level));
  drawCurve(part(body, "chart"), b, own.find((x) => x.context === "(average)") || own[0]);
  const shown = all.filter((x) => x.context === "(average)" || curveKey(x) === curveShown).filter((x) => !x.cells.length || x.cells.every((c) => (ROWS_OF.get(c) || []).some(seen)));
  part(body, "table").replaceChildren(el("details", {}, el("summary", {}, `${plural(shown.length, "break-even")} over all cells of the study`), table(["factor", "first", "second", "context", "verdict", "level", "low", "high", "contexts"], shown.map((x) => [x.factor, short(x.layer, x.a), short(x.layer, x.b), readable(x.context), x.verdict, x.level, x.low, x.high, x.contexts]), "Averages over contexts, and the single contexts of the choices drawn", 25)));
}
function drawCurve(body, b, point) {
  const curves = curvesOf(b);
  const levels = EST.ordered.find((o) => o.name === b.factor).levels.map(Number);
  const traces = curves.map((c, i) => ({ type: "scatter", mode: "lines+markers", name: c.name, x: c.points.map((p) => p.level), y: c.points.map((p) => p.ratio), line: { width: 1, color: colour(i), dash: dash(i) }, marker: { symbol: symbol(i), size: 6, color: colour(i) }, opacity: 0.55, customdata: c.points.map((p) => p.rows[0]), hovertemplate: `${c.name}<br>at %{x}: %{y:.3g}<extra></extra>`, showlegend: false }));
  const shared = curves.filter((c) => levels.every((l) => c.points.some((p) => p.level === l)));
  const mean = shared.length ? levels.map((l) => ({ level: l, ...Stats.meanRatio(shared.map((c) => c.points.find((p) => p.level === l).rows).map(([x, y]) => [y, x])) })) : [];
  if (mean.length) traces.push({ type: "scatter", mode: "lines+markers", name: `mean of ${plural(shared.length, "context")}`, x: mean.map((p) => p.level), y: mean.map((p) => p.ratio), error_y: bars(mean, "ratio"), line: { width: 3, color: theme("ink") }, marker: { size: 8, color: theme("ink") }, hovertemplate: "mean at %{x}: %{y:.3g}<extra></extra>" });
  const known = point && !filtering();
  const log = levels[0] > 0 && levels[levels.length - 1] / levels[0] >= 8;
  const shapes = [flat(1), ...(known ? [{ ...upright(point.level), line: { color: theme("bad"), width: 1.5 } }] : [])];
  if (known && isNumber(point.low) && isNumber(point.high)) shapes.push({ type: "rect", yref: "paper", y0: 0, y1: 1, x0: point.low, x1: point.high, fillcolor: theme("bad"), opacity: 0.1, line: { width: 0 } });
  const said = known ? ` Break-even at ${b.factor} ${num(point.level)}${range(point.low, point.high)} (${point.context === "(average)" ? "average of contexts" : readable(point.context)}).` : "";
  chart(body, "break-even", { title: `${short(b.layer, b.a)} over ${short(b.layer, b.b)}, along ${b.factor}.`, note: `Above 1 the first is ${GOOD}. Thin: single contexts; thick: their mean.${said}`, traces: curves.length ? traces : [], height: 290,
    layout: { xaxis: { title: { text: b.factor }, type: log ? "log" : "linear", tickvals: levels, ticktext: levels.map(String) }, yaxis: { type: "log", title: { text: `times ${GOOD} (log)` } }, shapes },
    head: ["context", b.factor, "ratio", "cells"], rows: () => curves.flatMap((c) => c.points.map((p) => [c.name, p.level, p.ratio, listButton(p.rows, "2 cells", c.name)])) });
}
// The ratio of two choices at each level of an ordered factor, in each context.
function curvesOf(b) {
  const factor = EST.ordered.find((o) => o.name === b.factor);
  const inner = b.layer === factor.layer && factor.name !== factor.layer;
  const others = [...EST.varied, ...(HOSTS.length > 1 ? ["host"] : [])].filter((c) => c !== b.layer && c !== factor.layer);
  const { siblings } = factor;
  const kind = (c) => [EST.kinds[factor.layer][c[factor.layer]], ...siblings.map((p) => levelOf(c, p))].join("\u0001");
  const named = (c) => {
    const extra = siblings.filter((p) => levelOf(c, p) !== EMPTY && EST.orders[p].filter((l) => l !== EMPTY).length > 1).map((p) => `${p}=${levelOf(c, p)}`);
    return [EST.kinds[factor.layer][c[factor.layer]], ...(extra.length ? [extra.join(", ")] : [])].join(" with ");
  };
  const has = (c) => levelOf(c, factor.name) !== EMPTY;
  const found = new Map();
  const put = (key, side, level, c) => {
    if (!found.has(key)) found.set(key, { a: new Map(), b: new Map(), name: others.filter((o) => EST.varied.includes(o) || o === "host").map((o) => short(o, c[o])).join(" · ") || "all" });
    found.get(key)[side].set(level, c.row);
  };
  const rest = (c) => others.map((o) => c[o]).join("\u0001");
  for (const c of analysed()) {
    if (inner) {
      if (has(c) && (named(c) === b.a || named(c).replaceAll(", ", " with ") === b.a)) put(rest(c), "a", Number(c[factor.name]), c);
      if (!has(c) && c[b.layer] === b.b) for (const l of factor.levels) put(rest(c), "b", Number(l), c);
    } else if (has(c) && (c[b.layer] === b.a || c[b.layer] === b.b)) {
      put(factor.name === factor.layer ? rest(c) : `${rest(c)}\u0001${kind(c)}`, c[b.layer] === b.a ? "a" : "b", Number(c[factor.name]), c);
    }
  }
  return [...found.values()].flatMap((f) => {
    const points = factor.levels.map(Number).filter((l) => f.a.has(l) && f.b.has(l)).map((l) => ({ level: l, rows: [f.a.get(l), f.b.get(l)], ratio: Math.exp(EST.mean[f.b.get(l)] - EST.mean[f.a.get(l)]) }));
    return points.length ? [{ name: f.name, points }] : [];
  });
}
