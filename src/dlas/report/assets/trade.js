"use strict";
// Latency against accuracy, speed-ups, expectations, break-evens, memory and cold start.

function drawFront(body) {
  const found = complete().filter((c) => isNumber(c.accuracy) && isNumber(c.quiet_ms));
  const without = complete().filter((c) => !isNumber(c.accuracy) && isNumber(c.quiet_ms)).length;
  const by = MANY.includes("software") ? "software" : MANY[0] || "software";
  const groups = unique(CELLS.map((c) => c[by]));
  const state = new Map((TABLES.front || []).map((f) => [f.row, f.front]));
  const error = (c) => [c.quiet_low_ms, c.quiet_high_ms].every(isNumber) ? range(c.quiet_low_ms, c.quiet_high_ms, " ms") : "";
  const traces = groups.flatMap((g, i) => {
    const rows = found.filter((c) => c[by] === g);
    return rows.length ? [{ type: "scatter", mode: "markers", name: short(by, g), x: rows.map((c) => c.quiet_ms), y: rows.map((c) => 100 * c.accuracy), customdata: rows.map((c) => c.row),
      text: rows.map((c) => `${stackText(c)}<br>${num(c.quiet_ms)} ms${error(c)}<br>accuracy ${percent(c.accuracy, 3)}${isNumber(c.memory_mb) ? `, ${num(c.memory_mb)} MB` : ""}`), hovertemplate: "%{text}<extra></extra>",
      marker: { color: colour(i), symbol: symbol(i), size: 9, opacity: 0.75, line: { width: 0.5, color: "#fff" } } }] : [];
  });
  const front = HOSTS.length > 1 ? [] : Stats.nondominated(found, [(c) => c.quiet_ms, (c) => -c.accuracy]).sort((a, b) => a.quiet_ms - b.quiet_ms);
  if (front.length) traces.push({ type: "scatter", mode: "lines+markers", name: "front: none both faster and as accurate", x: front.map((c) => c.quiet_ms), y: front.map((c) => 100 * c.accuracy), customdata: front.map((c) => c.row), line: { color: "#1b1f24", width: 1.5, shape: "hv" }, marker: { symbol: "circle-open", size: 15, color: "#1b1f24", line: { width: 1.5 } }, hoverinfo: "skip" });
  const best = bestNow();
  if (best && isNumber(CELLS[best.row].accuracy)) traces.push({ type: "scatter", mode: "markers+text", name: "the best under the goals", x: [CELLS[best.row].quiet_ms], y: [100 * CELLS[best.row].accuracy], text: ["take this"], textposition: "bottom center", customdata: [best.row], hoverinfo: "skip", marker: { symbol: "star-open", size: 20, color: "#a4262c", line: { width: 2 } } });
  chart(part(body, "chart"), "latency-accuracy", { title: "Latency against accuracy.", note: `Each mark is a complete stack; choose one for all that is known of it.${without ? ` ${without} complete cells have no accuracy.` : ""}`,
    traces: found.length ? traces : [], height: 500, layout: { xaxis: { type: "log", title: { text: "undisturbed latency, ms (log)" } }, yaxis: { title: { text: "accuracy, %" } } },
    head: ["cell", ...MANY, "undisturbed latency, ms", "accuracy", "front of the goals"], rows: () => [...found].sort((a, b) => a.quiet_ms - b.quiet_ms).map((c) => [cellButton(c.row, c.cell.slice(0, 8)), ...MANY.map((l) => short(l, c[l])), c.quiet_ms, c.accuracy, state.get(c.row) || ""]) });
  if (!found.length && complete().length) part(body, "note").replaceChildren(el("p", {}, "Accuracy was not measured in this study."));
}

// ---------------------------------------------------------------- speed-ups

