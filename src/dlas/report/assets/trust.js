"use strict";
// How far to trust the answer: the machine, the sessions, the rounds, the two latencies, what did not run.

const ROUNDS = unpack(DATA.rounds), FACTS = unpack(DATA.facts);
const placeOf = (c) => `${c.cell}\u0001${c.host}`;
const keptPlaces = () => once("places", () => new Set(cells().map(placeOf)));
const roundsNow = () => once("rounds", () => ROUNDS.filter((r) => isNumber(r.latency_ms) && keptPlaces().has(placeOf(r))));
const flagsOf = (r) => (r.flags || "").split(",").filter(Boolean);
const disturbed = (r) => r.steady === false || flagsOf(r).some((f) => f !== "repeated");
const repeated = (r) => flagsOf(r).includes("repeated");
const hostsNow = () => { const shown = new Set(cells().map((c) => c.host)); return DATA.hosts.filter((h) => shown.has(h.host) || !filtering()); };

// ---------------------------------------------------------------- the card

function trustCard() {
  const widths = complete().map((c) => spanOf(c)).filter(([low, high]) => low && high).map(([low, high]) => Math.sqrt(high / low) - 1);
  const most = Math.max(0, ...complete().map((c) => c.rounds || 0));
  const lines = [machineLine(), sessionLine(), roundLine(), floorLine(), driftLine(), latencyLine()].filter(Boolean);
  const line = ([name, text, warn]) => el("div", { class: warn ? "warn" : null }, el("dt", {}, name), el("dd", {}, ...[text].flat()));
  return card("trust-card", "How sure is it?", widths.length ? `± ${percent(Stats.quantile(widths, 0.5))}` : "No interval",
    el("p", { class: "soft" }, widths.length ? `is the median 95 % interval of ${plainOf(METRIC)}${most ? ` (${most > 1 ? "up to " : ""}${plural(most, "round")})` : ""}.` : "No cell was measured in two rounds."),
    el("dl", { class: "lines" }, ...lines.map(line)));
}
// Each line: its name, what is said, and whether it is a reservation.
function machineLine() {
  const virtual = hostsNow().filter((h) => h.what.virtualization);
  if (!DATA.hosts.length) return ["machine", "nothing is known of what these numbers were measured on", true];
  if (!hostsNow().length) return null;
  if (!virtual.length) return ["machine", `${plural(hostsNow().length, "host")}, no virtual machine seen`, false];
  const kinds = unique(virtual.map((h) => h.what.virtualization)).join(", ");
  return ["machine", `${virtual.length > 1 ? `${virtual.length} virtual machines` : "a virtual machine"} (${kinds}): neighbours can take time from it`, true];
}
function sessionLine() {
  const sessions = new Map();
  for (const r of roundsNow()) sessions.set(placeOf(r), (sessions.get(placeOf(r)) || new Set()).add(r.session));
  const used = unique(roundsNow().map((r) => `${r.host}\u0001${r.session}`)), hosts = unique(roundsNow().map((r) => r.host));
  if (!used.length) return null;
  // What shares a session with compared cells is in no comparison for another reason: a single round.
  const linked = new Set(comparedNow().flatMap((c) => [...(sessions.get(placeOf(c)) || [])]));
  const other = apartNow().filter((c) => sessions.has(placeOf(c)) && ![...sessions.get(placeOf(c))].some((s) => linked.has(s))).map((c) => c.row);
  if (other.length) return ["sessions", [`${used.length}: `, listButton(other, plural(other.length, "cell"), "Measured in another session than the rest"), " share no measurement with the rest, and are in no comparison"], true];
  const day = "intervals say where more rounds of this session would end, not those of another day";
  if (used.length === hosts.length) return hosts.length === 1 ? ["session", `one: ${day}`, true] : ["sessions", `one on each of ${hosts.length} hosts: ${day}`, true];
  const anchors = [...sessions.values()].filter((of) => of.size > 1).length;
  return ["sessions", `${used.length}, brought together by ${plural(anchors, "cell")} measured in several of them`, !anchors];
}
const comparedNow = () => CELLS.filter((c) => EST && c.row < DATA.analyzed && isNumber(EST.mean[c.row]));
// Complete cells in no comparison although others of their host are.
const apartNow = () => once("apart", () => {
  const known = new Set(comparedNow().map((c) => c.host));
  return complete().filter((c) => known.has(c.host) && c.row < DATA.analyzed && !isNumber(EST.mean[c.row]));
});
function roundLine() {
  const all = roundsNow();
  if (!all.length) return null;
  const off = all.filter(disturbed).length, again = all.filter(repeated).length;
  const shaky = complete().filter((c) => c.unsteady).length, out = DATA.explained.left_out;
  const told = [`${off} of ${all.length} flagged (${percent(off / all.length)}), ${again} repeated; ${shaky} of ${plural(complete().length, "complete cell")} had an unsteady one`];
  if (isNumber(out)) told.push(`; ${percent(out)} do not count in the undisturbed latency: what was measured around them took longer, too`);
  return ["rounds", [told.join("")], off / all.length > 0.1 || out > 0.1];
}
function floorLine() {
  const floors = DATA.floors.map((f) => f.floor).filter(isNumber);
  const inside = DATA.controls.filter((c) => c.inside).length, n = DATA.controls.length;
  if (!floors.length) return ["noise", `No noise is known: differences below ${percent(DATA.trust.default_floor ?? 0.05)} are not counted`, true];
  const ends = unique([Math.min(...floors), Math.max(...floors)].map((f) => percent(f))).join(" to ");
  const wider = DATA.trust.inflation > 1 ? `, fewer than there should be: intervals were made ${num(DATA.trust.inflation)} times wider` : "";
  return ["noise", `two cells are told apart from ${ends} on; ${n ? `${inside} of ${plural(n, "control")} measured twice agree within that${wider}` : "there are no controls measured twice"}`, !n || DATA.trust.inflation > 1];
}
// What the machine did meanwhile, and how much of the differences between rounds each reading of it tells.
function driftLine() {
  const all = DATA.sentinels.flatMap((s) => s.relative), of = DATA.explained;
  const off = all.filter((r) => Math.abs(r - 1) > 0.1).length;
  const told = [all.length ? `a fixed computation was off by more than 10 % in ${off} of ${all.length} readings` : "",
    isNumber(of.drift) ? `${percent(of.drift)} of the variance between rounds is common to all cells, and taken off` : ""];
  const shares = [["that computation", of.sentinel], ["stolen time", of.steal]].filter(([, v]) => isNumber(v)).map(([name, v]) => `${name} tells ${percent(v)}`);
  if (shares.length) told.push(`${shares.join(", ")} of ${isNumber(of.drift) ? "it" : "the variance between rounds"}`);
  return told.some(Boolean) ? ["drift", told.filter(Boolean).join("; "), off / all.length > 0.05] : null;
}
function latencyLine() {
  const s = DATA.as_seen;
  if (!s) return null;
  const rows = seenApart();
  const sure = rows.filter((r) => r.sure).length;
  const other = s.best !== null && DATA.best && s.best !== DATA.best.row && !filtering();
  const link = el("a", { href: "#as-seen" }, rows.length ? ` See ${rows.length === 1 ? "it" : "them"}` : "");
  const told = other ? ["as seen, with neighbours, ", cellButton(s.best), " would surely be the answer; "] : s.best === null || filtering() ? [] : ["as seen, with neighbours, no other stack is surely better; "];
  return ["two latencies", [...told, `${rows.length} of ${plural(s.contexts, "choice")} would be another${rows.length ? ` (${sure} surely)` : ""}.`, rows.length ? link : ""], other || sure > 0];
}

