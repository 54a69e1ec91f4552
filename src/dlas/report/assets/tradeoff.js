"use strict";
// The trade-off between any two measures, and the findings as a table that sorts.

const axesShown = {};
const tradeMeasures = () => once("trade measures", () => DATA.measures.filter((m) => unique(CELLS.filter((c) => c.status === "complete").map((c) => valueOf(c, m.name)).filter(isNumber)).length > 1));
const failing = () => once("failing", () => new Set((TABLES.verdicts || []).filter((v) => v.verdict === "fails").map((v) => v.row)));
function drawTrade(body) {
  const known = tradeMeasures();
  const names = known.map((m) => m.name);
  axesShown.x ||= [DATA.decider, METRIC, ...names].find((n) => names.includes(n));
  axesShown.y ||= [SCORE, "memory_mb", ...names].find((n) => n !== axesShown.x && names.includes(n));
  axesShown.by ||= MANY.includes("software") ? "software" : MANY[MANY.length - 1] || LAYERS[0];
  const set = (key) => (v) => { axesShown[key] = v; drawTrade(body); };
  const options = known.map((m) => [m.name, m.title]);
  part(body, "pick", () => el("div", { class: "picks" }, pick("across", options, axesShown.x, set("x")), pick("up", options, axesShown.y, set("y")), pick("marks by", LAYERS.map((l) => [l, l]), axesShown.by, set("by"))));
  const { x, y, by } = axesShown;
  const found = complete().filter((c) => [x, y].every((n) => isNumber(valueOf(c, n))));
  const across = axisOf(x, found), up = axisOf(y, found);
  const fails = failing(), best = bestNow();
  const front = new Set(HOSTS.length > 1 ? [] : Stats.nondominated(found.filter((c) => !fails.has(c.row)), [x, y].map((n) => (c) => (MEASURES[n].more ? -1 : 1) * valueOf(c, n))).map((c) => c.row));
  const series = unique(CELLS.map((c) => c[by])).flatMap((level, i) => {
    const rows = found.filter((c) => c[by] === level);
    return rows.length ? [marksOf(rows, i, short(by, level), { across, up, x, y, fails, front, best })] : [];
  });
  const line = found.filter((c) => front.has(c.row)).sort((a, b) => across.at(valueOf(a, x)) - across.at(valueOf(b, x)));
  const steps = line.length > 1 ? [{ type: "scatter", mode: "lines", name: "front", x: line.map((c) => across.at(valueOf(c, x))), y: line.map((c) => up.at(valueOf(c, y))), line: { color: theme("soft"), width: 1.5, dash: "dot" }, hoverinfo: "skip" }] : [];
  const taken = best && found.some((c) => c.row === best.row) ? [pointer(CELLS[best.row], across, up, x, y, found)] : [];
  const without = complete().length - found.length;
  chart(part(body, "chart"), "trade-off", { title: `${capital(MEASURES[x].title)} against ${MEASURES[y].title}.`,
    note: `Choose a mark for all that is known of its stack. Ringed marks are on the front of these two${fails.size ? "; pale ones surely fail a goal" : ""}.${across.broken || up.broken ? " An axis is logarithmic so that outliers do not squeeze the rest." : ""}${without ? ` ${plural(without, "complete cell")} lack one of the two.` : ""}`,
    traces: found.length ? [...steps, ...series] : [], height: 350, layout: { xaxis: across.axis, yaxis: up.axis, annotations: taken },
    head: ["cell", ...MANY, MEASURES[x].title, MEASURES[y].title, "front", "goals"], rows: () => [...found].sort((a, b) => valueOf(a, x) - valueOf(b, x)).map((c) => [cellButton(c.row, c.cell.slice(0, 8)), ...MANY.map((l) => short(l, c[l])), valueOf(c, x), valueOf(c, y), front.has(c.row) ? "yes" : "", fails.has(c.row) ? "fails" : ""]) });
}
const capital = (text) => text[0].toUpperCase() + text.slice(1);
function marksOf(rows, i, name, { across, up, x, y, fails, front, best }) {
  const told = (c) => `<b>${stackText(c)}</b><br>${MEASURES[x].title}: ${amount(x, valueOf(c, x))}<br>${MEASURES[y].title}: ${amount(y, valueOf(c, y))}${fails.has(c.row) ? "<br>fails a goal" : ""}`;
  return { type: "scatter", mode: "markers", name, x: rows.map((c) => across.at(valueOf(c, x))), y: rows.map((c) => up.at(valueOf(c, y))), customdata: rows.map((c) => c.row), text: rows.map(told), hovertemplate: "%{text}<extra></extra>",
    marker: { color: colour(i), symbol: symbol(i), size: rows.map((c) => (best?.row === c.row ? 14 : 9)), opacity: rows.map((c) => (fails.has(c.row) ? 0.25 : 0.85)),
      line: { width: rows.map((c) => (front.has(c.row) ? 2 : 0.5)), color: rows.map((c) => (front.has(c.row) ? theme("ink") : theme("paper"))) } } };
}
// An axis of a measure: logarithmic over wide ranges; a share that has outliers below by its distance from the whole.
function axisOf(name, found) {
  const m = MEASURES[name], values = found.map((c) => valueOf(c, name));
  const title = { text: `${m.title}${m.share ? ", %" : ""} (${m.more ? "more" : "less"} is better)` };
  if (m.share) return shareAxis(m, values, title);
  const low = Math.min(...values), high = Math.max(...values);
  const log = values.length > 0 && low > 0 && high / low > 5;
  return { at: (v) => v, axis: { type: log ? "log" : "linear", title, ...(log ? {} : { rangemode: low >= 0 && low < 0.5 * high ? "tozero" : "normal", nticks: wide() ? 8 : 5 }) }, log, broken: log && high / low > 30 };
}
function shareAxis(m, values, title) {
  const low = Math.min(...values), high = Math.max(...values), middle = values.length ? Stats.quantile(values, 0.2) : 0;
  const crowded = m.more && high < 1 && high - low > 0.15 && high - middle < 0.5 * (high - low);
  if (!crowded) return { at: (v) => 100 * v, axis: { type: "linear", title, nticks: wide() ? 8 : 6 }, log: false, broken: false };
  const away = (v) => Math.max(100 * (1 - v), 0.01);
  const apart = Math.log(away(low) / away(high)) / (wide() ? 9 : 6);
  const ticks = [];
  for (const t of [0.1, 0.2, 0.5, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 70, 80, 90, 95]) if (t > 0.7 * away(high) && t < 1.3 * away(low) && (!ticks.length || Math.log(t / ticks[ticks.length - 1]) > apart)) ticks.push(t);
  return { at: away, axis: { type: "log", autorange: "reversed", title, tickvals: ticks, ticktext: ticks.map((t) => String(Number((100 - t).toFixed(2)))) }, log: true, broken: true, reversed: true };
}
// An arrow to the stack to deploy, from the side where there is more room.
function pointer(c, across, up, x, y, found) {
  const at = (axis, name) => { const scale = (v) => (axis.log ? Math.log10(axis.at(v)) : axis.at(v)); const all = found.map((o) => scale(valueOf(o, name))); const own = scale(valueOf(c, name)); const share = (own - Math.min(...all)) / (Math.max(...all) - Math.min(...all) || 1); return [own, axis.reversed ? 1 - share : share]; };
  const [px, left] = at(across, x), [py, height] = at(up, y);
  return { x: px, y: py, text: "deploy this", showarrow: true, arrowhead: 2, arrowcolor: theme("bad"), font: { color: theme("bad") }, ax: left > 0.5 ? -50 : 50, ay: height > 0.5 ? 34 : -34, standoff: 7 };
}

