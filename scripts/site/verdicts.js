// What is worse, better or noise between two columns of compareData, of which scripts/site/compare.py says what
// it has.
"use strict"

const SAME = "same within noise", UNKNOWN = ["unknown", "noise unknown"]

function values({ machine, at }) {
  return new Map(machine.rows.map(([number, value, step, changes, doubts, intervals]) => [
    number, { value: value[at], step, changes, doubt: doubts[at], interval: intervals[at] },
  ]))
}

const NOTHING = { value: "", changes: [] }
const gap = (value) => (value === null ? "n/a" : value || "not measured")

function compared(chosen) {
  const { a, b } = chosen, before = values(a), after = values(b)
  const words = chosen.text.toLowerCase().split(/\s+/).filter(Boolean)
  const rows = []
  compareData.series.forEach(([name, stage, component, unit, exact, signed, time], number) => {
    if (chosen.stage && stage !== chosen.stage) return
    if (!words.every((word) => `${name} ${component}`.toLowerCase().includes(word))) return
    const from = before.get(number) ?? NOTHING, to = after.get(number) ?? NOTHING
    if (typeof from.value !== "number" && typeof to.value !== "number") {
      if (from.value !== "failed" && to.value !== "failed") return
    }
    const row = { name, stage, component, unit, exact, signed, time, from, to, step: step(from, to) }
    rows.push({ ...row, ...verdict(row, a, b) })
  })
  return rows.sort((one, other) =>
    rank(one) - rank(other) || !one.ratio - !other.ratio || other.size - one.size)
}

const step = (from, to) => (from.step && to.step ? Math.max(from.step, to.step) : null)
const RANKS = ["failed", "worse", "better", "unknown", "machine", "same", "gap"]
const rank = ({ kind }) => RANKS.indexOf(kind)

// Kind and words of a row, its ratio where there is one, and its size, by which rows of a kind are sorted.
function verdict(row, a, b) {
  const { from, to, signed, exact } = row
  if (typeof from.value !== "number" || typeof to.value !== "number") {
    const failed = to.value === "failed" && typeof from.value === "number"
    const sides = [["A", from], ["B", to]].filter(([, one]) => typeof one.value !== "number")
    const words = sides.map(([name, { value }]) => `${gap(value)} on ${name}`).join(", ")
    return { kind: failed ? "failed" : "gap", words, ratio: null, size: 0 }
  }
  const difference = to.value - from.value
  const ratio = signed || from.value <= 0 || to.value < 0 ? null : to.value / from.value
  const size = ratio ? Math.abs(Math.log(ratio)) : Math.abs(difference)
  const [kind, words] = exact ? ofExact(row, difference) : ofTimed(row, difference, ratio, a, b)
  return { kind, words, ratio, size }
}

function ofExact({ from }, difference) {
  if (difference === 0) return ["same", "the same"]
  if (Math.abs(difference) <= compareData.exact * Math.abs(from.value)) return ["same", "the same, nearly"]
  return difference > 0 ? ["worse", "worse"] : ["better", "better"]
}

const word = (worse, time) => (time ? (worse ? "slower" : "faster") : worse ? "worse" : "better")

function ofTimed(row, difference, ratio, a, b) {
  const { time, unit, from, to, step } = row, worse = difference > 0
  const differs = [worse ? "worse" : "better", word(worse, time)]
  if (difference === 0) return ["same", "the same"]
  if (Math.abs(difference) < (compareData.floors[unit] ?? 0)) return ["same", "too little to matter"]
  const hidden = step === null || Math.abs(Math.log(ratio)) < Math.log1p(step)
  if (a.machine !== b.machine) return step === null ? UNKNOWN : hidden ? ["same", SAME] : differs
  if (!from.changes || !to.changes) return UNKNOWN
  const [first, last] = [a.at, b.at].sort((one, other) => one - other)
  const between = from.changes.filter(([begin, end]) => first < end && last >= begin)
  const way = a.at > b.at ? -1 : 1
  const moved = way * between.reduce((sum, [, , before, after]) => sum + distance(row, before, after), 0)
  const least = row.signed ? compareData.floors[unit] ?? Number.MIN_VALUE : Math.log1p(compareData.step)
  if (Math.abs(moved) >= least) {
    if (!between.some((change) => change.at(-1))) return ["machine", "the machine's doing"]
    return [moved > 0 ? "worse" : "better", word(moved > 0, time)]
  }
  return ["same", hidden ? SAME : "noise, unless a second measurement agrees"]
}

const distance = ({ signed }, before, after) => (signed ? after - before : Math.log(after / before))
