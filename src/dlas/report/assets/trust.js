"use strict";
// Coverage and failures, noise and drift, hosts, reproduction; all cells; the dialogs; the start.

const coverShown = {};
const STATUSES = ["complete", "failed", "impossible", "unavailable", "pending"];
function drawCoverage(body) {
  const names = MANY.length ? MANY : LAYERS.slice(0, 2);
  coverShown.rows ||= names.includes("optimization") ? "optimization" : names[0];
  coverShown.columns ||= names.includes("software") && coverShown.rows !== "software" ? "software" : names.find((n) => n !== coverShown.rows) || coverShown.rows;
  const options = names.map((l) => [l, l]);
  part(body, "pick", () => el("div", { class: "picks" }, pick("rows", options, coverShown.rows, (v) => { coverShown.rows = v; drawCoverage(body); }), pick("columns", options, coverShown.columns, (v) => { coverShown.columns = v; drawCoverage(body); })));
  const { rows: one, columns: two } = coverShown;
  const ys = unique(cells().map((c) => c[one])), xs = unique(cells().map((c) => c[two]));
  const at = (y, x) => cells().filter((c) => c[one] === y && c[two] === x);
  const done = (list) => list.filter((c) => c.status === "complete").length;
  const why = (list) => { const counts = new Map(); for (const c of list) if (c.status !== "complete") { const k = `${c.status}: ${c.reason || "no reason"}`; counts.set(k, (counts.get(k) || 0) + 1); } return [...counts].sort((a, b) => b[1] - a[1]).map(([k, n]) => `${n} ${k}`); };
  const words = [];
  const z = ys.map((y) => xs.map((x) => { const list = at(y, x); if (!list.length) return null; const share = done(list) / list.length; words.push({ x: short(two, x), y: short(one, y), text: share === 1 ? `${list.length}` : `${done(list)}/${list.length}`, showarrow: false, font: { color: share > 0.6 ? "#fff" : "#1b1f24", size: wide() ? 12 : 10 } }); return share; }));
  chart(part(body, "map"), "coverage", { title: "Complete cells of those asked for.", note: "Blank: the study has no such cell.", height: 110 + 36 * Math.max(1, ys.length),
    traces: cells().length ? [{ type: "heatmap", x: xs.map((x) => short(two, x)), y: ys.map((y) => short(one, y)), z, zmin: 0, zmax: 1, colorscale: [[0, "#f6d5c3"], [0.5, "#a9c7e4"], [1, "#0b5cad"]], showscale: false, xgap: 2, ygap: 2, text: ys.map((y) => xs.map((x) => why(at(y, x)).slice(0, 3).join("<br>"))), hovertemplate: "%{y}, %{x}<br>%{text}<extra></extra>" }] : [],
    layout: { annotations: words, xaxis: { type: "category", side: "top", showgrid: false }, yaxis: { type: "category", autorange: "reversed", showgrid: false }, margin: { t: 40, r: 10, l: 50, b: 10 } },
    head: [one, two, "cells", ...STATUSES], rows: () => ys.flatMap((y) => xs.flatMap((x) => { const list = at(y, x); return list.length ? [[short(one, y), short(two, x), list.length, ...STATUSES.map((s) => list.filter((c) => c.status === s).length)]] : []; })) });
  const groups = new Map();
  for (const c of cells().filter((x) => x.status !== "complete")) { const key = [c.status, c.stage || "", c.reason || ""].join("\u0000"); groups.set(key, [...(groups.get(key) || []), c.row]); }
  const lines = [...groups].sort((a, b) => b[1].length - a[1].length).map(([key, rows]) => { const [status, stage, reason] = key.split("\u0000"); return [status, stage, rows.length, reason, cellButton(rows[0]), rows.length > 1 ? listButton(rows, "all", reason || status) : ""]; });
  part(body, "why").replaceChildren(el("h3", {}, "What did not run, and why"), lines.length ? table(["status", "stage", "cells", "reason", "for example", ""], lines, "Reasons why cells are not complete") : el("p", {}, "Every cell here is complete."));
}

// ---------------------------------------------------------------- noise and drift

