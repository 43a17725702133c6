// What the explorer's bundle asks instead of itself (scripts/site/explorer_bundle.py): which series there are of a
// machine, which of them stands for its benchmark, and what may be called worse.
"use strict"

const explorer = (() => {
  const RED = "color-mix(in oklab, var(--danger) 45%, transparent)"
  const GREEN = "color-mix(in oklab, var(--ok) 45%, transparent)"
  let shown = null // the index, with the benchmarks of one machine

  function signed(value, unit = "") {
    const digits = Number(value.toPrecision(3))
    return `${value < 0 ? "" : "+"}${digits}${unit && ` ${unit}`}`
  }

  const labelOf = (index, state) => (index.measured[state.machine] ? state.machine : index.params.machine[0])

  // The index with the benchmarks that were measured on the machine of `state`.
  function on(index, state) {
    if (!index) return null
    const measured = index.measured[labelOf(index, state)]
    const benchmarks = Object.entries(measured).map(([name, own]) => [name, { ...index.benchmarks[name], ...own }])
    shown = { ...index, benchmarks: Object.fromEntries(benchmarks) }
    return shown
  }

  // A graph from its first value to its last, of which each row knows the one that stands for it: of the series
  // that its benchmark opens on.
  function graph(whole, path) {
    const known = ([, values]) => [values].flat().some((value) => value != null)
    const rows = whole.slice(whole.findIndex(known), whole.findLastIndex(known) + 1)
    const name = decodeURIComponent(path.split("/").pop()).replace(/\.json$/, "")
    const { order = [], apart } = shown.benchmarks[name] ?? {}
    for (const [, values] of rows) if (Array.isArray(values)) values.stands = apart ? null : values[order[0]]
    return rows
  }

  // First to last, in words.
  function change({ first, latest, change }, { by_difference, unit }) {
    if (latest == null) return null
    if (by_difference) return signed(latest - first, unit)
    return change == null ? null : `${change < 0 ? "" : "+"}${(change * 100).toFixed(1)}%`
  }

  function tone({ verdicts, order }, at = order[0]) {
    return { 1: "delta-up", "-1": "delta-down" }[verdicts[at]] ?? "muted"
  }

  // A cell of the heatmap: what changed since the commit measured before, and what the report says did it.
  function cell(benchmark, revision, before, now) {
    const [worse, amount] = benchmark.moves[revision] ?? []
    const known = now != null && before != null && (benchmark.by_difference || before !== 0)
    const step = !known ? "·" : benchmark.by_difference ? signed(now - before) : (now / before).toFixed(2)
    const name = `${benchmark.name} @ ${revision}`
    if (!amount) return { title: `${name}: nothing beyond noise`, children: step }
    const word = worse ? "worse" : "better"
    return {
      style: { background: worse ? RED : GREEN }, title: `${name}: ${word}, ${amount}`,
      children: `${worse ? "▲" : "▼"} ${amount}`,
    }
  }

  // How points are drawn: of a long line not at all, and those without neighbours so that they are seen.
  function points(values) {
    const known = values.map((value) => value != null)
    const alone = known.some((one, at) => one && !known[at - 1] && !known[at + 1])
    return { show: alone || known.filter(Boolean).length < 48, size: alone ? 10 : 5 }
  }

  const byDifference = (before, after, { by_difference } = {}) =>
    by_difference && before != null && after != null
      ? { ratio: null, mark: after === before ? " " : "~", color: "default", difference: after - before }
      : null

  return {
    on, graph, change, tone, cell, points, byDifference,
    environment: (state) => shown.environments[labelOf(shown, state)],
    inOrder: (benchmark, series) => benchmark.order?.map((at) => series[at]) ?? series,
    regressed: (rows, state) =>
      new Set(rows.filter((row) => row.graphParams.machine === state.machine).map((row) => row.benchmarkBase)),
    ratio: ({ ratio, difference }) =>
      difference != null ? signed(difference) : ratio != null ? ratio.toFixed(2) : "n/a",
    phrase: ({ by_difference, unit }, before, after) =>
      by_difference ? { phrase: signed(after - before, unit) } : null,
    did: ({ moves }, revision) => (moves[revision] ? (moves[revision][0] ? "delta-up" : "delta-down") : "muted"),
    isDifference: (unit) =>
      Object.values(shown.benchmarks).every((one) => one.unit !== unit || one.by_difference),
  }
})()
