"use strict";
// The first screen: which stack, what matters, what interacts, how far to trust it; the findings.

const bestNow = () => once("best", () => (!EST ? null : filtering() ? Stats.best(cells()) : DATA.best));
const allTetrads = () => once("tetrads", () => (EST ? Stats.interactions(analysed()) : []));
const pairsNow = () => once("pairs", () => (!EST ? [] : filtering() ? Stats.layerPairs(allTetrads()) : TABLES.layer_pairs));
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
// Whether a layer still has two choices among the cells shown.
const varies = (layer) => once(`varies ${layer}`, () => unique(analysed().map((c) => c[layer])).length > 1);
const leftNow = () => once("left", () => {
  if (!EST) return [];
  if (!filtering()) return TABLES.left_out.filter((r) => r.layer);
  return Stats.leftOut(analysed()).filter((r) => varies(r.layer)).map((r) => ({ ...r, order: r.order.split(" > ").filter(varies).join(" > ") }));
});
const orderNow = () => leftNow().filter((r) => r.changed);
const range = (low, high, unit = "") => (isNumber(low) && isNumber(high) ? ` (95 % interval ${num(low)} to ${num(high)}${unit})` : "");
const card = (title, big, ...rest) => el("div", { class: "card" }, el("h3", {}, title), el("p", { class: "big" }, big), ...rest);

function takeCard() {
  const best = bestNow();
  const goals = DATA.goals.length ? DATA.goals.join(", ") : `least ${DATA.metric}`;
  const heading = "Which stack to take";
  if (!best) {
    const why = !complete().length ? "None of the cells here is complete." : EST ? "Every complete cell here surely fails a goal, or nothing was compared." : "Nothing could be compared.";
    return card(heading, "None yet", el("p", {}, why), el("p", { class: "soft" }, `Sought: ${goals}.`));
  }
  const c = CELLS[best.row];
  const told = [isNumber(c.quiet_ms) ? `${num(c.quiet_ms)} ms undisturbed${range(c.quiet_low_ms, c.quiet_high_ms)}` : null, isNumber(c.latency_ms) ? `${num(c.latency_ms)} ms as seen` : null,
    isNumber(c.accuracy) ? `accuracy ${percent(c.accuracy, 3)}` : null, isNumber(c.memory_mb) ? `${num(c.memory_mb)} MB` : null].filter(Boolean);
  const limits = TABLES.verdicts.filter((v) => v.row === best.row).map((v) => `${v.limit} ${v.bound}: ${v.verdict}`);
  const near = best.runners_up;
  return card(heading, cellButton(best.row), el("p", {}, `${told.join(", ")}.`),
    el("p", { class: "soft" }, `Sought: ${goals}. ${limits.length ? `${limits.join("; ")}. ` : ""}${best.sure ? "" : "No cell surely meets every goal; this one may."}`),
    near.length ? el("p", {}, `${near.length === 1 ? "One other" : `${near.length} others`} cannot be told apart from it.`) : null,
    near.length ? el("details", {}, el("summary", {}, near.length === 1 ? "Which it is" : "Which they are"),
      el("ul", {}, ...near.slice(0, 3).map((r) => el("li", {}, cellButton(r.row), ` ${num(r.ratio)} times its ${best.metric}${r.meets ? "" : ", may fail a goal"}`))),
      near.length > 3 ? listButton(near.map((r) => r.row), `all ${near.length}`, "Cannot be told apart from the best") : null)
      : el("p", {}, EST.known || EST.decider !== DATA.metric ? "No other cell comes so close that it cannot be told apart." : "No other is within the floor."),
    el("p", {}, "To deploy it, a folder that runs without dlas:"), el("pre", { tabindex: "0" }, `dlas export ${DATA.folders[c.folder]} ${c.cell} --to deploy`),
    DATA.next ? el("p", {}, `To try next: ${DATA.next.title} (${plural(DATA.next.stacks, "stack")}).`) : null,
    DATA.next ? el("pre", { tabindex: "0" }, DATA.next.command) : null);
}