let factorShown = null;
function drawSpeedups(body) {
  const factors = unique((TABLES.speedups || []).map((s) => s.factor));
  if (!factors.length) { part(body, "none").replaceChildren(el("p", {}, "No two choices were measured with everything else equal.")); return; }
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
  const traces = summary.map((s, i) => ({ type: "box", orientation: "h", name: name(s.level), x: s.own.map((r) => r.ratio), y: s.own.map(() => name(s.level)), boxpoints: "all", jitter: 0.5, pointpos: 0, line: { color: colour(i), width: 1.5 }, fillcolor: "rgba(0,0,0,0.04)",
    marker: { color: colour(i), symbol: symbol(i), size: 5, opacity: 0.6 }, customdata: s.own.map((r) => r.cell), text: s.own.map((r) => `${stackText(CELLS[r.cell])}<br>${gain(r.ratio)} than ${base}${range(r.low, r.high)}`), hovertemplate: "%{text}<extra></extra>", hoveron: "points", showlegend: false }));
  chart(part(body, "chart"), "speedups", { title: `Speed-up of each ${factorShown} over ${base}, everything else equal.`, note: `Each mark is a context; boxes hold the middle half of the contexts. Left of 1: slower.${noteUnknown()}`, traces, height: 130 + 62 * Math.max(1, summary.length),
    layout: { xaxis: { type: "log", title: { text: `times faster than ${base} (log)` } }, yaxis: { type: "category", autorange: "reversed" }, shapes: [{ type: "line", yref: "paper", y0: 0, y1: 1, x0: 1, x1: 1, line: { color: "#57606a", dash: "dash", width: 1 } }] },
    head: [factorShown, "over", "contexts", "geometric mean", "low", "high", "median", "least", "most", "slower in", "slowest and fastest"],
    rows: () => summary.map((s) => { const sorted = [...s.own].sort((a, b) => a.ratio - b.ratio); const ends = [sorted[0], sorted[sorted.length - 1]]; return [name(s.level), base, s.own.length, s.mean.ratio, s.mean.low, s.mean.high, s.median, ends[0].ratio, ends[1].ratio, percent(s.slower), listButton(unique(ends.flatMap((e) => [e.cell, e.base])), "cells", `${name(s.level)} against ${base}`)]; }) });
}

// ---------------------------------------------------------------- expected against observed

let costShown = null;
const COSTS = { effective_macs: "effective multiply-accumulates", macs: "multiply-accumulates", weights_mb: "bytes of weights", ran_threads: "threads", ran_precision: "width of the type" };
function drawExpected(body) {
  const all = TABLES.expected_contexts || [];
  const costs = unique(all.map((r) => r.cost));
  if (!costs.length) { part(body, "none").replaceChildren(el("p", {}, "No choice changes a cost whose promise could be compared.")); }
  else {
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
    if (rows.length) traces.push({ type: "scatter", mode: "lines", name: "as promised", x: span, y: span, line: { color: "#57606a", dash: "dash" }, hoverinfo: "skip" });
    const told = new Map(TABLES.expected.map((e) => [`${e.factor}\u0001${e.level}\u0001${e.cost}`, e]));
    chart(part(body, "chart"), "expected", { title: `Speed-up expected from ${COSTS[costShown] || costShown}, and observed.`, note: "Below the line less came of it than was promised.", traces: rows.length ? traces : [], height: 460,
      layout: { xaxis: { type: "log", title: { text: "expected speed-up (log)" } }, yaxis: { type: "log", title: { text: "observed speed-up (log)" } } },
      head: ["choice", "over", "contexts", "expected", "observed", "observed over expected", "verdict (all cells)"],
      rows: () => levels.map((key) => { const [factor, level] = key.split("\u0001"); const own = rows.filter((r) => r.factor === factor && r.level === level); const x = geomean(own.map((r) => r.expected)), y = geomean(own.map((r) => r.observed)); return [short(factor, level), short(factor, CELLS[own[0].base][factor]), own.length, x, y, y / x, told.get(`${key}\u0001${costShown}`)?.verdict || ""]; }) });
  }
  drawWaterfall(body);
  drawRoofline(body);
}

// ---------------------------------------------------------------- break-even

