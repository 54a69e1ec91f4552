"use strict";
// Effects, interactions, flips, winner maps, speed-ups, expectations, break-evens.

const noteUnknown = () => (EST && !EST.known ? " No noise is known, so there are no intervals." : "");
const bars = (list, ratio) => ({ type: "data", symmetric: false, array: list.map((r) => (isNumber(r.high) ? r.high - r[ratio] : 0)), arrayminus: list.map((r) => (isNumber(r.low) ? r[ratio] - r.low : 0)), thickness: 1.2, width: 4 });

function drawEffects(body) {
  const shares = sharesNow() || {};
  const names = Object.keys(shares).sort((a, b) => shares[b] - shares[a]);
  const chance = Object.fromEntries((TABLES.shares || []).filter((s) => s.kind === "layer").map((s) => [s.term, s]));
  const losses = once("losses", () => (!EST ? [] : filtering() ? Stats.losses(analysed()) : TABLES.losses));
  const two = part(body, "two");
  two.classList.add("two");
  chart(part(two, "a"), "shares", { title: "Share of the variance of log latency, by layer.", note: "Shapley values over least squares on the cells there are.",
    traces: names.length ? [{ type: "bar", orientation: "h", y: names, x: names.map((n) => 100 * shares[n]), marker: { color: COLOURS[0] }, text: names.map((n) => percent(shares[n])), textposition: "outside", cliponaxis: false, textangle: 0, hovertemplate: "%{y}: %{x:.1f} %<extra></extra>" }] : [],
    height: 110 + 40 * names.length, layout: { margin: { t: 16, r: 48, l: 50, b: 44 }, yaxis: { autorange: "reversed" }, xaxis: { title: { text: "% of the variance" } } },
    head: ["layer", "share", "what noise could make", "confounded"], rows: () => names.map((n) => [n, shares[n], filtering() ? null : chance[n]?.chance, filtering() ? "" : String(chance[n]?.confounded ?? "")]) });
  const kinds = [["second_median", "second-best instead of best", 0], ["baseline_median", "baseline instead of best", 1], ["worst_median", "worst instead of best", 2]];
  chart(part(two, "b"), "losses", { title: "What a wrong choice costs, everything else equal.", note: "Median over contexts; one bad choice cannot move the first bar.",
    traces: losses.length ? kinds.map(([key, name, i]) => ({ type: "bar", orientation: "h", name, y: losses.map((l) => l.layer), x: losses.map((l) => l[key]), marker: { color: colour(i), pattern: { shape: ["", "/", "x"][i] } }, hovertemplate: `%{y}, ${name}: %{x:.3g} times slower<extra></extra>` })) : [],
    height: 150 + 60 * losses.length, layout: { barmode: "group", yaxis: { autorange: "reversed" }, xaxis: { type: "log", title: { text: "times slower (log)" } } },
    head: ["layer", "contexts", "second-best", "second-best, worst tenth", "second-best within the floor", "baseline", "baseline", "worst"],
    rows: () => losses.map((l) => [l.layer, l.contexts, l.second_median, l.second_q90, percent(l.ties), short(l.layer, l.baseline), l.baseline_median, l.worst_median]) });
  const left = leftNow();
  part(body, "left").replaceChildren(el("h3", {}, "The shares with each single choice left out"), left.some((r) => r.changed) ? el("p", { class: "warning" }, "Marked rows change the order of the layers: their choice alone decides which layer “matters most”.") : el("p", { class: "soft" }, "The order of the layers does not rest on any single choice."),
    table(["left out", ...names, "order", "changed"], left.map((r) => [`${r.layer} = ${short(r.layer, r.level)}`, ...names.map((n) => percent(r[n])), r.order, r.changed ? "✱ changed" : ""]), "Shares of variance with one choice left out"));
}

// ---------------------------------------------------------------- interactions

