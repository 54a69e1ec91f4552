"use strict";
// The arithmetic that filters need: the same methods as dlas.analyze, on the cells left over.
// Without filters every result equals that of Python (a test compares them).
const Stats = (() => {
  const logGamma = (z) => {
    const g = [76.18009172947146, -86.50532032941677, 24.01409824083091, -1.231739572450155, 0.001208650973866179, -0.000005395239384953];
    const base = z + 5.5 - (z + 0.5) * Math.log(z + 5.5);
    return -base + Math.log(2.5066282746310005 * g.reduce((s, c, i) => s + c / (z + 1 + i), 1.000000000190015) / z);
  };
  function fraction(a, b, x) {
    let c = 1, d = 1 - ((a + b) * x) / (a + 1);
    d = 1 / (Math.abs(d) < 1e-300 ? 1e-300 : d);
    let h = d;
    for (let m = 1; m <= 300; m++) {
      for (const top of [(m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m)), (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1))]) {
        d = 1 + top * d; c = 1 + top / c;
        d = 1 / (Math.abs(d) < 1e-300 ? 1e-300 : d);
        h *= d * c;
      }
      if (Math.abs(d * c - 1) < 1e-13) break;
    }
    return h;
  }
  function beta(a, b, x) {
    if (x <= 0) return 0;
    if (x >= 1) return 1;
    const front = Math.exp(logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log(1 - x));
    return x < (a + 1) / (a + b + 2) ? (front * fraction(a, b, x)) / a : 1 - (front * fraction(b, a, 1 - x)) / b;
  }
  const capped = (df) => Math.min(df, 1e5);
  // Two-sided p value of Student's t.
  const pValue = (t, df) => beta(capped(df) / 2, 0.5, capped(df) / (capped(df) + t * t));
  const quantiles = new Map();
  function tQuantile(p, df) {
    const key = `${p}/${capped(df).toFixed(4)}`;
    if (quantiles.has(key)) return quantiles.get(key);
    let low = 0, high = 2;
    const tail = 2 * (1 - p);
    while (pValue(high, df) > tail) high *= 2;
    for (let i = 0; i < 60; i++) {
      const middle = (low + high) / 2;
      if (pValue(middle, df) > tail) low = middle; else high = middle;
    }
    quantiles.set(key, (low + high) / 2);
    return (low + high) / 2;
  }
  // Sums by column, as in Estimates.var: of variances by stratum first, then, with its sign, of what is left of each error that cells have in common.
  const nothing = () => new Float64Array(EST.df.length);
  const common = (row) => EST.shared[row] || [];
  // As Estimates.gap and apart: adds the error of a difference of two cells (`two`: null for none).
  function add(sums, one, two, sign = 1) {
    for (const [row, side] of two === null ? [[one, sign]] : [[one, sign], [two, -sign]]) {
      const own = common(row);
      sums[EST.stratum[row]] += EST.var[row];
      for (let i = 0; i < own.length; i += 2) sums[own[i]] += side * own[i + 1];
    }
    return sums;
  }
  // As Estimates.averaged: the variance of the mean of n differences; what they have in common does not average out.
  const averaged = (sums, n = 1) => sums.map((v, column) => (column < EST.strata ? v : v * v) / (n * n));
  // The standard error of a contrast, and Satterthwaite's degrees of freedom.
  function spread(variance) {
    let total = 0, parts = 0;
    variance.forEach((v, column) => { total += v; if (v > 0) parts += (v * v) / EST.df[column]; });
    return { se: Math.sqrt(total), df: parts > 0 ? (total * total) / parts : 1e9 };
  }
  // `middle`: the same contrast of medians over rounds, a guard against single bad ones, as in contrasts.tested.
  function interval(value, variance, p = 0.975, middle = value) {
    if (!EST.known) return { value, low: NaN, high: NaN, p: NaN };
    const { se, df } = spread(variance);
    const half = tQuantile(p, df) * se;
    const least = Math.sign(value) === Math.sign(middle) ? Math.min(Math.abs(value), Math.abs(middle)) : 0;
    return { value, low: Math.min(value, middle) - half, high: Math.max(value, middle) + half, p: pValue(least / se, df) };
  }
  const middleOf = (row) => (EST.middle || EST.mean)[row];

  const columns = () => [...EST.varied, ...(HOSTS.length > 1 ? ["host"] : [])];
  const ordered = (layer, values) => { const known = EST?.orders[layer] || []; return unique(values).sort((a, b) => known.indexOf(a) - known.indexOf(b)); };
  // Contexts of a layer: everything else chosen, and the row of each of its choices there.
  function contexts(rows, layer) {
    const others = columns().filter((c) => c !== layer);
    const found = new Map();
    for (const c of rows) {
      const key = others.map((o) => c[o]).join("\u0001");
      if (!found.has(key)) found.set(key, { fixed: Object.fromEntries(others.map((o) => [o, c[o]])), at: new Map() });
      found.get(key).at.set(c[layer], c.row);
    }
    return [...found.values()];
  }

  // ---------------------------------------------------------------- shares of variance

  // Shapley values over least squares of main effects (Lindeman, Merenda and Gold 1980).
  function shares(rows) {
    const varied = EST.varied;
    if (rows.length < 3 || !varied.length) return null;
    const host = rows.map((c) => HOSTS.indexOf(c.host));
    const centre = (values) => {
      const sum = new Map(), n = new Map();
      values.forEach((v, i) => { sum.set(host[i], (sum.get(host[i]) || 0) + v); n.set(host[i], (n.get(host[i]) || 0) + 1); });
      return values.map((v, i) => v - sum.get(host[i]) / n.get(host[i]));
    };
    const y = centre(rows.map((c) => EST.mean[c.row]));
    const total = y.reduce((s, v) => s + v * v, 0);
    if (total <= 1e-12) return null;
    const blocks = varied.map((layer) => unique(rows.map((c) => c[layer])).slice(1)
      .map((level) => centre(rows.map((c) => (c[layer] === level ? 1 : 0)))));
    const flat = blocks.flat();
    const scale = flat.map((x) => Math.sqrt(Math.max(x.reduce((s, v) => s + v * v, 0), 1e-30)));
    const dot = (a, b) => { let s = 0; for (let i = 0; i < a.length; i++) s += a[i] * b[i]; return s; };
    const gram = flat.map((a, i) => flat.map((b, j) => (j <= i ? dot(a, b) / (scale[i] * scale[j]) : 0)));
    const moment = flat.map((a, i) => dot(a, y) / scale[i]);
    const start = []; blocks.reduce((at, b, i) => { start[i] = at; return at + b.length; }, 0);
    const explained = Array.from({ length: 1 << varied.length }, (_, subset) => {
      const index = varied.flatMap((_, i) => (subset & (1 << i) ? blocks[i].map((_, j) => start[i] + j) : []));
      return explains(index, gram, moment);
    });
    const k = varied.length;
    const factorial = (n) => (n < 2 ? 1 : n * factorial(n - 1));
    const bits = (n) => { let b = 0; for (; n; n &= n - 1) b++; return b; };
    return Object.fromEntries(varied.map((layer, i) => {
      let share = 0;
      for (let s = 0; s < 1 << k; s++) {
        if (s & (1 << i)) continue;
        share += ((factorial(bits(s)) * factorial(k - bits(s) - 1)) / factorial(k)) * (explained[s | (1 << i)] - explained[s]);
      }
      return [layer, share / total];
    }));
  }
  // Sum of squares that some columns explain, by Cholesky; dependent columns add nothing.
  function explains(index, gram, moment) {
    const n = index.length, l = [], z = [];
    let sum = 0;
    for (let i = 0; i < n; i++) {
      l.push(new Float64Array(n));
      for (let j = 0; j <= i; j++) {
        let s = gram[Math.max(index[i], index[j])][Math.min(index[i], index[j])] + (i === j ? 1e-9 : 0);
        for (let m = 0; m < j; m++) s -= l[i][m] * l[j][m];
        l[i][j] = i === j ? Math.sqrt(Math.max(s, 1e-30)) : s / l[j][j];
      }
      let s = moment[index[i]];
      for (let m = 0; m < i; m++) s -= l[i][m] * z[m];
      z.push(s / l[i][i]);
      if (l[i][i] ** 2 > 1e-7) sum += z[i] ** 2;
    }
    return sum;
  }
  // The single levels without which two layers whose shares differ by 0.02 change places.
  function leftOut(rows) {
    const whole = shares(rows);
    if (!whole) return [];
    const out = [];
    for (const layer of EST.varied) {
      for (const level of ordered(layer, rows.map((c) => c[layer]))) {
        const kept = rows.filter((c) => c[layer] !== level);
        const found = shares(kept);
        if (!found) continue;
        const collapses = EST.varied.some((x) => x !== layer && varies(x) && unique(kept.map((c) => c[x])).length < 2);
        const names = Object.keys(found).filter((x) => found[x] > 0 || x !== layer);
        const changed = names.some((a, i) => names.slice(i + 1).some((b) => {
          const before = whole[a] - whole[b], after = found[a] - found[b];
          return before * after < 0 && Math.min(Math.abs(before), Math.abs(after)) >= 0.02;
        }));
        out.push({ layer, level, ...found, changed, collapses, order: Object.keys(found).sort((a, b) => found[b] - found[a]).join(" > ") });
      }
    }
    return out;
  }

  // ---------------------------------------------------------------- losses

  const quantile = (values, q) => {
    const sorted = [...values].sort((a, b) => a - b);
    const at = (sorted.length - 1) * q, low = Math.floor(at);
    return sorted[low] + (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]) * (at - low);
  };
  function losses(rows) {
    return EST.varied.flatMap((layer) => {
      const all = contexts(rows, layer).map((c) => c.at).filter((at) => at.size > 1);
      if (!all.length) return [];
      const sorted = all.map((at) => [...at.values()].map((r) => EST.mean[r]).sort((a, b) => a - b));
      const second = sorted.map((v) => v[1] - v[0]);
      const base = all.flatMap((at, i) => (at.has(EST.references[layer]) ? [EST.mean[at.get(EST.references[layer])] - sorted[i][0]] : []));
      const back = (values, q) => (values.length ? Math.exp(quantile(values, q)) : null);
      return [{ layer, contexts: all.length, second_median: back(second, 0.5), second_q90: back(second, 0.9),
        ties: second.filter((v) => v < Math.log1p(EST.floor)).length / second.length, baseline: EST.references[layer],
        baseline_median: back(base, 0.5), baseline_q90: back(base, 0.9), worst_median: back(sorted.map((v) => v[v.length - 1] - v[0]), 0.5) }];
    });
  }

  // ---------------------------------------------------------------- interactions

  const pairsOf = (items) => items.flatMap((a, i) => items.slice(i + 1).map((b) => [a, b]));
  // Ratios of ratios of one pair of layers, over contexts that hold all four cells.
  function tetrads(rows, layer, by) {
    const a = ordered(layer, rows.map((c) => c[layer])), m = ordered(by, rows.map((c) => c[by]));
    const rest = new Map();
    for (const c of contexts(rows, layer)) {
      const key = Object.entries(c.fixed).filter(([o]) => o !== by).map(([, v]) => v).join("\u0001");
      if (!rest.has(key)) rest.set(key, new Map());
      rest.get(key).set(c.fixed[by], c.at);
    }
    let pairs = pairsOf(a);
    if (pairs.length * pairsOf(m).length > 20000) pairs = a.filter((x) => x !== EST.references[layer]).map((x) => [EST.references[layer], x]);
    const out = [];
    for (const [one, two] of pairs) {
      for (const [at, other] of pairsOf(m)) {
        const found = [...rest.values()].map((r) => [r.get(at), r.get(other)])
          .filter(([x, z]) => x && z && x.has(one) && x.has(two) && z.has(one) && z.has(two));
        if (!found.length) continue;
        const n = found.length, sums = nothing();
        const mean = (value, side) => found.reduce((sum, each) => sum + value(each[side].get(one)) - value(each[side].get(two)), 0) / n;
        for (const [x, z] of found) { add(sums, x.get(one), x.get(two)); add(sums, z.get(one), z.get(two), -1); }
        const [atM, atN] = [0, 1].map((side) => mean((row) => EST.mean[row], side));
        const t = interval(atM - atN, averaged(sums, n), 0.975, EST.middle ? mean(middleOf, 0) - mean(middleOf, 1) : undefined);
        out.push({ layer, by, a: one, b: two, m: at, n: other, contexts: n, ratio: Math.exp(t.value), low: Math.exp(t.low), high: Math.exp(t.high),
          p: t.p, at_m: Math.exp(atM), at_n: Math.exp(atN),
          rows: unique(found.length ? [found[0][0].get(one), found[0][0].get(two), found[0][1].get(one), found[0][1].get(two)] : []) });
      }
    }
    return out;
  }
  // All pairs of layers, with the false discovery rate over all of them (Benjamini and Hochberg).
  function interactions(rows) {
    const all = pairsOf(EST.varied).flatMap(([x, z]) => tetrads(rows, x, z));
    const known = all.filter((t) => Number.isFinite(t.p)).sort((x, z) => x.p - z.p);
    let least = 1;
    for (let i = known.length - 1; i >= 0; i--) { least = Math.min(least, (known[i].p * known.length) / (i + 1)); known[i].q = least; }
    for (const t of all) t.found = EST.known ? t.q < 0.05 : Math.abs(Math.log(t.ratio)) > Math.log1p(EST.floor);
    return all;
  }
  function layerPairs(all) {
    return pairsOf(EST.varied).flatMap(([layer, by]) => {
      const own = all.filter((t) => t.layer === layer && t.by === by);
      if (!own.length) return [];
      const sizes = own.map((t) => Math.abs(Math.log(t.ratio)));
      return [{ layer, by, tests: own.length, found: own.filter((t) => t.found).length,
        largest: Math.exp(Math.max(0, ...own.map((t, i) => (t.found ? sizes[i] : 0)))), typical: Math.exp(quantile(sizes, 0.5)) }];
    });
  }

  // ---------------------------------------------------------------- winners

  function inverse(matrix) {
    const n = matrix.length, work = matrix.map((r, i) => [...r, ...r.map((_, j) => (i === j ? 1 : 0))]);
    for (let i = 0; i < n; i++) {
      const p = work.slice(i).reduce((best, r, k) => (Math.abs(r[i]) > Math.abs(work[best][i]) ? i + k : best), i);
      [work[i], work[p]] = [work[p], work[i]];
      const pivot = work[i][i];
      work[i] = work[i].map((v) => v / pivot);
      for (let k = 0; k < n; k++) if (k !== i && work[k][i]) { const f = work[k][i]; work[k] = work[k].map((v, j) => v - f * work[i][j]); }
    }
    return work.map((r) => r.slice(n));
  }
  // The best choice of a layer in some contexts by least squares (choice + context), and its ties.
  function winner(all, layer) {
    const useful = all.filter((c) => c.at.size > 1);
    if (!useful.length) return null;
    const levels = ordered(layer, useful.flatMap((c) => [...c.at.keys()])), k = levels.length;
    const normal = levels.map(() => new Array(k).fill(0)), right = new Array(k).fill(0), noise = nothing(), roots = nothing();
    let count = 0;
    for (const { at } of useful) {
      const own = levels.map((l, i) => (at.has(l) ? i : -1)).filter((i) => i >= 0);
      const mean = own.reduce((s, i) => s + EST.mean[at.get(levels[i])], 0) / own.length;
      for (const i of own) {
        right[i] += EST.mean[at.get(levels[i])] - mean;
        for (const j of own) normal[i][j] += (i === j ? 1 : 0) - 1 / own.length;
        const row = at.get(levels[i]);
        add(roots, row, null);
        averaged(add(nothing(), row, null)).forEach((v, column) => { noise[column] += v; });
        count += 1;
      }
    }
    const reached = new Set([0]);
    for (const i of reached) levels.forEach((_, j) => { if (normal[i][j] < 0) reached.add(j); });
    if (reached.size < k) return null;
    const inv = inverse(normal.map((r) => r.map((v) => v + 1 / k))).map((r) => r.map((v) => v - 1 / k));
    const effect = inv.map((r) => r.reduce((s, v, j) => s + v * right[j], 0));
    const top = effect.indexOf(Math.min(...effect));
    const above = effect.map((e) => e - effect[top]);
    // The mean variance of a cell; of an error that cells have in common what they differ by in it.
    const each = noise.map((v, column) => (column < EST.strata ? v / count : Math.max(v / count - (roots[column] / count) ** 2, 0)));
    const tied = levels.filter((_, i) => {
      if (i === top) return false;
      if (above[i] <= Math.log1p(EST.floor)) return true;
      if (!EST.known) return false;
      const width = Math.max(inv[i][i] + inv[top][top] - 2 * inv[top][i], 0);
      return interval(above[i], each.map((v) => width * v), 1 - 0.05 / Math.max(k - 1, 1)).low <= 0;
    });
    const second = Math.min(...above.filter((_, i) => i !== top));
    const example = useful.find((c) => c.at.has(levels[top]));
    return { best: levels[top], tied, over_second: Math.exp(second), contexts: useful.length, levels: k, row: example.at.get(levels[top]) };
  }
  function winnerMap(rows, layer, one, two) {
    const groups = new Map();
    for (const c of contexts(rows, layer)) {
      const key = `${c.fixed[one]}\u0001${two ? c.fixed[two] : ""}`;
      groups.set(key, [...(groups.get(key) || []), c]);
    }
    return [...groups].flatMap(([, all]) => {
      const found = winner(all, layer);
      return found ? [{ rowLevel: all[0].fixed[one], columnLevel: two ? all[0].fixed[two] : "", ...found }] : [];
    });
  }

  // ---------------------------------------------------------------- the best cell

  function best(rows) {
    const judged = (word) => new Set(TABLES.verdicts.filter((v) => v.verdict === word).map((v) => v.row));
    const fails = judged("fails"), open = judged("cannot tell");
    const own = EST.decider === DATA.metric, sign = EST.maximize ? -1 : 1;
    const score = (c) => (own ? EST.mean[c.row] : sign * c[EST.decider]);
    const usable = rows.filter((c) => c.row < DATA.analyzed && c.status === "complete" && isNumber(c[EST.decider]) && isNumber(score(c)) && !fails.has(c.row));
    const sure = usable.filter((c) => !open.has(c.row));
    const from = sure.length ? sure : usable;
    if (!from.length) return null;
    const top = from.reduce((a, b) => (score(b) < score(a) ? b : a));
    const rivals = usable.filter((c) => c !== top && c.host === top.host && (!own || isNumber(EST.mean[c.row])));
    const beside = (some, one) => some.map((c) => {
      if (!own) return { row: c.row, ratio: Math.exp(Math.sign(score(one)) * Math.log(score(c) / score(one))), low: null, high: null, meets: !open.has(c.row) };
      const t = interval(EST.mean[c.row] - EST.mean[one.row], averaged(add(nothing(), c.row, one.row)), 1 - 0.05 / Math.max(some.length, 1));
      return { row: c.row, ratio: Math.exp(t.value), low: Math.exp(t.low), high: Math.exp(t.high), meets: !open.has(c.row) };
    }).sort((a, b) => a.ratio - b.ratio);
    let near = beside(rivals, top).filter((r) => (own && EST.known ? r.low <= 1 : r.ratio <= 1 + EST.floor));
    const cellOf = new Map(usable.map((c) => [c.row, c]));
    const chosen = simplest([top, ...near.filter((r) => r.ratio <= 1 + EST.simpler && (r.meets || !sure.length)).map((r) => cellOf.get(r.row))]);
    if (chosen !== top) near = beside([top, ...near.map((r) => cellOf.get(r.row))].filter((c) => c !== chosen), chosen);
    return { row: chosen.row, sure: sure.length > 0, metric: EST.decider, value: chosen[EST.decider], runners_up: near };
  }
  // Of cells that cannot be told apart: those best by each further goal, of them the fewest steps beyond the defaults.
  function simplest(rows) {
    let left = rows;
    for (const [column, sign] of EST.further) {
      const values = left.map((c) => c[column]).filter(isNumber).map((v) => sign * v);
      if (!values.length) continue;
      const least = Math.min(...values);
      left = left.filter((c) => isNumber(c[column]) && sign * c[column] <= least + Math.abs(least) * EST.floor);
    }
    return left.reduce((a, b) => (EST.steps[b.row] < EST.steps[a.row] ? b : a));
  }
  // Cells than which no other is at least as good in all and better in one; lower is better.
  function nondominated(rows, axes) {
    return rows.filter((c) => !rows.some((o) => axes.every((f) => f(o) <= f(c)) && axes.some((f) => f(o) < f(c))));
  }
  // A mean of log ratios over cells (first over second, or over one), with its interval.
  function meanRatio(pairs) {
    const sums = nothing(), n = pairs.length;
    let value = 0, middle = 0;
    for (const [one, two] of pairs) {
      value += (EST.mean[one] - (two === null ? 0 : EST.mean[two])) / n;
      middle += (two === null ? EST.mean[one] : middleOf(one) - middleOf(two)) / n;
      add(sums, one, two);
    }
    const t = interval(value, averaged(sums, n), 0.975, middle);
    return { ratio: Math.exp(t.value), low: Math.exp(t.low), high: Math.exp(t.high), contexts: n };
  }
  return { shares, leftOut, losses, tetrads, interactions, layerPairs, winnerMap, best, nondominated, meanRatio, contexts, ordered, quantile, tQuantile, pValue };
})();
