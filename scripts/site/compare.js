// Two columns of compareData beside each other, A and B: what is chosen is in the address. Runs after
// verdicts.js and before site.js, which draws the figure.
"use strict"

const { commits, machines, reasons } = compareData
const form = document.getElementById("choice")
const SHORTEST = 4 // characters of a commit's hash
const TOLD_STAGES = 3 // of each kind
const MOST_STAGES = 16 // of the picture
const COLOURS = { worse: "#d1495b", better: "#2f9e6e", neither: "#8a8f98" }

// ---- what is chosen: two sides, each a machine and the number of a commit among those it measured

const newest = (machine) => ({ machine, at: machine.commits.length - 1 })
const sha = ({ machine, at }) => commits[machine.commits[at]][0]
const named = (side) => `${side.machine.name}@${sha(side)}`

function defaults() {
  const machine = machines.reduce((a, b) => (b.commits.at(-1) > a.commits.at(-1) ? b : a))
  const b = newest(machine)
  return { a: { machine, at: Math.max(b.at - 1, 0) }, b, stage: "", text: "", all: false }
}

// "machine@commit", of which the commit may be shortened, and the machine be any of one name; null for none.
function side(text) {
  const cut = text.lastIndexOf("@"), name = text.slice(0, cut), wanted = text.slice(cut + 1).toLowerCase()
  if (wanted.length < SHORTEST) return null
  for (const machine of machines.filter((one) => one.name === name || one.name.startsWith(`${name}~`))) {
    const at = machine.commits.findIndex((place) => {
      const known = commits[place][0]
      return known.startsWith(wanted) || wanted.startsWith(known)
    })
    if (at >= 0) return { machine, at }
  }
  return null
}

const clipped = (text) => text.slice(0, 80)

function fromAddress() {
  const wanted = new URLSearchParams(location.hash.length > 1 ? location.hash.slice(1) : location.search)
  const chosen = defaults(), unknown = []
  for (const name of ["a", "b"]) {
    if (!wanted.has(name)) continue
    const known = side(wanted.get(name))
    if (known) chosen[name] = known
    else unknown.push(`${name.toUpperCase()}: ${clipped(wanted.get(name))} was not measured, or not lately`)
  }
  if (wanted.get("stage")) {
    const known = compareData.series.some(([, stage]) => stage === wanted.get("stage"))
    if (known) chosen.stage = wanted.get("stage")
    else unknown.push(`there is no stage ${clipped(wanted.get("stage"))}`)
  }
  chosen.text = wanted.get("text") ?? ""
  chosen.all = wanted.has("all")
  const instead = `Shown instead: ${named(chosen.a)} and ${named(chosen.b)}.`
  return { chosen, notice: unknown.length ? `${unknown.join("; ")}. ${instead}` : "" }
}

function address({ a, b, stage, text, all }) {
  const wanted = new URLSearchParams({ a: named(a), b: named(b) })
  if (stage) wanted.set("stage", stage)
  if (text) wanted.set("text", text)
  if (all) wanted.set("all", "")
  return `#${wanted}`
}

// ---- what is shown

const LONGEST_UNIT = 6 // that stands beside a number; every one stands below the series
const SCALES = {
  seconds: [[1, "s"], [1e-3, "ms"], [1e-6, "µs"]],
  bytes: [[1e12, "TB"], [1e9, "GB"], [1e6, "MB"], [1e3, "kB"], [1, "B"]],
  FLOP: [[1e15, "PFLOP"], [1e12, "TFLOP"], [1e9, "GFLOP"], [1e6, "MFLOP"], [1, "FLOP"]],
}

function shown(value, unit) {
  const scales = SCALES[unit] ?? [[1, unit]]
  const [factor, name] = scales.find(([size]) => Math.abs(value) >= size) ?? scales.at(-1)
  const number = (value / factor).toLocaleString("en", { maximumSignificantDigits: 4 })
  return name.length > LONGEST_UNIT ? number : `${number} ${name}`
}

function change({ ratio, from, to, unit }) {
  if (typeof from.value !== "number" || typeof to.value !== "number") return ""
  const difference = to.value - from.value
  if (difference === 0) return "0"
  if (unit === "exit code") return `${from.value} → ${to.value}`
  if (ratio === null) return `${difference > 0 ? "+" : "−"}${shown(Math.abs(difference), unit)}`
  if (ratio >= 10) return `×${ratio.toFixed(0)}`
  return percent(ratio - 1)
}