// ---------------------------------------------------------------- findings

const findingsSorting = { by: "rank", up: true, kind: "" };
// Findings are of the whole study: with filters, those that rest on a cell shown.
const shownFindings = () => FINDINGS.filter((f) => !filtering() || f.cells.some(seen));
// What names no cells of its own rests on all that were compared.
const cellsOf = (f) => (f.cells.length ? f.cells.filter(seen) : analysed().map((c) => c.row));
const sizeOf = (f) => (isNumber(f.ratio) && f.ratio > 0 ? Math.abs(Math.log(f.ratio)) : null);
// Findings of one fact tell it in several ways: the first one stands, the others below it.
function oneAFact(list) {
  const firsts = new Map();
  return list.filter((f) => {
    f.also = [];
    if (!f.fact) return true;
    if (firsts.has(f.fact)) { firsts.get(f.fact).also.push(f); return false; }
    firsts.set(f.fact, f);
    return true;
  });
}
const costly = (f) => (f.costs || []).reduce((n, c) => n + (c.worse ? 1 : 0), 0);
const COSTS_KNOWN = FINDINGS.some((f) => (f.costs || []).length);
const FINDING_COLUMNS = [
  ["rank", "#", (f) => f.rank], ["kind", "about", (f) => f.kind], ["sentence", "finding", (f) => f.sentence], ["size", "size", sizeOf],
  ...(COSTS_KNOWN ? [["costs", "beside it", costly]] : []),
  ["certainty", "how sure", (f) => ["significant", "beyond the floor", "stated"].indexOf(f.certainty) + (isNumber(f.q) ? f.q : 0)], ["cells", "cells", (f) => f.cells.length],
];
const FEW = 7, LONG_FINDING = 230;
function drawFindings(body) {
  const kinds = unique(FINDINGS.map((f) => f.kind));
  const again = () => drawFindings(body);
  part(body, "kind", () => el("div", { class: "picks" }, pick("about", [["", "everything"], ...kinds.map((k) => [k, k])], "", (v) => { findingsSorting.kind = v; again(); }),
    pick("sorted by", FINDING_COLUMNS.map(([n, title]) => [n, n === "rank" ? "what it is worth" : title]), "rank", (v) => { findingsSorting.by = v; findingsSorting.up = v !== "size"; again(); })));
  const { by, up, kind } = findingsSorting;
  const value = FINDING_COLUMNS.find(([n]) => n === by)[2];
  const rows = oneAFact(shownFindings().filter((f) => !kind || f.kind === kind)).sort((a, b) => compare(value(a), value(b), up) || a.rank - b.rank);
  const tbody = el("tbody", {}, ...rows.slice(0, FEW).map(findingLine));
  const more = rows.length > FEW ? el("button", { type: "button", class: "more", onclick: () => { tbody.append(...rows.slice(FEW).map(findingLine)); more.remove(); } }, `Show ${rows.length - FEW} more`) : "";
  const choose = (n) => () => { findingsSorting.up = n === by ? !up : n !== "size"; findingsSorting.by = n; again(); body.querySelector(`[data-by="${n}"]`).focus(); };
  const heads = FINDING_COLUMNS.map(([n, title]) => el("th", { scope: "col", class: n, "aria-sort": n === by ? (up ? "ascending" : "descending") : null }, el("button", { type: "button", "data-by": n, onclick: choose(n) }, title + (n === by ? (up ? " ▲" : " ▼") : ""))));
  part(body, "of").replaceChildren(filtering() ? el("p", { class: "note" }, "Findings are of the whole study; shown are those that rest on a cell left by the filters.") : "");
  part(body, "list").replaceChildren(rows.length ? el("table", { id: "findings-table" }, el("caption", { class: "hidden" }, "Findings"), el("thead", {}, el("tr", {}, ...heads)), tbody) : el("p", { class: "soft" }, FINDINGS.length ? "No finding rests on the cells shown." : "No difference beyond noise was found."), more);
}
// In order, what is missing last.
function compare(a, b, up) {
  if (a === null || b === null || a === undefined || b === undefined) return (a === null || a === undefined) - (b === null || b === undefined);
  return (a > b ? 1 : a < b ? -1 : 0) * (up ? 1 : -1);
}
function findingLine(f) {
  const rows = cellsOf(f);
  const sure = { significant: "sure", "beyond the floor": "beyond the floor", stated: "stated" }[f.certainty] || f.certainty;
  return el("tr", { class: "finding" }, el("td", { class: "rank number" }, String(f.rank)), el("td", { class: "kind" }, f.kind),
    el("td", { class: "sentence" }, el("div", { class: "told" }, ...sentence(f.sentence)), evidence(f)),
    el("td", { class: "size" }, isNumber(f.ratio) ? `×${num(f.ratio)}` : "", isNumber(f.low) ? el("span", { class: "sub" }, `${num(f.low)} to ${num(f.high)}`) : null, f.kind === "expectation" ? el("span", { class: "sub" }, "off the promise") : null),
    COSTS_KNOWN ? el("td", { class: "costs" }, ...(f.costs || []).map(costLine)) : null,
    el("td", { class: "certainty" }, el("span", { class: f.certainty === "significant" ? "tag sure" : "tag", title: isNumber(f.q) ? `false discovery rate ${num(f.q, 2)}` : null }, sure), f.coverage ? el("span", { class: "sub" }, coverageText(f.coverage)) : null),
    el("td", { class: "cells" }, rows.length ? listButton(rows, plural(rows.length, "cell"), f.sentence) : ""));
}
const costLine = (c) => el("span", { class: c.worse ? "cost warn" : "cost" }, c.unit === "points" ? `${c.name} ${signed(100 * c.change)} points` : `${c.name} ×${num(c.change)}`);
// In how many places it is sure, of those where both ran; where it was tried and did not run.
function coverageText(c) {
  const told = [`in ${c.surely} of ${c.contexts}`];
  if (c.against) told.push(`the reverse in ${c.against}`);
  if (c.failed) told.push(`failed in ${c.failed} more`);
  if (c.hosts_of > 1) told.push(`on ${c.hosts} of ${c.hosts_of} machines`);
  return told.join(", ");
}
function evidence(f) {
  const told = [isNumber(f.q) ? `False discovery rate ${num(f.q, 2)}.` : "", f.coverage?.shared?.length ? `All these contexts have ${readable(f.coverage.shared.join(", "))}.` : "", f.overturn ? `What would overturn it: ${readable(f.overturn)}` : ""].filter(Boolean);
  const also = (f.also || []).map((o) => el("p", {}, el("span", { class: "tag" }, o.kind), " ", ...sentence(o.sentence)));
  const long = f.sentence.length > LONG_FINDING;
  if (!told.length && !also.length && !long) return null;
  return el("details", {}, el("summary", {}, `${long ? "All of it, evidence" : "Evidence"}${also.length ? `, and ${also.length} more of the same` : ""}`), ...told.map((t) => el("p", {}, t)), ...also);
}
