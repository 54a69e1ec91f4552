"use strict";
// Which layers matter, which interact, which choices change order, and the best choice of each place.

const noteUnknown = () => (EST && !EST.known ? " No noise is known, so there are no intervals." : "");
const bars = (list, ratio) => ({ type: "data", symmetric: false, array: list.map((r) => (isNumber(r.high) ? r.high - r[ratio] : 0)), arrayminus: list.map((r) => (isNumber(r.low) ? r[ratio] - r.low : 0)), thickness: 1.2, width: 4 });
const allTetrads = () => once("tetrads", () => (EST ? Stats.interactions(analysed()) : []));
const pairsNow = () => once("pairs", () => (!EST ? [] : filtering() ? Stats.layerPairs(allTetrads()) : TABLES.layer_pairs));
// Whether a layer still has two choices among the cells shown.
const varies = (layer) => once(`varies ${layer}`, () => unique(analysed().map((c) => c[layer])).length > 1);
function sharesNow() {
  return once("shares", () => {
    if (!EST) return null;
    if (filtering()) {
      const found = Stats.shares(analysed());
      return found && Object.fromEntries(Object.entries(found).filter(([l]) => varies(l)));
    }
    const layers = TABLES.shares.filter((s) => s.kind === "layer");
    return layers.length ? Object.fromEntries(layers.map((s) => [s.term, s.share])) : null;
  });
}
const leftNow = () => once("left", () => {
  if (!EST) return [];
  if (!filtering()) return TABLES.left_out.filter((r) => r.layer);
  return Stats.leftOut(analysed()).filter((r) => varies(r.layer)).map((r) => ({ ...r, order: r.order.split(" > ").filter(varies).join(" > ") }));
});
// A level without which another layer is left with one choice says nothing of the order.
const rests = (r) => r.changed && !r.collapses;
const orderNow = () => leftNow().filter(rests);
const lossesNow = () => once("losses", () => (!EST ? [] : filtering() ? Stats.losses(analysed()) : TABLES.losses));

// ---------------------------------------------------------------- what matters