function percent(share) {
  const digits = Math.abs(share) >= 0.095 ? 0 : Math.abs(share) >= 0.0005 ? 1 : 3
  return `${share > 0 ? "+" : "−"}${(100 * Math.abs(share)).toFixed(digits)} %`
}

function cell(text, kind = "", value = undefined) {
  const place = document.createElement("td")
  place.textContent = text
  place.className = kind
  if (value !== undefined) place.dataset.value = value
  return place
}

function amount({ value, doubt, interval }, unit) {
  if (typeof value !== "number") return cell(gap(value), "n noise")
  const place = cell(`${shown(value, unit)}${doubt === undefined ? "" : " ?"}`, "n", value)
  for (const note of [interval?.map((end) => shown(end, unit)).join(" to "), reasons[doubt]]) {
    if (note) place.append(Object.assign(document.createElement("small"), { textContent: note }))
  }
  return place
}

const CLASSES = { failed: "worse", worse: "worse", better: "better", unknown: "" }

function line(row) {
  const place = document.createElement("tr")
  const kind = CLASSES[row.kind] ?? "noise"
  const series = cell(`${row.name}`)
  series.append(Object.assign(document.createElement("small"), { textContent: row.unit }))
  series.dataset.value = `${row.name} [${row.unit}]`
  place.append(
    cell(row.words, kind), cell(change(row), `n ${kind}`), cell(row.stage), series,
    amount(row.from, row.unit), amount(row.to, row.unit), cell(noise(row), "n noise"),
  )
  return place
}

function empty(rows) {
  const words = rows.length ? "Nothing here differs beyond noise." : "There is no such series of A or B."
  const place = document.createElement("tr"), only = cell(words)
  only.colSpan = 7
  place.append(only)
  return place
}

function noise({ exact, step }) {
  if (exact) return "none"
  return step === null ? "unknown" : `${(100 * step).toFixed(step < 0.095 ? 1 : 0)} %`
}

// The stages with most series of a kind, each with the change in the middle of theirs.
function largest(rows) {
  const groups = new Map()
  for (const row of rows) groups.set(row.stage, [...(groups.get(row.stage) ?? []), row])
  const most = [...groups].sort(([, one], [, other]) => other.length - one.length).slice(0, TOLD_STAGES)
  const stages = most.map(([stage, ones]) => {
    const parts = [stage, change(ones[ones.length >> 1]), `(${ones.length})`]
    return parts.filter(Boolean).join(" ")
  })
  const more = groups.size - stages.length
  return stages.join(", ") + (more ? ` and in ${more} more stages` : "")
}

const DIFFERING = {
  failed: "newly failed", worse: "worse", better: "better", machine: "moved by the machine",
}
const REST = { same: "the same or noise", unknown: "of unknown noise", gap: "with nothing to compare" }

function answer(rows, { a, b }) {
  const counted = (kinds) => Object.entries(kinds)
    .map(([kind, words]) => [rows.filter((row) => row.kind === kind), words])
    .filter(([ones]) => ones.length)
    .map(([ones, words]) => [ones, `${ones.length.toLocaleString("en")} ${words}`])
  const parts = counted(DIFFERING).map(([ones, words]) => `${words}: ${largest(ones)}.`)
  const rest = counted(REST).map(([, words]) => words)
  if (!parts.length) parts.push(rest.length ? "Nothing differs beyond noise." : "Nothing was measured.")
  if (rest.length) parts.push(`${rest.join(", ")}.`)
  if (a.machine !== b.machine) parts.push("This compares machines, not code.")
  else if (a.at === b.at) parts.push("A and B are the same.")
  return parts.join(" ")
}