const pairShown = { layer: null, by: null };
function drawInteractions(body) {
  if (!EST || EST.varied.length < 2) { part(body, "none").replaceChildren(el("p", {}, "Two layers with two choices each are needed.")); return; }
  if (!pairShown.layer) {
    const first = [...TABLES.layer_pairs].sort((a, b) => b.found - a.found || b.largest - a.largest)[0];
    pairShown.layer = first ? first.layer : EST.varied[0];
    pairShown.by = first ? first.by : EST.varied[1];
  }
  const options = EST.varied.map((l) => [l, l]);
  part(body, "pick", () => el("div", { class: "picks" },
    pick("effect of", options, pairShown.layer, (v) => { pairShown.layer = v; drawInteractions(body); }),
    pick("along", options, pairShown.by, (v) => { pairShown.by = v; drawInteractions(body); })));
  const { layer, by } = pairShown;
  const lines = layer === by ? [] : profiles(layer, by);
  const where = Stats.ordered(by, analysed().map((c) => c[by])).map((l) => short(by, l));
  const traces = lines.map((line, i) => ({ type: "scatter", mode: "lines+markers", name: short(layer, line.level) + (line.matched ? "" : " *"), x: line.points.map((p) => short(by, p.at)), y: line.points.map((p) => p.ratio),
    error_y: bars(line.points, "ratio"), line: { color: colour(i), dash: line.matched ? "solid" : "dot", width: 2 }, marker: { symbol: symbol(i), size: 9, color: colour(i) }, customdata: line.points.map((p) => p.row), hovertemplate: "%{fullData.name} at %{x}: %{y:.3g} times faster<extra></extra>" }));
  chart(part(body, "lines"), "interaction", { title: `Speed-up of each ${layer} over ${short(layer, EST.references[layer] || "")}, along ${by}.`,
    note: `Geometric means over contexts with 95 % intervals. Lines that are not level show an interaction; lines that cross 1 a flip. Dotted, *: the points rest on different contexts.${noteUnknown()}`,
    traces, height: 440, layout: { xaxis: { type: "category", categoryorder: "array", categoryarray: where }, yaxis: { type: "log", title: { text: "speed-up (log)" } }, shapes: [flat(1)] },
    head: [layer, by, "speed-up", "low", "high", "contexts", "for example"], rows: () => lines.flatMap((l) => l.points.map((p) => [short(layer, l.level), short(by, p.at), p.ratio, p.low, p.high, p.contexts, cellButton(p.row)])) });
  const found = allTetrads().filter((t) => (t.layer === layer && t.by === by) || (t.layer === by && t.by === layer));
  const size = (t) => Math.abs(Math.log(t.ratio));
  const top = found.filter((t) => t.found).sort((a, b) => size(b) - size(a));
  part(body, "tetrads").replaceChildren(el("h3", {}, `Where ${by} changes the effect of ${layer} most`), el("p", { class: "soft" }, `${top.length} of ${found.length} ratios of ratios are beyond noise (false discovery rate 5 % over all pairs of layers).`),
    table(["compared", "ratio at the first", "ratio at the second", "change", "low", "high", "contexts", "cells"], top.slice(0, 40).map((t) => [`${short(t.layer, t.a)} over ${short(t.layer, t.b)}, at ${short(t.by, t.m)} and ${short(t.by, t.n)}`, t.at_m, t.at_n, t.ratio, t.low, t.high, t.contexts, listButton(t.rows, "4 cells", "An interaction")]), `Largest interactions of ${layer} and ${by}: latency ratios`));
}
const flat = (y) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: y, y1: y, line: { color: "#57606a", width: 1, dash: "dash" } });
// For each choice: its speed-up over the baseline at each level of another layer, same contexts.
function profiles(layer, by) {
  const reference = EST.references[layer];
  const at = new Map();
  for (const c of Stats.contexts(analysed(), layer)) {
    const rest = Object.entries(c.fixed).filter(([o]) => o !== by).map(([, v]) => v).join("\u0001");
    if (!at.has(c.fixed[by])) at.set(c.fixed[by], new Map());
    at.get(c.fixed[by]).set(rest, c.at);
  }
  const levels = Stats.ordered(by, [...at.keys()]);
  return Stats.ordered(layer, analysed().map((c) => c[layer])).filter((l) => l !== reference).flatMap((level) => {
    const pairs = levels.map((l) => [l, new Map([...at.get(l)].filter(([, x]) => x.has(level) && x.has(reference)).map(([r, x]) => [r, [x.get(reference), x.get(level)]]))]).filter(([, m]) => m.size);
    if (!pairs.length) return [];
    const shared = [...pairs[0][1].keys()].filter((r) => pairs.every(([, m]) => m.has(r)));
    const points = pairs.map(([l, m]) => {
      const used = shared.length ? shared.map((r) => m.get(r)) : [...m.values()];
      return { at: l, row: used[0][1], ...Stats.meanRatio(used) };
    });
    return [{ level, points, matched: shared.length > 0 }];
  });
}