function drawNoise(body) {
  const kept = new Set(cells().map((c) => `${c.cell}\u0001${c.host}`));
  const controls = DATA.controls.filter((c) => kept.has(`${c.cell}\u0001${c.host}`));
  const strata = unique(controls.map((c) => c.stratum));
  const two = part(body, "two");
  two.classList.add("two");
  const flatText = (c) => { const row = (ROWS_OF.get(c.cell) || [])[0]; return row === undefined ? c.cell : stackText(CELLS[row]); };
  const rowOf = (c) => (ROWS_OF.get(c.cell) || [])[0];
  chart(part(two, "a"), "controls", { title: "Controls: the same cell measured twice.", note: "They should differ by no more than the noise floor (bars).", height: 130 + 40 * Math.max(2, strata.length),
    traces: [["within the floor", true, 0], ["outside", false, 1]].map(([name, inside, i]) => { const own = controls.filter((c) => Boolean(c.inside) === inside); return { type: "scatter", mode: "markers", name, y: own.map((c) => c.stratum), x: own.map((c) => 100 * (c.ratio - 1)), error_x: { type: "data", array: own.map((c) => 100 * c.floor), thickness: 1, width: 3, color: "#b6bec7" }, marker: { color: colour(i), symbol: symbol(i), size: 9 }, customdata: own.map(rowOf), text: own.map(flatText), hovertemplate: "%{text}<br>%{x:.2f} %<extra></extra>" }; }).filter((t) => t.x.length),
    layout: { yaxis: { type: "category" }, xaxis: { title: { text: "second time against the first, %" } }, shapes: [{ type: "line", yref: "paper", y0: 0, y1: 1, x0: 0, x1: 0, line: { color: "#57606a", dash: "dash", width: 1 } }] },
    head: ["cell", "stratum", "second over first", "floor", "within"], rows: () => controls.map((c) => [rowOf(c) === undefined ? c.cell : cellButton(rowOf(c)), c.stratum, c.ratio, c.floor, c.inside ? "yes" : "no"]) });
  const sessions = new Set(cells().map((c) => c.session));
  const lines = DATA.sentinels.filter((s) => sessions.has(s.session) || !filtering());
  const around = lines.flatMap((s) => roundsOf(s, kept));
  const sentinels = lines.map((s, i) => ({ type: "scatter", mode: "lines+markers", name: `sentinel of ${s.session}`, x: s.minutes, y: s.relative, marker: { symbol: symbol(i), size: 5, color: colour(i) }, line: { color: colour(i), width: 1, dash: DASHES[i % DASHES.length] } }));
  const rounds = { type: "scatter", mode: "markers", name: "rounds of the cells shown, over their mean", x: around.map((r) => r.minute), y: around.map((r) => r.relative), customdata: around.map((r) => r.row), marker: { color: "#8c959f", size: 4, opacity: 0.5 }, text: around.map((r) => stackText(CELLS[r.row])), hovertemplate: "%{text}<br>%{y:.3f}<extra></extra>" };
  chart(part(two, "b"), "drift", { title: "Drift: the sentinel over its median.", note: `The same small computation between measurements, which spreads by ${unique(lines.map((s) => percent(s.spread))).join(", ") || "nothing"}. What was measured while it was off by more than the dashed lines (5 %, or three times its spread) was repeated, then flagged.`, height: 380,
    traces: [...(around.length ? [rounds] : []), ...sentinels],
    layout: { xaxis: { title: { text: "minutes" } }, yaxis: { title: { text: "ratio" } }, shapes: unique(lines.flatMap((s) => [1 - s.allowed, 1 + s.allowed])).map(flat) },
    head: ["session", "minute", "over its median"], rows: () => lines.flatMap((s) => s.minutes.map((m, i) => [s.session, m, s.relative[i]])) });
  const own = new Set(cells().map((c) => `${(EST?.skeletons.software[c.software]) || c.software}`));
  const floors = DATA.floors.filter((f) => !filtering() || f.stratum.includes("(") || f.stratum === "all" || own.has(f.stratum.split(" / ")[0]));
  part(body, "floors").replaceChildren(el("h3", {}, "Noise floor"), floors.length ? table(["host", "runtime / threads", "cells", "noise of one round, %", "told apart from, %", "controls", "within"], floors.map((f) => [f.host, f.stratum, f.cells, isNumber(f.sd) ? 100 * f.sd : null, isNumber(f.floor) ? 100 * f.floor : null, f.controls, isNumber(f.inside) ? percent(f.inside) : ""]), "The smallest difference between two cells that is detected at 95 %") : el("p", {}, "No cell was measured in two rounds, so no noise is known."));
  const shaky = complete().filter((c) => c.unsteady);
  part(body, "unsteady").replaceChildren(el("h3", {}, "Unsteady cells"), shaky.length ? el("p", {}, `${plural(shaky.length, "cell")} had a round that did not settle, lost time to another machine, or came while the sentinel was off: `, ...shaky.slice(0, 6).flatMap((c) => [cellButton(c.row), " "]), shaky.length > 6 ? listButton(shaky.map((c) => c.row), `all ${shaky.length}`, "Unsteady cells") : "") : el("p", {}, "None of the cells here had an unsteady round."));
}

