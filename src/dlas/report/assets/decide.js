"use strict";
// The first screen: what to deploy, how sure that is, what made the difference, what not to combine.

const bestNow = () => once("best", () => (!EST ? null : filtering() ? Stats.best(cells()) : DATA.best));
const range = (low, high, unit = "") => (isNumber(low) && isNumber(high) ? ` (${num(low)} to ${num(high)}${unit})` : "");
const listButton = (rows, text, title) => el("button", { type: "button", class: "list", "aria-label": `${text}: table of ${rows.length} cells`, onclick: () => openList(rows, title) }, text);
const card = (id, title, big, ...rest) => el("section", { class: `card ${id}`, "aria-label": title }, el("h3", {}, title), big ? el("p", { class: "big" }, big) : null, ...rest);
const fact = (name, value, more) => el("div", { class: "fact" }, el("dt", {}, name), el("dd", {}, el("strong", {}, value), more ? el("span", { class: "sub" }, more) : null));
// The 95 % interval of the metric of a cell: from the table, else from the estimate.
function spanOf(c) {
  if (DATA.bounds) return [c[DATA.bounds[0]], c[DATA.bounds[1]]];
  if (!EST?.known || !isNumber(EST.mean[c.row])) return [null, null];
  const { low, high } = Stats.meanRatio([[c.row, null]]);
  return EST.turned ? [1 / high, 1 / low] : [low, high];
}
const spanText = (c) => range(...spanOf(c));
function command(text) {
  const line = el("code", {}, text);
  return el("div", { class: "command" }, el("pre", { tabindex: "0" }, line), el("button", { type: "button", "aria-label": `Copy: ${text}`, onclick: (e) => copy(line, e.currentTarget) }, "Copy"));
}
async function copy(line, button) {
  getSelection().selectAllChildren(line); // what is selected can be copied by hand where a browser forbids this
  try { await navigator.clipboard.writeText(line.textContent); button.textContent = "Copied"; } catch { button.textContent = "Selected"; }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

// ---------------------------------------------------------------- what to deploy

// The layers in which a stack differs from another, as it has them.
const unlike = (c, other) => LAYERS.filter((l) => c[l] !== other[l]).map((l) => short(l, c[l])).concat(c.host !== other.host ? [`on ${c.host}`] : []).join(", ");
const GIVEN = ["dataset", "model", "hardware"];
// The stack that nobody has tuned, for the same data set, model and hardware.
function untuned(c) {
  const wanted = (l) => (GIVEN.includes(l) || !EST.varied.includes(l) ? c[l] : EST.references[l]);
  const found = CELLS.find((o) => o.host === c.host && o.status === "complete" && LAYERS.every((l) => o[l] === wanted(l)));
  return found && found !== c ? found : null;
}
function deployCard() {
  const title = "What do I deploy?";
  const sought = `Sought: ${DATA.goals.length ? DATA.goals.map(inWords).join(", ") : `${EST?.turned ? "most" : "least"} ${plainOf(METRIC)}`}.`;
  if (DATA.given.length && !filtering()) return givenCard(title, sought);
  const best = bestNow();
  if (!best) {
    const why = !complete().length ? "None of the cells here is complete." : EST ? "Every complete cell here surely fails a goal, or nothing was compared." : "Nothing could be compared.";
    return card("deploy", title, "None yet", el("p", {}, why), el("p", { class: "soft" }, sought), nextStep());
  }
  const c = CELLS[best.row];
  return card("deploy", title, cellButton(best.row), stackWords(c), measured(c), el("p", { class: "soft" }, sought, " ", ...limitsOf(best)), beside(best, c), ship(c), nextStep());
}
// The choice at each layer, a word for each.
const stackWords = (c) => el("dl", { class: "stack" }, ...LAYERS.map((l) => el("div", {}, el("dt", {}, l), el("dd", {}, short(l, c[l])))));
function measured(c) {
  const others = DATA.weighed.filter((n) => isNumber(valueOf(c, n)));
  return el("dl", { class: "facts" }, ...others.map((n) => fact(plainOf(n), amount(n, valueOf(c, n)), besideIt(c, n))));
}
function besideIt(c, name) {
  if (name === METRIC) return spanText(c).trim() && `95 % interval${spanText(c)}`;
  if (name === "latency_ms" && isNumber(c.latency_p99_ms)) return `99 % within ${num(c.latency_p99_ms)} ms`;
  if (name === "accuracy") return [isNumber(c.accuracy_low) ? `${percent(c.accuracy_low, 3)} to ${percent(c.accuracy_high, 3)}` : null, isNumber(c.accuracy_drop) ? (c.accuracy_drop ? `${signed(-100 * c.accuracy_drop)} points from the original` : "as the original") : null].filter(Boolean).join("; ");
  if (name === "memory_mb" && isNumber(c.artifact_mb)) return `${num(c.artifact_mb)} MB on disk`;
  return "";
}
function limitsOf(best) {
  const limits = (TABLES.verdicts || []).filter((v) => v.row === best.row).map((v) => `${capital(inWords(v.limit))} ${v.bound}: ${v.verdict}`);
  return [limits.length ? `${limits.join("; ")}. ` : "", best.sure ? "" : "No cell surely meets every goal; this one may. ", CELLS[best.row].unsteady ? "One of its rounds was disturbed. " : ""];
}
// Rivals, and the stack that nobody has tuned, in one table.
function beside(best, c) {
  const near = best.runners_up, start = untuned(c);
  const shown = near.slice(0, 3);
  const names = DATA.weighed.filter((n) => isNumber(valueOf(c, n))).slice(0, wide() ? 3 : 2);
  const line = (row, what, more) => [el("span", {}, el("span", { class: "soft" }, `${what}: `), cellButton(row, unlike(CELLS[row], c) || stackText(CELLS[row])), more || ""), ...names.map((n) => (isNumber(valueOf(CELLS[row], n)) ? amount(n, valueOf(CELLS[row], n)) : ""))];
  const lines = shown.map((r) => line(r.row, "rival", r.meets ? "" : ", may fail a goal"));
  if (start) lines.push(line(start.row, "untuned"));
  const said = near.length ? `${near.length === 1 ? "One rival" : `${near.length} rivals`} cannot be told apart from it${near.length > 3 ? "; the nearest: " : ". "}`
    : EST.known || EST.decider !== METRIC ? "No rival: no other cell comes so close that it cannot be told apart. " : "No other is within the floor. ";
  const many = near.length > 3 ? listButton(near.map((r) => r.row), `all ${near.length}`, "Cannot be told apart from the best") : "";
  return el("div", { class: "rivals" }, el("p", {}, said, many, ...oddsOf(best)), lines.length ? table(["in its place", ...names.map(plainOf)], lines, "") : null);
}
// How likely it is the best of itself and its rivals, and what is lost if it is not: of the whole study only.
function oddsOf(best) {
  if (!isNumber(best.chance)) return [];
  const them = best.sure && best.runners_up.some((r) => !r.meets) ? "those that surely meet the goals" : "them";
  const why = best.not_fastest ? " Of all of them it serves the further goals best and is the simplest." : "";
  return [`${why} It is the ${GOOD === "faster" ? "fastest" : "best"} of ${them} with a probability of ${percent(best.chance, 2)}`, isNumber(best.regret) ? `; if another is, by ${percent(best.regret, 2)} in the median. ` : ". "];
}
function ship(c) {
  if (!DATA.folders.length) return null;
  return el("div", {}, el("p", { class: "label" }, "Ship it, as a folder that runs without dlas"), command(`dlas export ${DATA.folders[c.folder]} ${c.cell} --to deploy`));
}
function nextStep() {
  if (!DATA.next) return null;
  if (!DATA.next.title) return el("p", {}, "Next experiment: nothing is left to try of what this machine can run (", el("code", {}, DATA.next.commands[0]), ").");
  return el("div", {}, el("p", { class: "label" }, `Next experiment: ${DATA.next.title} (${plural(DATA.next.stacks, "stack")})`), ...DATA.next.commands.map(command), DATA.next.why ? el("p", { class: "soft" }, readable(DATA.next.why)) : null);
}
// Where layers are given, the best of each of their levels.
function givenCard(title, sought) {
  const rows = (TABLES.best_of_given || []);
  const line = (r) => { const place = (ROWS_OF.get(r.cell) || [])[0]; return [readable(r.given), place === undefined ? "none meets the goals" : cellButton(place, r.choice), r.value, r.ties || null, r.loss]; };
  return card("deploy", title, `One for each ${DATA.given.join(" and ")}`, el("p", { class: "soft" }, sought), table(["given", "take", titleOf(DATA.decider), "not told apart", "loss of the one for all"], rows.map(line), ""), nextStep());
}

// ---------------------------------------------------------------- what made the difference

// The cells that differ from one in a single layer, the best first.
const besides = (c, layer) => analysed().filter((o) => o !== c && o.host === c.host && o[layer] !== c[layer] && LAYERS.every((l) => l === layer || o[l] === c[l])).sort((a, b) => EST.mean[a.row] - EST.mean[b.row]);
// One cell against another: how much better or worse it is, surely or not.
function against(c, other) {
  const r = Stats.meanRatio([[other.row, c.row]]);
  const sure = EST.known ? r.low > 1 || r.high < 1 : Math.abs(Math.log(r.ratio)) > Math.log1p(EST.floor);
  const ends = r.ratio < 1 ? range(1 / r.high, 1 / r.low) : range(r.low, r.high);
  return sure ? `${gain(r.ratio)}${ends}` : `no different beyond noise${ends}`;
}
function differenceCard() {
  const title = "What made the difference?";
  const best = bestNow();
  if (!best) return card("difference", title, "Cannot be said", el("p", {}, "There is no stack to deploy."));
  const c = CELLS[best.row], start = untuned(c);
  const lines = EST.varied.filter((l) => !TASK.includes(l)).flatMap((l) => differenceLine(c, l));
  const whole = start && isNumber(EST.mean[start.row]) ? against(c, start) : null;
  return card("difference", title, whole ? capital(whole) : lines.length ? "Layer by layer" : "Cannot be said",
    whole ? el("p", { class: "soft" }, "than the same network untuned (", cellButton(start.row, unlike(start, c)), ")", costOf(c, start), ", all layers together. One by one, everything else as it is:") : null,
    lines.length ? el("ul", {}, ...lines) : el("p", {}, "No neighbour of it was measured that differs in one layer only."), importanceLine());
}
const TASK = ["dataset", "model"];
function differenceLine(c, layer) {
  const others = besides(c, layer);
  if (!others.length) return [];
  const usual = others.find((o) => o[layer] === EST.references[layer]);
  const line = (o, what) => [cellButton(o.row, short(layer, o[layer])), ` (${what}) is ${against(o, c)}`, costOf(o, c)];
  return [el("li", {}, el("strong", {}, layer), `: beside ${short(layer, c[layer])}, `, ...line(others[0], others[0] === usual ? "next best, the usual" : "next best"), ...(usual && usual !== others[0] ? ["; ", ...line(usual, "usual")] : []), ".")];
}
// What a choice costs or gives beside the time: plain differences of two cells.
function costOf(a, b) {
  const told = [];
  if (SCORE && isNumber(a[SCORE]) && isNumber(b[SCORE]) && MEASURES[SCORE]?.share && Math.abs(a[SCORE] - b[SCORE]) >= 0.0005) told.push(`${signed(100 * (a[SCORE] - b[SCORE]))} points of ${SCORE}`);
  if (isNumber(a.memory_mb) && isNumber(b.memory_mb) && Math.abs(a.memory_mb - b.memory_mb) >= Math.max(1, 0.05 * b.memory_mb)) told.push(`${signed(a.memory_mb - b.memory_mb)} MB of memory`);
  return told.length ? `, with ${told.join(", ")}` : "";
}
function importanceLine() {
  const f = filtering() ? null : FINDINGS.find((x) => x.kind === "importance");
  return f ? el("details", {}, el("summary", {}, "Over all cells"), el("p", { class: "soft" }, ...sentence(f.sentence)), ...orderNow().slice(0, 2).map((r) => el("p", { class: "warning" }, `Without ${short(r.layer, r.level)} the order is ${r.order}.`))) : null;
}

// ---------------------------------------------------------------- what not to combine

const levelAt = (place, layer) => { const at = `, ${place}`.split(`, ${layer}=`)[1]; return at === undefined ? null : at.split(/, (?=[\w.-]+=)/)[0]; };
// A flip as a combination to avoid: what is the better choice elsewhere, where it is the worse.
function avoided(f) {
  const usual = f.a === EST.references[f.layer];
  const [choice, other] = usual ? [f.b, f.a] : [f.a, f.b];
  const [bad, good] = usual ? [f.better_at, f.worse_at] : [f.worse_at, f.better_at];
  const [loss, win] = usual ? [f.ratio_better, 1 / f.ratio_worse] : [1 / f.ratio_worse, f.ratio_better];
  const at = (place) => f.by.split(", ").map((l) => [l, levelAt(place, l)]).filter(([, v]) => v !== null).map(([l, v]) => short(l, v)).join(", ");
  return { choice: short(f.layer, choice), other: short(f.layer, other), bad: at(bad), good: at(good), loss, win, rows: f.rows };
}
function avoidCard() {
  const title = "What must I not combine?";
  const flips = flipsNow().filter((f) => !TASK.includes(f.layer)).map(avoided).filter((x) => x.bad);
  const told = [...new Map(flips.map((x) => [`${x.choice}\u0001${x.bad}`, x])).values()];
  const line = (x) => el("li", {}, el("strong", {}, `${x.choice} with ${x.bad}`), `: ${sized(x.loss)} ${BAD} than ${x.other}, though ${sized(x.win)} ${GOOD} with ${x.good}. `, listButton(x.rows, "4 cells", `${x.choice} with ${x.bad}`));
  const broken = cells().filter((c) => c.status !== "complete").length;
  const holes = broken ? el("p", { class: "soft" }, `${plural(broken, "stack")} of ${cells().length} cannot be combined at all or did not run: `, el("a", { href: "#coverage" }, "why"), ".") : null;
  if (!told.length) return card("avoid", title, "Nothing seen", el("p", {}, EST ? "No choice that is surely better in one place is surely worse in another." : "Nothing could be compared."), holes);
  return card("avoid", title, `${told[0].choice} with ${told[0].bad}`, el("ul", {}, ...told.slice(0, 3).map(line)),
    el("p", {}, el("a", { href: "#flips" }, flips.length > 3 ? `All ${flips.length} choices that change order` : "Choices that change order")), holes);
}

// ---------------------------------------------------------------- the price of tuning layer by layer

// Of the whole study, shown where a start is left by the filters.
const priceStarts = () => (TABLES.price_starts || []).filter((s) => isNumber(s.ratio) && (ROWS_OF.get(s.start_cell) || []).some(seen));
const subLayers = (text) => text.replaceAll("optimization.", "");
const levelsOf = (place) => place.split(", ").map((p) => p.replace("=", "\u0001").split("\u0001")).filter(([l]) => !LAYERS.includes(l) || MANY.includes(l)).map(([l, v]) => short(l, v)).join(", ") || "all";
function priceCard() {
  const groups = unique(priceStarts().map((s) => s.group));
  const told = (TABLES.price || []).filter((g) => groups.includes(g.group)).sort((a, b) => b.ratio - a.ratio);
  if (!told.length) return null;
  const line = (g) => el("li", {}, el("strong", {}, levelsOf(g.group)), `: ${num(g.ratio)}${range(g.low, g.high)}`, g.sure ? `; from ${g.sure} of ${plural(g.starts, "start")} surely ${BAD}, up to ${num(g.dearest)}${range(g.dearest_low, g.dearest_high)} from ${g.dearest_start.split(", ")[0]}. To blame: ${subLayers(g.blame)}.` : `; from no start surely ${BAD}.`);
  const separate = told.reduce((n, g) => n + g.separate, 0);
  const broken = told.reduce((n, g) => n + g.separate_missing + g.separate_failed + g.separate_unmet, 0);
  return card("price", "What tuning layer by layer costs", `${num(told[0].ratio)} times the best`,
    el("p", { class: "soft" }, "Each layer taken to its best in turn, over the best stack of all (median of starts and orders):"), el("ul", {}, ...told.slice(0, 4).map(line)),
    broken ? el("p", {}, `From ${broken} of ${separate + broken} starts the stack made of every layer's best alone is missing, failed, was refused or misses the goals.`) : null);
}
function drawPrice(body) {
  const rows = priceStarts();
  // What is given stands in the first column.
  const free = (c, given) => (MANY.filter((l) => !given.split(", ").some((p) => p.startsWith(`${l}=`))).map((l) => short(l, c[l])).join(" · "));
  const of = (cell, given) => { const found = ROWS_OF.get(cell); return found ? cellButton(found[0], free(CELLS[found[0]], given)) : ""; };
  const span = (low, high) => (isNumber(low) ? `${num(low)} to ${num(high)}` : "");
  body.replaceChildren(table(["given", "from", "price", "95 % interval", "worst order", "to blame", "moved as one", "arrives at", "best", "every layer's best alone"],
    rows.map((s) => [levelsOf(s.context), s.start, s.ratio, span(s.low, s.high), s.worst, subLayers(s.blame), s.blame_ratio, of(s.arrived_cell, s.context), of(s.joint_cell, s.context), s.separate === "a candidate" && isNumber(s.separate_ratio) ? `${num(s.separate_ratio)} times the best` : s.separate]),
    "The time arrived at over that of the best stack: median and worst over all orders of the layers"));
}

function drawAnswer(body) {
  part(body, "notes").replaceChildren(...(filtering() ? [el("p", { class: "note" }, `Filtered: what follows is computed from ${cells().length} of ${CELLS.length} cells.`)] : []));
  const cards = [deployCard(), trustCard(), differenceCard(), avoidCard(), priceCard()].filter(Boolean);
  part(body, "cards").replaceChildren(el("div", { class: `cards n${cards.length}` }, ...cards));
  const notes = DATA.notes.map((n) => el("p", { class: "note" }, n));
  part(body, "said").replaceChildren(...(notes.length > 2 ? [notes[0], el("details", {}, el("summary", {}, `${notes.length - 1} more notes on these results`), ...notes.slice(1))] : notes));
}