// ---------------------------------------------------------------- flips

const flipsNow = () => once("flips", () => (TABLES.flips || []).map((f) => ({ ...f, rows: [...f.cells_better, ...f.cells_worse].flatMap((c) => (ROWS_OF.get(c) || []).slice(0, 1)) })).filter((f) => f.rows.every(seen)));
function drawFlips(body) {
  const flips = flipsNow();
  const top = flips.slice(0, 14);
  const names = top.map((f, i) => `${i + 1}. ${short(f.layer, f.a)} or ${short(f.layer, f.b)}${wide() ? `, by ${f.by}` : ""}`);
  const side = (key, name, i, place) => ({ type: "scatter", mode: "markers", name, y: names, x: top.map((f) => f[key]), marker: { color: colour(i), symbol: symbol(i), size: 11 }, customdata: top.map((f) => f.rows[2 * i]), text: top.map((f) => readable(f[place])), hovertemplate: `%{text}<br>%{x:.3g} times faster<extra>${name}</extra>` });
  const links = { type: "scatter", mode: "lines", x: top.flatMap((f) => [f.ratio_better, f.ratio_worse, null]), y: names.flatMap((n) => [n, n, null]), line: { color: "#8c959f", width: 2 }, hoverinfo: "skip", showlegend: false };
  chart(part(body, "chart"), "flips", { title: "Choices that change order.", note: "Speed-up of the first over the second choice: right of 1 the first is faster, left of it slower.",
    traces: top.length ? [links, side("ratio_better", "where the first is faster", 0, "better_at"), side("ratio_worse", "where it is slower", 1, "worse_at")] : [], height: 150 + 34 * top.length,
    layout: { yaxis: { autorange: "reversed", type: "category" }, xaxis: { type: "log", title: { text: "speed-up (log)" } }, shapes: [{ type: "line", yref: "paper", y0: 0, y1: 1, x0: 1, x1: 1, line: { color: "#57606a", width: 1, dash: "dash" } }] },
    head: ["flipped by", "layer", "first", "second", "first is faster at", "times", "slower at", "times slower", "p, adjusted", "cells"],
    rows: () => flips.map((f) => [f.by, f.layer, short(f.layer, f.a), short(f.layer, f.b), readable(f.better_at), f.ratio_better, readable(f.worse_at), 1 / f.ratio_worse, f.p, listButton(f.rows, "4 cells", `${f.by} flips ${f.layer}`)]) });
  const who = new Map();
  for (const f of flips) who.set(`${f.by} flips ${f.layer}`, (who.get(`${f.by} flips ${f.layer}`) || 0) + 1);
  part(body, "count").replaceChildren(el("p", {}, flips.length ? `${[...who].map(([k, n]) => `${k}: ${n}`).join("; ")}.` : EST ? "No flip is sure here: both one-sided tests must pass, 5 % over all pairs and contexts of the study." : "Nothing could be compared."));
}