// When each round of the cells shown was measured, and its latency over the cell's mean.
function roundsOf(session, kept) {
  const start = Date.parse(session.start);
  const own = ROUNDS.filter((r) => r.session === session.session && r.control === 0 && isNumber(r.latency_ms) && kept.has(`${r.cell}\u0001${r.host}`));
  const groups = new Map();
  for (const r of own) groups.set(`${r.cell}\u0001${r.host}`, [...(groups.get(`${r.cell}\u0001${r.host}`) || []), r]);
  return [...groups.values()].filter((g) => g.length > 1).flatMap((g) => {
    const mean = geomean(g.map((r) => r.latency_ms));
    return g.map((r) => ({ row: ROWS_OF.get(r.cell)[0], minute: (Date.parse(r.created_at) - start) / 60000, relative: r.latency_ms / mean }));
  });
}

// ---------------------------------------------------------------- hosts and reproduction

function drawHosts(body) {
  const shown = new Set(cells().map((c) => c.host));
  const told = (object) => Object.entries(object || {}).filter(([, v]) => v !== null && v !== "" && !(typeof v === "object" && !Object.keys(v).length)).map(([k, v]) => [k, typeof v === "object" ? Object.entries(v).map(([a, b]) => (Array.isArray(v) ? exact(b) : `${a} ${exact(b)}`)).join(", ") : exact(v)]);
  const runs = DATA.sessions.filter((s) => shown.has(s.host) || !filtering());
  body.replaceChildren(
    ...DATA.hosts.filter((h) => shown.has(h.host) || !filtering()).map((h) => el("div", {}, el("h3", {}, `Host ${h.host}`), el("div", { class: "two" }, table(["what", "value"], told(h.what), `Host ${h.host}`), table(["library", "version"], told(h.libraries), "Versions")), h.flags ? el("details", {}, el("summary", {}, "Processor features"), el("p", {}, h.flags)) : null)),
    el("h3", {}, "Runs"), table(["session", "study", "host", "from", "to", "dlas", "command"], runs.map((s) => [s.session, s.study, s.host, s.started_at, s.ended_at || "not ended", s.dlas, s.command]), "Runs"),
    el("h3", {}, "How to reproduce a cell"), el("p", {}, "Choose any cell on this page for its commands. In general:"),
    ...DATA.reproduce.map((lines) => el("pre", { tabindex: "0" }, lines.join("\n"))));
}

// ---------------------------------------------------------------- all cells