function matterCard() {
  const shares = sharesNow();
  const heading = "What matters most";
  const one = shares ? Object.entries(shares).sort((a, b) => b[1] - a[1]) : [];
  if (!one.length) return card(heading, "Cannot be said", el("p", {}, "No layer has two choices among the complete cells here, or all are equally fast."));
  const changed = orderNow();
  const loss = (filtering() ? Stats.losses(analysed()) : TABLES.losses).find((l) => l.layer === one[0][0]);
  return card(heading, `${one[0][0]}: ${percent(one[0][1])}`,
    el("p", {}, `Shares of the variance of log latency: ${one.map(([l, s]) => `${l} ${percent(s)}`).join(", ")}.`),
    loss ? el("p", {}, `The second-best ${loss.layer} is ${num(loss.second_median)} times slower than the best in the median of ${plural(loss.contexts, "context")}.`) : null,
    changed.length ? el("p", { class: "warning" }, el("strong", {}, "The order changes when one choice is left out: "),
      changed.slice(0, 2).map((r) => `without ${short(r.layer, r.level)} it is ${r.order}`).join("; "),
      changed.length > 2 ? `; and ${changed.length - 2} more` : "", ".") : null);
}

function interactCard() {
  const pairs = pairsNow().filter((p) => p.found > 0).sort((a, b) => b.largest - a.largest);
  const heading = "Which layers interact";
  if (!pairs.length) return card(heading, "None seen", el("p", {}, EST ? "No choice of one layer changes what another layer does beyond noise." : "Nothing could be compared."));
  const flips = flipsNow();
  return card(heading, `${pairs[0].layer} × ${pairs[0].by}`,
    el("ul", {}, ...pairs.slice(0, 3).map((p) => el("li", {}, `${p.layer} × ${p.by}: one changes the other's effect by up to ${num(p.largest)} times (${p.found} of ${p.tests} comparisons)`))),
    el("p", {}, flips.length ? `${plural(flips.length, "flip")}: a choice that is better in one place is worse in another. ` : "No flip: no choice is surely better here and surely worse there. ",
      el("a", { href: flips.length ? "#flips" : "#interactions" }, flips.length ? "See the flips" : "See the interactions")));
}

// What tuning one layer at a time costs; of the whole study, shown where a start is left by the filters.
const priceStarts = () => (TABLES.price_starts || []).filter((s) => isNumber(s.ratio) && (ROWS_OF.get(s.start_cell) || []).some(seen));
const subLayers = (text) => text.replaceAll("optimization.", "");
const levelsOf = (place) => place.split(", ").map((p) => p.replace("=", "\u0001").split("\u0001")).filter(([l]) => !LAYERS.includes(l) || MANY.includes(l)).map(([l, v]) => short(l, v)).join(", ") || "all";
function priceCard() {
  const groups = unique(priceStarts().map((s) => s.group));
  const told = (TABLES.price || []).filter((g) => groups.includes(g.group)).sort((a, b) => b.ratio - a.ratio);
  if (!told.length) return null;
  const line = (g) => el("li", {}, `${levelsOf(g.group)}: ${num(g.ratio)}${isNumber(g.low) ? ` (${num(g.low)} to ${num(g.high)})` : ""}`,
    g.sure ? `; at most ${num(g.worst)} from ${g.worst_start}. To blame: ${subLayers(g.blame)}.` : "; no start surely pays.");
  const separate = told.reduce((n, g) => n + g.separate, 0);
  const broken = told.reduce((n, g) => n + g.separate_missing + g.separate_failed + g.separate_unmet, 0);
  return card("What tuning layer by layer costs", `${num(told[0].ratio)} times the best`,
    el("p", {}, "Each layer taken to its best in turn, over the best stack of all (median of starts and orders, 95 % interval):"),
    el("ul", {}, ...told.map(line)),
    broken ? el("p", {}, `${broken} of ${separate + broken} stacks made of every layer's best alone are missing, fail or miss the goals.`) : null);
}
function priceTable() {
  const rows = priceStarts();
  if (!rows.length) return "";
  const of = (cell) => { const found = ROWS_OF.get(cell); return found ? cellButton(found[0]) : ""; };
  const span = (low, high) => (isNumber(low) ? `${num(low)} to ${num(high)}` : "");
  return el("details", {}, el("summary", {}, "What tuning layer by layer costs, from every start"),
    table(["given", "from", "price", "95 % interval", "worst order", "to blame", "moved as one", "arrives at", "best", "every layer's best alone"],
      rows.map((s) => [levelsOf(s.context), s.start, s.ratio, span(s.low, s.high), s.worst, subLayers(s.blame), s.blame_ratio, of(s.arrived_cell), of(s.joint_cell), s.separate === "a candidate" ? (isNumber(s.separate_ratio) ? `${num(s.separate_ratio)} times the best` : s.separate) : s.separate]),
      "The time arrived at over that of the best stack: median and worst over all orders of the layers"));
}