// ---------------------------------------------------------------- winner maps

const mapShown = {};
function drawWinners(body) {
  if (!EST || EST.varied.length < 2) { part(body, "none").replaceChildren(el("p", {}, "Two layers with two choices each are needed.")); return; }
  const names = EST.varied;
  if (!mapShown.layer) {
    mapShown.layer = names.includes("software") ? "software" : names[names.length - 1];
    const others = names.filter((n) => n !== mapShown.layer);
    mapShown.rows = others.includes("optimization") ? "optimization" : others[0];
    mapShown.columns = others.filter((n) => n !== mapShown.rows)[0] || "";
  }
  const options = names.map((l) => [l, l]);
  const set = (key) => (v) => { mapShown[key] = v; drawWinners(body); };
  part(body, "pick", () => el("div", { class: "picks" }, pick("best", options, mapShown.layer, set("layer")), pick("rows", options, mapShown.rows, set("rows")), pick("columns", [...options, ["", "(none)"]], mapShown.columns, set("columns"))));
  const { layer, rows: one, columns: two } = mapShown;
  const clash = layer === one || layer === two || one === two;
  const found = clash ? [] : Stats.winnerMap(analysed(), layer, one, two);
  const ys = Stats.ordered(one, found.map((f) => f.rowLevel)), xs = Stats.ordered(two, found.map((f) => f.columnLevel));
  const bests = Stats.ordered(layer, found.map((f) => f.best));
  const at = (y, x) => found.find((f) => f.rowLevel === y && f.columnLevel === x);
  const z = ys.map((y) => xs.map((x) => { const f = at(y, x); return f ? bests.indexOf(f.best) : null; }));
  const tints = ["#9ecae8", "#f6b48f", "#8fd3bb", "#e8c3d9", "#f3d690", "#c9e6f7", "#c8c8c8", "#d6d08c"];
  const scale = bests.flatMap((_, i) => [[i / bests.length, tints[i % tints.length]], [(i + 1) / bests.length, tints[i % tints.length]]]);
  const label = (f) => `${short(layer, f.best)}${f.tied.length ? `<br>= ${f.tied.slice(0, 2).map((t) => short(layer, t)).join(", ")}${f.tied.length > 2 ? " …" : ""}` : `<br>×${num(f.over_second, 3)}`}`;
  const words = found.map((f) => ({ x: short(two, f.columnLevel) || "all", y: short(one, f.rowLevel), text: label(f), showarrow: false, font: { size: wide() ? 12 : 9 } }));
  chart(part(body, "map"), "winners", { title: `The best ${layer} for each ${one}${two ? ` and ${two}` : ""}.`, note: "×: what it gains over the second. =: choices within the floor or the noise of the best, which is a tie.",
    traces: found.length ? [{ type: "heatmap", x: xs.map((x) => short(two, x) || "all"), y: ys.map((y) => short(one, y)), z, zmin: 0, zmax: bests.length, colorscale: scale, showscale: false, xgap: 2, ygap: 2, customdata: ys.map((y) => xs.map((x) => at(y, x)?.row ?? null)), hoverinfo: "x+y" }] : [],
    height: 110 + Math.max(1, ys.length) * (wide() ? 52 : 46), layout: { annotations: words, xaxis: { type: "category", side: "top", showgrid: false }, yaxis: { type: "category", autorange: "reversed", showgrid: false }, margin: { t: 40, r: 10, l: 50, b: 10 } },
    head: [one, two || "all", `best ${layer}`, "tied with it", "gain over the second", "contexts", "for example"], rows: () => found.map((f) => [short(one, f.rowLevel), short(two, f.columnLevel), short(layer, f.best), f.tied.map((t) => short(layer, t)).join(", "), f.over_second, f.contexts, cellButton(f.row)]) });
}