const sorting = { by: "quiet_ms", up: true };
function drawTable(body) {
  const value = (c) => (c[sorting.by] === undefined ? null : c[sorting.by]);
  const order = (a, b) => { const x = value(a), y = value(b); if (x === null || y === null) return (x === null) - (y === null); return (x > y ? 1 : x < y ? -1 : 0) * (sorting.up ? 1 : -1); };
  const rows = [...cells()].sort(order);
  const head = (name) => el("th", { scope: "col", "aria-sort": name === sorting.by ? (sorting.up ? "ascending" : "descending") : null },
    el("button", { type: "button", "data-sort": name, onclick: () => { sorting.up = name === sorting.by ? !sorting.up : true; sorting.by = name; drawTable(body); body.querySelector(`[data-sort="${name}"]`).focus(); } }, name + (name === sorting.by ? (sorting.up ? " ▲" : " ▼") : "")));
  const numeric = new Set(DATA.columns.filter((n) => CELLS.some((c) => isNumber(c[n]))));
  const line = (c) => el("tr", {}, el("td", {}, cellButton(c.row, c.cell.slice(0, 8))), ...DATA.columns.map((n) => el("td", { class: n === "status" ? c.status : numeric.has(n) ? "number" : null }, LAYERS.includes(n) ? short(n, c[n]) : show(c[n]))));
  const most = 250;
  const tbody = el("tbody", {}, ...rows.slice(0, most).map(line));
  const more = rows.length > most ? el("button", { type: "button", onclick: () => { tbody.append(...rows.slice(most).map(line)); more.remove(); } }, `Show all ${rows.length} cells`) : "";
  body.replaceChildren(el("div", { class: "scroll tall", tabindex: "0", role: "region", "aria-label": "All cells" }, el("table", { id: "cells" }, el("caption", {}, `${rows.length} cells; choose a heading to sort. Empty means not measured.`), el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "cell"), ...DATA.columns.map(head))), tbody)), more);
}

// ---------------------------------------------------------------- dialogs

const ROUNDS = unpack(DATA.rounds), FACTS = unpack(DATA.facts);
function openDialog(...content) {
  const box = document.getElementById("dialog");
  box.replaceChildren(el("button", { type: "button", class: "close", onclick: () => box.close() }, "Close"), ...content.filter((c) => c !== null));
  if (!box.open) box.showModal();
  box.scrollTop = 0;
}
function openCell(row) {
  const c = CELLS[row];
  const known = Object.entries(c).filter(([k, v]) => v !== null && v !== "" && !["row", "folder", "log", "cell", ...LAYERS].includes(k)).map(([k, v]) => [k, exact(v)]);
  const rounds = ROUNDS.filter((r) => r.cell === c.cell && r.host === c.host);
  const names = ["round", "control", "status", "quiet_ms", "latency_ms", "latency_p90_ms", "samples", "steady", "flags", "launch", "cpus", "threads_seen", "steal_share", "involuntary_switches", "overhead_s", "session", "reason"].filter((n) => rounds.some((r) => r[n] !== null));
  const facts = FACTS.filter((f) => f.cell === c.cell && f.host === c.host);
  const told = FINDINGS.filter((f) => f.cells.includes(row));
  openDialog(el("h2", { id: "dialog-title" }, `Cell ${c.cell}`), el("p", {}, el("strong", { class: c.status }, c.status), c.stage ? ` in ${c.stage}` : "", c.reason ? `: ${c.reason}` : ""),
    table(["layer", "choice"], LAYERS.map((l) => [l, c[l]]), "The stack"),
    c.log ? el("details", { open: "" }, el("summary", {}, "End of the log"), el("pre", { tabindex: "0" }, c.log)) : null,
    el("h3", {}, "Results"), table(["what", "value"], known, "As `dlas show` prints them; what is not listed was not measured"),
    rounds.length ? el("h3", {}, "Rounds") : null, rounds.length ? table(names, rounds.map((r) => names.map((n) => r[n])), "Every round; control 1 is the A/A double") : null,
    facts.length ? el("h3", {}, "Steps") : null, facts.length ? table(["step", "status", "reason", "at", "attempts", "artefact"], facts.map((f) => [f.kind, f.status, f.reason, f.created_at, f.attempts, (f.content || "").slice(0, 16)]), "What is stored beside the rounds") : null,
    told.length ? el("h3", {}, "Findings that rest on it") : null, told.length ? el("ul", {}, ...told.slice(0, 12).map((f) => el("li", {}, readable(f.sentence)))) : null,
    el("h3", {}, "Reproduce"), el("pre", { tabindex: "0" }, DATA.reproduce[c.folder].map((l) => l.replaceAll("CELL", c.cell)).join("\n")));
}
function openList(rows, title) {
  const layers = MANY.length ? MANY : LAYERS;
  openDialog(el("h2", { id: "dialog-title" }, plural(rows.length, "cell")), title ? el("p", {}, readable(title)) : null,
    table(["cell", ...layers, "status", "quiet_ms", "low", "high", "accuracy", "memory_mb"], rows.map((r) => CELLS[r]).map((c) => [cellButton(c.row, c.cell.slice(0, 8)), ...layers.map((l) => short(l, c[l])), c.status, c.quiet_ms, c.quiet_low_ms, c.quiet_high_ms, c.accuracy, c.memory_mb]), "Choose one for all that is known of it"));
}