const FEW_LAYERS = () => (EST && EST.varied.length > 1 ? "" : "two layers with two choices each are needed.");
// One picture: on the diagonal what each layer matters, below it how two layers interact.
function drawPicture(body) {
  const shares = sharesNow() || {};
  const names = LAYERS.filter((l) => l in shares).sort((a, b) => shares[b] - shares[a]);
  const pairs = pairsNow();
  const find = (a, b) => pairs.find((p) => (p.layer === a && p.by === b) || (p.layer === b && p.by === a));
  const cell = (y, x) => {
    if (y === x) return { text: percent(shares[y]), sub: "of the variance", tint: 0.15 + 0.85 * Math.max(shares[y], 0), title: `${y} alone: ${percent(shares[y])} of the variance` };
    if (names.indexOf(x) > names.indexOf(y)) return null;
    const p = find(y, x);
    if (!p) return { text: "no data", tint: 0 };
    if (!p.found) return { text: "none", tint: 0, title: `${y} and ${x}: no change of effect beyond noise` };
    return { text: `×${num(p.largest)}`, sub: `${p.found} of ${p.tests}`, tint: 0.15 + 0.85 * Math.min(Math.log(p.largest) / Math.log(4), 1), hue: COLOURS[4], title: `${y} changes the effect of ${x} by up to ${num(p.largest)} times` };
  };
  matrix(body, "picture", { title: "The stack in one picture.", note: "On the diagonal the share of the variance that each layer alone explains; below it by how much one layer's choice changes another's effect at most, and in how many comparisons beyond noise.",
    ys: names, xs: names, label: (n) => n, cell, head: ["layer", "and", "share of variance", "largest change of effect", "comparisons beyond noise", "comparisons"],
    rows: () => [...names.map((n) => [n, "", shares[n], null, null, null]), ...pairs.map((p) => [p.layer, p.by, pairShare(p), p.found ? p.largest : null, p.found, p.tests])] });
}
const pairShare = (p) => {
  if (filtering()) return null;
  const found = TABLES.shares.find((s) => s.kind === "pair" && (s.term === `${p.layer} x ${p.by}` || s.term === `${p.by} x ${p.layer}`));
  return found ? found.share : null;
};
function drawLosses(body) {
  const losses = lossesNow();
  const kinds = [["second_median", "second-best instead of best", 0], ["baseline_median", "usual instead of best", 1], ["worst_median", "worst instead of best", 2]];
  const layers = losses.map((l) => l.layer);
  chart(body, "losses", { title: "What a wrong choice costs, everything else equal.", note: "Median over contexts; one bad choice cannot move the first bar.",
    traces: losses.length ? kinds.map(([key, name, i]) => ({ type: "bar", orientation: "h", name, y: layers, x: losses.map((l) => l[key]), marker: { color: colour(i), pattern: { shape: ["", "/", "x"][i] } }, hovertemplate: `%{y}, ${name}: %{x:.3g} times ${BAD}<extra></extra>` })) : [],
    height: 80 + 46 * losses.length, layout: { barmode: "group", yaxis: { autorange: "reversed" }, xaxis: { type: "log", range: [0, 1.04 * Math.log10(Math.max(1.1, ...losses.flatMap((l) => kinds.map(([key]) => l[key] || 1))))], title: { text: `times ${BAD} (log)` } } },
    head: ["layer", "contexts", "second-best", "second-best, worst tenth", "second-best within the floor", "the usual", "its loss", "worst"],
    rows: () => losses.map((l) => [l.layer, l.contexts, l.second_median, l.second_q90, percent(l.ties), short(l.layer, l.baseline), l.baseline_median, l.worst_median]) });
  drawLeft(part(body, "left"));
}
function drawLeft(body) {
  const left = leftNow(), shares = sharesNow() || {};
  const names = Object.keys(shares).sort((a, b) => shares[b] - shares[a]);
  const changed = left.filter(rests).length;
  body.replaceChildren(el("p", { class: changed ? "warning" : "soft" }, changed ? `The order of the layers rests on ${plural(changed, "single choice")}: without any of them another layer “matters most”, or two change places.` : "The order of the layers does not rest on any single choice."),
    el("details", {}, el("summary", {}, "The shares with each single choice left out"), table(["left out", ...names, "order", "changed"], left.map((r) => [`${r.layer} = ${short(r.layer, r.level)}`, ...names.map((n) => percent(r[n])), r.order, rests(r) ? "✱ changed" : ""]), "Shares of variance with one choice left out")));
}

// ---------------------------------------------------------------- interactions