// ---------------------------------------------------------------- undisturbed and as seen

const seenApart = () => (DATA.as_seen ? DATA.as_seen.rows.filter((r) => seen(r.quiet) && seen(r.seen)) : []);
const NO_SEEN = () => (!DATA.as_seen ? "only one latency is known." : seenApart().length ? "" : `both latencies choose the same in all ${DATA.as_seen.contexts} places.`);
// How much later than undisturbed the middle and the slow runs come, by runtime and threads.
function jitters() {
  const groups = new Map();
  for (const c of complete().filter((x) => isNumber(x.latency_ms) && isNumber(x.quiet_ms))) {
    const key = ["software", "hardware"].filter((l) => MANY.includes(l)).map((l) => short(l, c[l])).join(" · ") || "all";
    groups.set(key, [...(groups.get(key) || []), c]);
  }
  const middle = (list, name) => { const v = list.filter((c) => isNumber(c[name])).map((c) => c[name] / c.quiet_ms - 1); return v.length ? Stats.quantile(v, 0.5) : null; };
  return [...groups].map(([key, list]) => ({ key, cells: list.length, seen: middle(list, "latency_ms"), p90: middle(list, "latency_p90_ms"), p99: middle(list, "latency_p99_ms") })).sort((a, b) => b.seen - a.seen);
}
function drawSeen(body) {
  const rows = seenApart();
  const line = (r) => [r.layer, cellButton(r.quiet, short(r.layer, CELLS[r.quiet][r.layer])), cellButton(r.seen, short(r.layer, CELLS[r.seen][r.layer])), LAYERS.filter((l) => l !== r.layer && MANY.includes(l)).map((l) => short(l, CELLS[r.seen][l])).join(" · "), r.quiet_ratio, r.seen_ratio, r.sure ? "both surely" : "within noise"];
  body.replaceChildren(rows.length ? table(["layer", "undisturbed", "as seen", "everything else", "loss undisturbed", "gain as seen", "how sure"], rows.slice(0, 60).map(line), `Where the two latencies choose differently: ${rows.length} of ${DATA.as_seen.contexts} choices, everything else equal`) : el("p", { class: "soft" }, "Both latencies choose the same everywhere."));
}
function drawJitter(body) {
  body.replaceChildren(table(["where", "cells", "as seen", "p90", "p99"], jitters().map((j) => [j.key, j.cells, ...[j.seen, j.p90, j.p99].map((v) => (v === null ? "" : `+${percent(Math.max(v, 0))}`))]), "How much later than undisturbed inferences came, medians over cells; one of ten came later than p90, one of a hundred than p99"));
}