function trustCard() {
  const t = DATA.trust;
  const shown = complete();
  const widths = shown.filter((c) => c.quiet_low_ms && c.quiet_high_ms).map((c) => Math.sqrt(c.quiet_high_ms / c.quiet_low_ms) - 1);
  const shaky = shown.filter((c) => c.unsteady).length;
  const floors = DATA.floors.map((f) => f.floor).filter(isNumber);
  const restless = DATA.sentinels.filter((s) => s.relative.length > 9 && s.spread > 0.05);
  const lines = [
    floors.length ? `Two cells can be told apart from a difference of ${percent(Math.min(...floors))}${floors.length > 1 ? ` to ${percent(Math.max(...floors))}` : ""} on.`
      : `No noise is known: differences below ${percent(t.default_floor ?? 0.05)} are not counted.`,
    DATA.controls.length ? `${DATA.controls.filter((c) => c.inside).length} of ${plural(DATA.controls.length, "control")} measured twice agree within that.` : "There are no controls measured twice.",
    t.inflation > 1 ? `Fewer than there should be, so intervals were made ${num(t.inflation)} times wider.` : null,
    restless.length ? `The machine was never still: a fixed computation between the measurements spread by ${restless.map((s) => percent(s.spread)).join(", ")}.` : null,
    `${shaky} of ${plural(shown.length, "complete cell")} had an unsteady round; ${cells().length - shown.length} of ${cells().length} cells are not complete.`,
  ];
  const good = el("a", { href: "#noise" }, "Noise and drift");
  return card("How far to trust it", widths.length ? `± ${percent(Stats.quantile(widths, 0.5))}` : "No interval",
    el("p", {}, widths.length ? `is the median 95 % interval of an undisturbed latency (${plural(t.rounds, "round")}). ` : "No cell was measured in two rounds. ", ...lines.filter(Boolean).map((l) => `${l} `), good));
}

// One picture: on the diagonal what each layer matters, off it how two layers interact.
function drawPicture(body) {
  const shares = sharesNow() || {};
  const names = LAYERS.filter((l) => l in shares).sort((a, b) => shares[b] - shares[a]);
  const pairs = pairsNow();
  const find = (a, b) => pairs.find((p) => (p.layer === a && p.by === b) || (p.layer === b && p.by === a));
  const own = [], cross = [], words = [];
  names.forEach((a, i) => {
    own.push([]); cross.push([]);
    names.forEach((b, j) => {
      const p = find(a, b);
      own[i].push(i === j ? 100 * shares[a] : null);
      cross[i].push(j < i && p && p.found ? Math.log(p.largest) : j < i && p ? 0 : null);
      const text = i === j ? `<b>${percent(shares[a])}</b>` : j > i ? "" : !p ? "no data" : p.found ? `×${num(p.largest, 3)}<br>${p.found}/${p.tests}` : "none";
      const dark = i === j ? shares[a] > 0.5 : p && p.found && p.largest > 2.2;
      if (text) words.push({ x: names[j], y: names[i], text, showarrow: false, font: { color: dark ? "#ffffff" : "#1b1f24", size: wide() ? 13 : 10 } });
    });
  });
  const traces = names.length ? [
    { type: "heatmap", x: names, y: names, z: own, zmin: 0, zmax: 100, colorscale: [[0, "#eaf2fb"], [1, "#0b4f8a"]], showscale: false, xgap: 3, ygap: 3, hovertemplate: "%{x} alone: %{z:.1f} % of the variance<extra></extra>" },
    { type: "heatmap", x: names, y: names, z: cross, zmin: 0, zmax: Math.log(4), colorscale: [[0, "#fdf3e3"], [1, "#a04600"]], showscale: false, xgap: 3, ygap: 3, hovertemplate: "%{y} and %{x}<extra></extra>" },
  ] : [];
  chart(body, "picture", { title: "The stack in one picture.", note: "Blue, on the diagonal: the share of the variance that each layer alone explains. Orange: by how much one layer's choice changes another's effect at most, and in how many comparisons beyond noise.",
    traces, height: names.length ? 90 + 48 * names.length : 200, layout: { annotations: words, xaxis: { side: "bottom", fixedrange: true, showgrid: false }, yaxis: { autorange: "reversed", fixedrange: true, showgrid: false } },
    head: ["layer", "and", "share of variance", "largest change of effect", "comparisons beyond noise", "comparisons"],
    rows: () => [...names.map((n) => [n, "", shares[n], null, null, null]), ...pairs.map((p) => [p.layer, p.by, pairShare(p), p.found ? p.largest : null, p.found, p.tests])] });
}
const pairShare = (p) => {
  if (filtering()) return null;
  const found = TABLES.shares.find((s) => s.kind === "pair" && (s.term === `${p.layer} x ${p.by}` || s.term === `${p.by} x ${p.layer}`));
  return found ? found.share : null;
};