// ---------------------------------------------------------------- the start

function buildFilters() {
  const form = document.getElementById("filters");
  const place = document.getElementById("filter-fields");
  for (const name of DATA.filters) {
    const levels = Stats.ordered(name, CELLS.map((c) => levelOf(c, name)));
    place.append(el("label", {}, name, el("select", { name, onchange: (e) => { chosen[name] = e.target.value; redraw(); } }, el("option", { value: "" }, "all"), ...levels.map((v) => el("option", { value: v }, short(name, v))))));
  }
  if (!DATA.filters.length) place.append(el("span", { class: "soft" }, "There is nothing to choose from: all cells share every choice."));
  form.addEventListener("reset", () => { for (const k of Object.keys(chosen)) delete chosen[k]; setTimeout(redraw); });
  form.addEventListener("submit", (e) => e.preventDefault());
}
// A page of paper is narrower than most screens; charts do not follow it by themselves.
const PRINTED = 690;
function fit(size) {
  for (const name of drawn) {
    const place = document.querySelector(`[data-chart="${name}"]`);
    if (place.data && !place.hidden) Plotly.relayout(place, size);
  }
}
function start() {
  document.getElementById("title").textContent = `What ${DATA.title || "the study"} says`;
  const done = CELLS.filter((c) => c.status === "complete").length;
  document.getElementById("subtitle").textContent = `${CELLS.length} stacks over the six layers, ${done} complete${HOSTS.length ? `, measured on ${HOSTS.length === 1 ? (DATA.hosts.find((h) => h.host === HOSTS[0])?.what.cpu || HOSTS[0]) : plural(HOSTS.length, "host")}` : ""}. Results: ${DATA.folders.join(", ")}.`;
  section("answer", "The answer", "", drawAnswer);
  section("findings", "All findings", "Ranked by size and certainty; false discoveries among those called significant are held to 5 %.", drawFindings);
  section("effects", "Effects", "What each layer moves, and what a wrong choice costs.", drawEffects);
  section("interactions", "Interactions", "Whether the effect of one layer depends on another.", drawInteractions);
  section("flips", "Flips", "A choice that is surely better in one place and surely worse in another.", drawFlips);
  section("winners", "Winner maps", "The best choice of one layer for each combination of two others.", drawWinners);
  section("front", "Latency against accuracy", "", drawFront);
  section("speedups", "Speed-ups", "", drawSpeedups);
  section("expected", "Expected against observed", "What fewer multiplications, bytes or bits, or more threads, promise, and what came of it.", drawExpected);
  section("break-even", "Break-even", "Where one choice overtakes another along an ordered factor.", drawBreakEven);
  section("returns", "Diminishing returns", "From where on more of a factor costs accuracy or time and gains less than the floor.", drawReturns);
  section("correlations", "Correlations", "Whether a cheap proxy orders the cells as latency does.", drawCorrelations);
  section("memory", "Memory and cold start", "", drawMemory);
  section("coverage", "Coverage and failures", "", drawCoverage);
  section("noise", "Noise and drift", "", drawNoise);
  section("hosts", "Host, versions, reproduction", "", drawHosts);
  section("cells-table", "All cells", "", drawTable);
  buildFilters();
  redraw();
  window.addEventListener("beforeprint", () => fit({ width: PRINTED, autosize: false }));
  window.addEventListener("afterprint", () => fit({ width: null, autosize: true }));
  document.body.dataset.ready = "true";
}
start();