// ---------------------------------------------------------------- noise and drift

function drawControls(body) {
  const controls = DATA.controls.filter((c) => keptPlaces().has(placeOf(c)));
  const strata = unique(controls.map((c) => c.stratum));
  const rowOf = (c) => (ROWS_OF.get(c.cell) || [])[0];
  const text = (c) => (rowOf(c) === undefined ? c.cell : stackText(CELLS[rowOf(c)]));
  chart(body, "controls", { title: "Controls: the same cell measured twice.", note: "They should differ by no more than the noise floor (bars).", height: rowsHigh(strata.map((s) => fold(s)), 34, 70),
    traces: [["within the floor", true, 0], ["outside", false, 1]].map(([name, inside, i]) => { const own = controls.filter((c) => Boolean(c.inside) === inside); return { type: "scatter", mode: "markers", name, y: own.map((c) => fold(c.stratum)), x: own.map((c) => 100 * (c.ratio - 1)), error_x: { type: "data", array: own.map((c) => 100 * c.floor), thickness: 1, width: 3, color: "#b6bec7" }, marker: { color: colour(i), symbol: symbol(i), size: 9 }, customdata: own.map(rowOf), text: own.map(text), hovertemplate: "%{text}<br>%{x:.2f} %<extra></extra>" }; }).filter((t) => t.x.length),
    layout: { yaxis: { type: "category" }, xaxis: { title: { text: "second time against the first, %" } }, shapes: [upright(0)] },
    head: ["cell", "stratum", "second over first", "floor", "within"], rows: () => controls.map((c) => [rowOf(c) === undefined ? c.cell : cellButton(rowOf(c)), c.stratum, c.ratio, c.floor, c.inside ? "yes" : "no"]) });
}
function drawDrift(body) {
  const sessions = new Set(cells().map((c) => c.session));
  const lines = DATA.sentinels.filter((s) => sessions.has(s.session) || !filtering());
  const around = lines.flatMap(roundsOf);
  const sentinels = lines.map((s, i) => ({ type: "scatter", mode: "lines+markers", name: `sentinel of ${s.session}`, x: s.minutes, y: s.relative, marker: { symbol: symbol(i), size: 5, color: colour(i) }, line: { color: colour(i), width: 1, dash: dash(i) } }));
  // A few rounds far off would squeeze all others into a line.
  const all = around.map((r) => r.relative), read = lines.flatMap((s) => [...s.relative, 1 - s.allowed, 1 + s.allowed]);
  const [least, most] = [0.005, 0.995].map((q, i) => Math[i ? "max" : "min"](...read, ...(all.length ? [Stats.quantile(all, q)] : [])));
  const pad = 0.06 * (most - least), beyond = all.filter((v) => v < least - pad || v > most + pad).length;
  const rounds = { type: "scatter", mode: "markers", name: "rounds of the cells shown, over their mean", x: around.map((r) => r.minute), y: around.map((r) => r.relative), customdata: around.map((r) => r.row), marker: { color: "#8c959f", size: 4, opacity: 0.5 }, text: around.map((r) => stackText(CELLS[r.row])), hovertemplate: "%{text}<br>%{y:.3f}<extra></extra>" };
  chart(body, "drift", { title: "Drift: the sentinel over its median.", note: `The same small computation between measurements, which spreads by ${unique(lines.map((s) => percent(s.spread))).join(", ") || "nothing"}. What was measured while it was off by more than the dashed lines was repeated, then flagged.${beyond ? ` ${plural(beyond, "round")} ${beyond === 1 ? "lies" : "lie"} beyond the picture.` : ""}`, height: 260,
    traces: [...(around.length ? [rounds] : []), ...sentinels],
    layout: { xaxis: { title: { text: "minutes" } }, yaxis: { title: { text: "ratio" }, range: [least - pad, most + pad] }, shapes: unique(lines.flatMap((s) => [1 - s.allowed, 1 + s.allowed])).map((y) => flat(y)) },
    head: ["session", "minute", "over its median"], rows: () => lines.flatMap((s) => s.minutes.map((m, i) => [s.session, m, s.relative[i]])) });
}
// When each round of the cells shown was measured, and its latency over the cell's mean.
function roundsOf(session) {
  const start = Date.parse(session.start);
  const groups = new Map();
  for (const r of roundsNow().filter((x) => x.session === session.session && x.control === 0)) groups.set(placeOf(r), [...(groups.get(placeOf(r)) || []), r]);
  return [...groups.values()].filter((g) => g.length > 1).flatMap((g) => {
    const mean = geomean(g.map((r) => r.latency_ms));
    return g.map((r) => ({ row: ROWS_OF.get(r.cell)[0], minute: (Date.parse(r.created_at) - start) / 60000, relative: r.latency_ms / mean }));
  });
}
function drawFloors(body) {
  const own = new Set(cells().map((c) => EST?.skeletons.software?.[c.software] || c.software));
  const floors = DATA.floors.filter((f) => !filtering() || f.stratum.includes("(") || f.stratum === "all" || own.has(f.stratum.split(" / ")[0]));
  part(body, "floors").replaceChildren(floors.length ? table([...(HOSTS.length > 1 ? ["host"] : []), "stratum", "cells", "noise of one round, %", "told apart from, %", "controls", "within"], floors.map((f) => [...(HOSTS.length > 1 ? [f.host] : []), f.stratum, f.cells, isNumber(f.sd) ? 100 * f.sd : null, isNumber(f.floor) ? 100 * f.floor : null, f.controls, isNumber(f.inside) ? percent(f.inside) : ""]), "The smallest difference between two cells that is detected at 95 %") : el("p", {}, "No cell was measured in two rounds, so no noise is known."));
  const shaky = complete().filter((c) => c.unsteady);
  part(body, "unsteady").replaceChildren(shaky.length ? el("p", {}, `${plural(shaky.length, "cell")} had a round that did not settle, lost time to another machine, or came while the sentinel was off: `, listButton(shaky.map((c) => c.row), shaky.length === 1 ? "which" : `all ${shaky.length}`, "Unsteady cells"), ".") : el("p", { class: "soft" }, "None of the cells here had an unsteady round."));
}