const TOP = ["speed-up", "interaction", "flip", "expectation", "break-even", "scaling", "dominance", "loss"];
// Findings are of the whole study: with filters, those that rest on a cell shown.
const shownFindings = () => FINDINGS.filter((f) => !filtering() || f.cells.some(seen));
// What names no cells of its own rests on all that were compared.
const cellsOf = (f) => (f.cells.length ? f.cells.filter(seen) : analysed().map((c) => c.row));
// The first of each kind, so that one kind does not hide the others.
const topFindings = () => TOP.flatMap((kind) => shownFindings().filter((f) => f.kind === kind).slice(0, 1)).slice(0, 6);
function topItem(f) {
  const rows = cellsOf(f);
  return el("li", { class: "finding" }, el("p", {}, ...sentence(f.sentence), " ", el("span", { class: "soft" }, rows.length ? listButton(rows, plural(rows.length, "cell"), f.sentence) : "")));
}
function findingItem(f) {
  return el("li", { class: "finding" }, el("p", {}, el("span", { class: `tag ${f.certainty === "significant" ? "sure" : ""}` }, `${f.kind}, ${f.certainty}`), " ", ...sentence(f.sentence)), evidence(f));
}
function evidence(f) {
  const rows = cellsOf(f);
  const values = [isNumber(f.ratio) ? `size ${num(f.ratio)}${isNumber(f.low) ? `, 95 % interval ${num(f.low)} to ${num(f.high)}` : ""}` : null, isNumber(f.q) ? `false discovery rate q = ${num(f.q, 2)}` : null].filter(Boolean).join("; ");
  return el("div", { class: "evidence" },
    rows.length ? el("span", {}, "Cells: ", ...(f.cells.length ? rows.slice(0, 4) : []).flatMap((r) => [cellButton(r), " "]), rows.length > 1 ? listButton(rows, `compare ${rows.length === 2 ? "both" : `all ${rows.length}`}`, f.sentence) : null) : null,
    el("details", {}, el("summary", {}, "Evidence"), values ? el("p", {}, values) : null, f.overturn ? el("p", {}, el("em", {}, "What would overturn it: "), readable(f.overturn)) : null));
}
const listButton = (rows, text, title) => el("button", { type: "button", class: "list", "aria-label": `${text}: table of ${rows.length} cells`, onclick: () => openList(rows, title) }, text);

function drawAnswer(body) {
  const notes = part(body, "notes");
  notes.replaceChildren(...(filtering() ? [el("p", { class: "note" }, `Filtered: what follows is computed from ${cells().length} of ${CELLS.length} cells.`)] : []));
  part(body, "cards").replaceChildren(el("div", { class: "cards" }, takeCard(), priceCard() || "", matterCard(), interactCard(), trustCard()));
  part(body, "price").replaceChildren(priceTable());
  const both = part(body, "both");
  both.classList.add("two");
  drawPicture(part(both, "picture-box"));
  const top = topFindings();
  part(both, "top").replaceChildren(el("h3", {}, "Top findings"), top.length ? el("ol", { class: "findings" }, ...top.map(topItem)) : el("p", { class: "soft" }, "No difference beyond noise was found."),
    el("p", {}, el("a", { href: "#findings" }, `All ${FINDINGS.length} findings`)),
    ...DATA.notes.map((n) => el("p", { class: "note" }, n)));
}

let kindShown = "";
function drawFindings(body) {
  const kinds = unique(FINDINGS.map((f) => f.kind));
  part(body, "kind", () => pick("kind", [["", "all kinds"], ...kinds.map((k) => [k, k])], "", (v) => { kindShown = v; drawFindings(body); }));
  const rows = shownFindings().filter((f) => !kindShown || f.kind === kindShown);
  part(body, "of").replaceChildren(filtering() ? el("p", { class: "note" }, "Findings are of the whole study; shown are those that rest on a cell left by the filters.") : "");
  const list = part(body, "list");
  const most = 12;
  const made = el("ol", { class: "findings" }, ...rows.slice(0, most).map(findingItem));
  const more = rows.length > most ? el("button", { type: "button", onclick: () => { made.append(...rows.slice(most).map(findingItem)); more.remove(); } }, `Show ${rows.length - most} more`) : null;
  list.replaceChildren(rows.length ? made : el("p", { class: "soft" }, "No finding rests on the cells shown."), more || "");
}