const pairShown = { layer: null, by: null };
function drawInteractions(body) {
  if (!pairShown.layer) {
    const top = [...TABLES.layer_pairs].sort((a, b) => TASK.includes(a.layer) - TASK.includes(b.layer) || b.found - a.found || b.largest - a.largest)[0];
    pairShown.layer = top ? top.layer : EST.varied[0];
    pairShown.by = top ? top.by : EST.varied[1];
  }
  const options = EST.varied.map((l) => [l, l]);
  part(body, "pick", () => el("div", { class: "picks" },
    pick("effect of", options, pairShown.layer, (v) => { pairShown.layer = v; drawInteractions(body); }),
    pick("along", options, pairShown.by, (v) => { pairShown.by = v; drawInteractions(body); })));
  const { layer, by } = pairShown;
  const lines = layer === by ? [] : profiles(layer, by);
  const where = Stats.ordered(by, analysed().map((c) => c[by])).map((l) => fold(short(by, l), 14));
  const traces = lines.map((line, i) => ({ type: "scatter", mode: "lines+markers", name: short(layer, line.level) + (line.matched ? "" : " *"), x: line.points.map((p) => fold(short(by, p.at), 14)), y: line.points.map((p) => p.ratio),
    error_y: bars(line.points, "ratio"), line: { color: colour(i), dash: line.matched ? "solid" : "dot", width: 2 }, marker: { symbol: symbol(i), size: 9, color: colour(i) }, customdata: line.points.map((p) => p.row), hovertemplate: `%{fullData.name} at %{x}: %{y:.3g} times ${GOOD}<extra></extra>` }));
  chart(part(body, "lines"), "interaction", { title: `Each ${layer} over ${short(layer, EST.references[layer] || "")}, along ${by}.`,
    note: `Geometric means over contexts with 95 % intervals. Lines that are not level show an interaction; lines that cross 1 a flip. Dotted, *: the points rest on different contexts.${noteUnknown()}`,
    traces, height: 290, layout: { xaxis: { type: "category", categoryorder: "array", categoryarray: where }, yaxis: { type: "log", title: { text: `times ${GOOD} (log)` } }, shapes: [flat(1)] },
    head: [layer, by, "speed-up", "low", "high", "contexts", "for example"], rows: () => lines.flatMap((l) => l.points.map((p) => [short(layer, l.level), short(by, p.at), p.ratio, p.low, p.high, p.contexts, cellButton(p.row)])) });
  const found = allTetrads().filter((t) => (t.layer === layer && t.by === by) || (t.layer === by && t.by === layer));
  const size = (t) => Math.abs(Math.log(t.ratio));
  const top = found.filter((t) => t.found).sort((a, b) => size(b) - size(a));
  const line = (t) => [`${short(t.layer, t.a)} over ${short(t.layer, t.b)}, at ${short(t.by, t.m)} and ${short(t.by, t.n)}`, t.at_m, t.at_n, t.ratio, t.low, t.high, t.contexts, listButton(t.rows, "4 cells", "An interaction")];
  part(body, "tetrads").replaceChildren(el("details", {}, el("summary", {}, `${top.length} of ${found.length} changes of effect between ${layer} and ${by} are beyond noise`),
    table(["compared", "ratio at the first", "ratio at the second", "change", "low", "high", "contexts", "cells"], top.slice(0, 40).map(line), "The largest, as ratios; false discovery rate 5 % over all pairs of layers")));
}
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

const flipsNow = () => once("flips", () => (TABLES.flips || []).map((f) => ({ ...f, rows: [...f.cells_better, ...f.cells_worse].flatMap((c) => (ROWS_OF.get(c) || []).slice(0, 1)) })).filter((f) => f.rows.every(seen)).sort((a, b) => TASK.includes(a.layer) - TASK.includes(b.layer)));
const MOST_FLIPS = 6;
function drawFlips(body) {
  const flips = flipsNow();
  const top = flips.slice(0, MOST_FLIPS);
  const names = top.map((f, i) => fold(`${i + 1}. ${short(f.layer, f.a)} or ${short(f.layer, f.b)}, by ${f.by}`, wide() ? 34 : 17));
  const side = (key, name, i, place) => ({ type: "scatter", mode: "markers", name, y: names, x: top.map((f) => f[key]), marker: { color: colour(i), symbol: symbol(i), size: 11 }, customdata: top.map((f) => f.rows[2 * i]), text: top.map((f) => readable(f[place])), hovertemplate: `%{text}<br>%{x:.3g} times ${GOOD}<extra>${name}</extra>` });
  const links = { type: "scatter", mode: "lines", x: top.flatMap((f) => [f.ratio_better, f.ratio_worse, null]), y: names.flatMap((n) => [n, n, null]), line: { color: "#8c959f", width: 2 }, hoverinfo: "skip", showlegend: false };
  chart(part(body, "chart"), "flips", { title: "Where the one is better, and where the other.", note: `The first over the second choice: right of 1 the first is ${GOOD}, left of it ${BAD}.`,
    traces: top.length ? [links, side("ratio_better", `where the first is ${GOOD}`, 0, "better_at"), side("ratio_worse", `where it is ${BAD}`, 1, "worse_at")] : [], height: rowsHigh(names, 30, 70),
    layout: { yaxis: { autorange: "reversed", type: "category" }, xaxis: { type: "log", title: { text: `times ${GOOD} (log)` } }, shapes: [upright(1)] },
    head: ["flipped by", "layer", "first", "second", `first is ${GOOD} at`, "times", `${BAD} at`, `times ${BAD}`, "p, adjusted", "cells"],
    rows: () => flips.map((f) => [f.by, f.layer, short(f.layer, f.a), short(f.layer, f.b), readable(f.better_at), f.ratio_better, readable(f.worse_at), 1 / f.ratio_worse, f.p, listButton(f.rows, "4 cells", `${f.by} flips ${f.layer}`)]) });
  const who = new Map();
  for (const f of flips) who.set(`${f.by} flips ${f.layer}`, (who.get(`${f.by} flips ${f.layer}`) || 0) + 1);
  const told = [...who].sort((a, b) => b[1] - a[1]).map(([k, n]) => `${k}: ${n}`);
  part(body, "count").replaceChildren(el("p", { class: "soft" }, flips.length ? `${told.slice(0, 4).join("; ")}${told.length > 4 ? `; and ${told.length - 4} other ways` : ""}.` : "No flip is sure here: both one-sided tests must pass, 5 % over all pairs and contexts of the study."));
}