// ---------------------------------------------------------------- coverage

const coverShown = {};
const STATUSES = ["complete", "failed", "impossible", "unavailable", "pending"];
const broken = () => cells().filter((c) => c.status !== "complete");
function drawCoverage(body) {
  const names = MANY.length ? MANY : LAYERS.slice(0, 2);
  coverShown.rows ||= names.includes("optimization") ? "optimization" : names[0];
  coverShown.columns ||= names.includes("software") && coverShown.rows !== "software" ? "software" : names.find((n) => n !== coverShown.rows) || coverShown.rows;
  const options = names.map((l) => [l, l]);
  const set = (key) => (v) => { coverShown[key] = v; drawCoverage(body); };
  part(body, "pick", () => el("div", { class: "picks" }, pick("rows", options, coverShown.rows, set("rows")), pick("columns", options, coverShown.columns, set("columns"))));
  const { rows: one, columns: two } = coverShown;
  const ys = unique(cells().map((c) => c[one])), xs = unique(cells().map((c) => c[two]));
  const at = (y, x) => cells().filter((c) => c[one] === y && c[two] === x);
  const done = (list) => list.filter((c) => c.status === "complete").length;
  const why = (list) => { const counts = new Map(); for (const c of list) if (c.status !== "complete") { const k = `${c.status}: ${c.reason || "no reason"}`; counts.set(k, (counts.get(k) || 0) + 1); } return [...counts].sort((a, b) => b[1] - a[1]).map(([k, n]) => `${n} ${k}`); };
  const cell = (y, x) => { const list = at(y, x); if (!list.length) return null; const share = done(list) / list.length; return { text: share === 1 ? String(list.length) : `${done(list)} of ${list.length}`, tint: 0.2 + 0.8 * Math.abs(share - 0.5), hue: share >= 0.5 ? COLOURS[5] : COLOURS[4], title: why(list).slice(0, 3).join("\n") }; };
  matrix(part(body, "map"), "coverage", { title: "Complete cells of those asked for.", note: "Blank: the study has no such cell.", ys, xs, label: (v, side) => short(side === "y" ? one : two, v), cell, corner: `${one} \\ ${two}`,
    head: [one, two, "cells", ...STATUSES], rows: () => ys.flatMap((y) => xs.flatMap((x) => { const list = at(y, x); return list.length ? [[short(one, y), short(two, x), list.length, ...STATUSES.map((s) => list.filter((c) => c.status === s).length)]] : []; })) });
}
function drawWhy(body) {
  const groups = new Map();
  for (const c of broken()) { const key = [c.status, c.stage || "", c.reason || ""].join("\u0000"); groups.set(key, [...(groups.get(key) || []), c.row]); }
  const lines = [...groups].sort((a, b) => b[1].length - a[1].length).map(([key, rows]) => { const [status, stage, reason] = key.split("\u0000"); return [status, stage, rows.length, reason, rows.length > 1 ? listButton(rows, "all", reason || status) : cellButton(rows[0], "it")]; });
  body.replaceChildren(lines.length ? table(["status", "stage", "cells", "reason", "which"], lines, "Reasons why cells are not complete") : el("p", { class: "soft" }, "Every cell here is complete."));
}