// Ratios of the stages that moved most, around 1.
function picture(rows) {
  const every = rows.filter(({ ratio }) => ratio)
  const stages = [...new Set(every.map(({ stage }) => stage))].slice(0, MOST_STAGES)
  const shown = every.filter(({ stage }) => stages.includes(stage))
  const points = shown.map(({ stage, name, ratio, kind, words }) => ({
    stage, series: name, ratio, verdict: kind in COLOURS ? kind : "neither", words,
  }))
  const widest = points.reduce((most, { ratio }) => Math.max(most, ratio, 1 / ratio), 1.1) * 1.02
  const domain = Object.keys(COLOURS)
  const verdict = (range) => ({ field: "verdict", title: null, scale: { domain, range } })
  const scale = { type: "log", domain: [1 / widest, widest], nice: false }
  const x = { type: "quantitative", title: "B over A", scale, axis: { format: ".3~g", tickCount: 7 } }
  const rule = { type: "rule", strokeDash: [4, 4] }
  const one = { data: { values: [{}] }, mark: rule, encoding: { x: { ...x, datum: 1 } } }
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    width: "container", height: 20 * Math.max(stages.length, 2),
    autosize: { type: "fit-x", contains: "padding" },
    data: { values: points },
    layer: [
      one,
      {
        mark: { type: "point", filled: true, size: 60, opacity: 0.8 },
        encoding: {
          x: { ...x, field: "ratio" }, y: { field: "stage", type: "nominal", title: null, sort: stages },
          color: verdict(Object.values(COLOURS)), shape: verdict(["triangle-up", "triangle-down", "circle"]),
          tooltip: ["stage", "series", "ratio", "words"].map((field) => ({ field })),
        },
      },
    ],
  }
}

// What the table and the picture leave out.
function story(rows, listed) {
  const every = rows.filter(({ ratio }) => ratio), without = rows.length - every.length
  const stages = new Set(every.map(({ stage }) => stage)).size
  const parts = [`The table has ${listed.toLocaleString("en")} of ${rows.length.toLocaleString("en")} series.`]
  if (without) parts.push(`The picture leaves out ${without.toLocaleString("en")} that have no ratio.`)
  if (stages > MOST_STAGES) parts.push(`Of ${stages} stages the picture has the ${MOST_STAGES} that moved most.`)
  return parts.join(" ")
}

// ---- the page

function options(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => new Option(text, value, false, value === chosen)))
}

function fill({ a, b, stage, text, all }) {
  for (const [name, { machine, at }] of [["a", a], ["b", b]]) {
    const every = machines.map((one, number) => [String(number), one.name])
    options(form[`${name}-machine`], every, String(machines.indexOf(machine)))
    const measured = machine.commits.map((place, number) => {
      const [known, date, subject] = commits[place]
      return [String(number), `${known.slice(0, 8)} ${date} ${subject}`]
    })
    options(form[`${name}-commit`], measured.reverse(), String(at))
  }
  const stages = [...new Set(compareData.series.map(([, one]) => one))].sort()
  options(form.stage, [["", "all"], ...stages.map((one) => [one, one])], stage)
  if (document.activeElement !== form.text) form.text.value = text
  form.all.checked = all
}

let drawn = Promise.resolve()

function show(chosen, notice) {
  const rows = compared(chosen)
  const listed = chosen.all ? rows : rows.filter(({ kind }) => kind !== "same" && kind !== "gap")
  const figure = document.getElementById("compared")
  document.getElementById("answer").textContent = answer(rows, chosen)
  document.getElementById("notice").textContent = notice
  document.getElementById("rows").replaceChildren(...(listed.length ? listed.map(line) : [empty(rows)]))
  document.getElementById("story").textContent = story(rows, listed.length)
  figure.querySelector("script").textContent = JSON.stringify(picture(rows))
  history.replaceState(null, "", address(chosen))
}

// A machine that did not measure the commit shows its newest.
function ofForm(name, before) {
  const machine = machines[form[`${name}-machine`].value]
  if (machine === before.machine) return { machine, at: Number(form[`${name}-commit`].value) }
  const at = machine.commits.indexOf(before.machine.commits[before.at])
  return at < 0 ? newest(machine) : { machine, at }
}

let { chosen, notice } = fromAddress()

function update(next, notice = "") {
  chosen = next
  fill(chosen)
  show(chosen, notice)
  drawn = drawn.then(() => draw(document.getElementById("compared")))
}

form.addEventListener("input", () => update({
  a: ofForm("a", chosen.a), b: ofForm("b", chosen.b),
  stage: form.stage.value, text: form.text.value, all: form.all.checked,
}))
form.addEventListener("submit", (event) => event.preventDefault())
document.getElementById("swap").addEventListener("click", () => {
  update({ ...chosen, a: chosen.b, b: chosen.a })
})
addEventListener("hashchange", () => {
  const next = fromAddress()
  update(next.chosen, next.notice)
})
fill(chosen)
show(chosen, notice)