// ---------------------------------------------------------------- winner maps

const mapShown = {};
const TINTS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7f7f7f", "#8A7A00"];
// The first map with two winners that are no ties, else with two; null where one choice is the best everywhere.
function telling() {
  let tied = null;
  const names = [...EST.varied].sort((a, b) => (b === "software") - (a === "software"));
  for (const layer of names) {
    const others = names.filter((n) => n !== layer).sort((a, b) => (b === "optimization") - (a === "optimization"));
    for (const rows of others) {
      const columns = others.find((n) => n !== rows) || "";
      const map = Stats.winnerMap(analysed(), layer, rows, columns), bests = (list) => unique(list.map((f) => f.best)).length;
      if (bests(map.filter((f) => !f.tied.length)) > 1) return { layer, rows, columns };
      if (bests(map) > 1) tied ||= { layer, rows, columns };
    }
  }
  return tied;
}
function drawWinners(body) {
  const names = EST.varied;
  if (!mapShown.layer) Object.assign(mapShown, once("telling", telling) || { layer: names[0], rows: names[1], columns: names[2] || "" });
  const options = names.map((l) => [l, l]);
  const set = (key) => (v) => { mapShown[key] = v; drawWinners(body); };
  part(body, "pick", () => el("div", { class: "picks" }, pick("best", options, mapShown.layer, set("layer")), pick("rows", options, mapShown.rows, set("rows")), pick("columns", [...options, ["", "(none)"]], mapShown.columns, set("columns"))));
  const { layer, rows: one, columns: two } = mapShown;
  const clash = layer === one || layer === two || one === two;
  const found = clash ? [] : Stats.winnerMap(analysed(), layer, one, two);
  const ys = Stats.ordered(one, found.map((f) => f.rowLevel)), xs = two ? Stats.ordered(two, found.map((f) => f.columnLevel)) : unique(found.map((f) => f.columnLevel));
  const bests = Stats.ordered(layer, CELLS.map((c) => c[layer]));
  const at = (y, x) => found.find((f) => f.rowLevel === y && f.columnLevel === x);
  const cell = (y, x) => {
    const f = at(y, x);
    if (!f) return null;
    const ties = f.tied.slice(0, 2).map((t) => short(layer, t)).join(", ");
    return { text: short(layer, f.best), sub: f.tied.length ? `= ${ties}${f.tied.length > 2 ? ` and ${f.tied.length - 2} more` : ""}` : `×${num(f.over_second)}`, hue: TINTS[bests.indexOf(f.best) % TINTS.length], tint: 0.7, row: f.row };
  };
  matrix(part(body, "map"), "winners", { title: `The best ${layer} for each ${one}${two ? ` and ${two}` : ""}.`, note: "×: what it gains over the second. =: choices within the floor or the noise of the best, which is a tie.",
    ys, xs, label: (v, side) => (side === "y" ? short(one, v) : two ? short(two, v) : "all"), cell, corner: two ? `${one} \\ ${two}` : one,
    head: [one, two || "all", `best ${layer}`, "tied with it", "gain over the second", "contexts", "for example"], rows: () => found.map((f) => [short(one, f.rowLevel), short(two, f.columnLevel), short(layer, f.best), f.tied.map((t) => short(layer, t)).join(", "), f.over_second, f.contexts, cellButton(f.row)]) });
}