let curveShown = null;
const curveKey = (b) => [b.factor, b.layer, b.a, b.b].join("\u0001");
function drawBreakEven(body) {
  const all = TABLES.break_evens || [];
  if (!all.length) { part(body, "none").replaceChildren(el("p", {}, "No factor of this study has levels in an order (such as threads or sparsity) along which two choices can be compared.")); return; }
  const groups = new Map();
  for (const b of all) groups.set(curveKey(b), [...(groups.get(curveKey(b)) || []), b]);
  const crossing = (list) => list.filter((b) => b.verdict === "crosses").length / list.length;
  const firsts = [...groups.values()].sort((x, y) => crossing(y) - crossing(x)).map((list) => list[0]).slice(0, 60);
  curveShown ||= curveKey(firsts[0]);
  const crosses = (b) => (groups.get(curveKey(b)).some((o) => o.verdict === "crosses") ? "crosses" : b.verdict);
  const title = (b) => `${short(b.layer, b.a)} or ${short(b.layer, b.b)}, along ${b.factor} (${crosses(b)})`;
  part(body, "pick", () => el("div", { class: "picks" }, pick("choices", firsts.map((b) => [curveKey(b), title(b)]), curveShown, (v) => { curveShown = v; drawBreakEven(body); })));
  const b = all.find((x) => curveKey(x) === curveShown);
  const curves = curvesOf(b);
  const levels = EST.ordered.find((o) => o.name === b.factor).levels.map(Number);
  const thin = curves.map((c, i) => ({ type: "scatter", mode: "lines+markers", name: c.name, x: c.points.map((p) => p.level), y: c.points.map((p) => p.ratio), line: { width: 1, color: colour(i), dash: DASHES[i % DASHES.length] }, marker: { symbol: symbol(i), size: 6, color: colour(i) }, opacity: 0.55, customdata: c.points.map((p) => p.rows[0]), hovertemplate: `${c.name}<br>at %{x}: %{y:.3g}<extra></extra>`, showlegend: false }));
  const shared = curves.filter((c) => levels.every((l) => c.points.some((p) => p.level === l)));
  const mean = shared.length ? levels.map((l) => ({ level: l, ...Stats.meanRatio(shared.map((c) => c.points.find((p) => p.level === l).rows).map(([x, y]) => [y, x])) })) : [];
  if (mean.length) thin.push({ type: "scatter", mode: "lines+markers", name: `mean of ${plural(shared.length, "context")}`, x: mean.map((p) => p.level), y: mean.map((p) => p.ratio), error_y: bars(mean, "ratio"), line: { width: 3, color: "#1b1f24" }, marker: { size: 8, color: "#1b1f24" }, hovertemplate: "mean at %{x}: %{y:.3g}<extra></extra>" });
  const own = all.filter((x) => curveKey(x) === curveShown && x.verdict === "crosses" && isNumber(x.level));
  const point = own.find((x) => x.context === "(average)") || own[0];
  const shapes = [flat(1)];
  if (point && !filtering()) {
    shapes.push({ type: "line", yref: "paper", y0: 0, y1: 1, x0: point.level, x1: point.level, line: { color: "#a4262c", width: 1.5 } });
    if (isNumber(point.low) && isNumber(point.high)) shapes.push({ type: "rect", yref: "paper", y0: 0, y1: 1, x0: point.low, x1: point.high, fillcolor: "#a4262c", opacity: 0.1, line: { width: 0 } });
  }
  const log = levels[0] > 0 && levels[levels.length - 1] / levels[0] >= 8;
  if (log) for (const s of shapes) if (s.x0 > 0 && s.yref === "paper") { s.x0 = Math.log10(s.x0); s.x1 = Math.log10(s.x1); }
  const said = point && !filtering() ? ` Break-even at ${b.factor} ${num(point.level)}${range(point.low, point.high)} (${point.context === "(average)" ? "average of contexts" : readable(point.context)}).` : "";
  chart(part(body, "chart"), "break-even", { title: `${short(b.layer, b.a)} over ${short(b.layer, b.b)}, along ${b.factor}.`, note: `Above 1 the first is faster. Thin: single contexts.${said}`, traces: curves.length ? thin : [], height: 420,
    layout: { xaxis: { title: { text: b.factor }, type: log ? "log" : "linear", tickvals: levels }, yaxis: { type: "log", title: { text: "speed-up (log)" } }, shapes },
    head: ["context", b.factor, "speed-up", "cells"], rows: () => curves.flatMap((c) => c.points.map((p) => [c.name, p.level, p.ratio, listButton(p.rows, "2 cells", c.name)])) });
  const shown = all.filter((x) => x.context === "(average)" || curveKey(x) === curveShown).filter((x) => !x.cells.length || x.cells.every((c) => (ROWS_OF.get(c) || []).some(seen)));
  part(body, "table").replaceChildren(el("h3", {}, "Break-evens"), table(["factor", "first", "second", "context", "verdict", "level", "low", "high", "contexts"], shown.map((x) => [x.factor, short(x.layer, x.a), short(x.layer, x.b), readable(x.context), x.verdict, x.level, x.low, x.high, x.contexts]), "Break-evens over all cells of the study: averages over contexts, and the single contexts of the choices drawn", 25));
}
// The ratio of two choices at each level of an ordered factor, in each context.
function curvesOf(b) {
  const factor = EST.ordered.find((o) => o.name === b.factor);
  const inner = b.layer === factor.layer && factor.name !== factor.layer;
  const others = [...EST.varied, ...(HOSTS.length > 1 ? ["host"] : [])].filter((c) => c !== b.layer && c !== factor.layer);
  const siblings = EST.parameters.filter((p) => p.startsWith(`${factor.layer}.`) && p !== factor.name);
  const kind = (c) => [EST.skeletons[factor.layer][c[factor.layer]], ...siblings.map((p) => levelOf(c, p))].join("\u0001");
  const named = (c) => {
    const extra = siblings.filter((p) => levelOf(c, p) !== EMPTY && EST.orders[p].filter((l) => l !== EMPTY).length > 1).map((p) => `${p}=${levelOf(c, p)}`);
    return [EST.skeletons[factor.layer][c[factor.layer]], ...(extra.length ? [extra.join(", ")] : [])].join(" with ");
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

// ---------------------------------------------------------------- memory and cold start

function drawMemory(body) {
  const two = part(body, "two");
  two.classList.add("two");
  const by = MANY.includes("software") ? "software" : MANY[0] || "software";
  const groups = unique(complete().map((c) => c[by]));
  const memory = complete().filter((c) => isNumber(c.memory_mb) && isNumber(c.quiet_ms));
  chart(part(two, "a"), "memory", { title: "Latency against memory.", note: "Peak resident memory less that of the imported runtime, in a process of its own.", height: 420,
    traces: groups.map((g, i) => { const own = memory.filter((c) => c[by] === g); return { type: "scatter", mode: "markers", name: short(by, g), x: own.map((c) => c.quiet_ms), y: own.map((c) => c.memory_mb), customdata: own.map((c) => c.row), marker: { color: colour(i), symbol: symbol(i), size: 8, opacity: 0.75 }, text: own.map((c) => `${stackText(c)}<br>${num(c.quiet_ms)} ms, ${num(c.memory_mb)} MB`), hovertemplate: "%{text}<extra></extra>" }; }).filter((t) => t.x.length),
    layout: { xaxis: { type: "log", title: { text: "undisturbed latency, ms (log)" } }, yaxis: { title: { text: "memory, MB" }, rangemode: "tozero" } },
    head: ["cell", "memory, MB", "weights, MB", "undisturbed latency, ms"], rows: () => [...memory].sort((a, b) => a.memory_mb - b.memory_mb).map((c) => [cellButton(c.row), c.memory_mb, c.weights_mb, c.quiet_ms]) });
  const parts = [["import_s", "import", 1], ["load_ms", "load", 1e-3], ["first_inference_ms", "first inference", 1e-3], ["quiet_ms", "steady state", 1e-3]];
  const middle = (g, key, scale) => { const v = complete().filter((c) => c[by] === g && isNumber(c[key])).map((c) => c[key] * scale); return v.length ? Stats.quantile(v, 0.5) : null; };
  chart(part(two, "b"), "cold-start", { title: `Cold start, median by ${by}.`, note: "Seconds of each part, on a log axis: from starting a process to inferring at full speed.", height: 420,
    traces: groups.length ? parts.map(([key, name, scale], i) => ({ type: "scatter", mode: "markers", name, y: groups.map((g) => short(by, g)), x: groups.map((g) => middle(g, key, scale)), marker: { color: colour(i), symbol: symbol(i), size: 12 }, hovertemplate: `%{y}, ${name}: %{x:.3g} s<extra></extra>` })) : [],
    layout: { xaxis: { type: "log", title: { text: "seconds (log)" } }, yaxis: { type: "category", autorange: "reversed" } },
    head: [by, "cells", "import, s", "load, s", "first inference, s", "steady state, s"], rows: () => groups.map((g) => [short(by, g), complete().filter((c) => c[by] === g).length, ...parts.map(([key, , scale]) => middle(g, key, scale))]) });
}
