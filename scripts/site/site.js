// Charts of a page: each figure holds its specification as JSON, a place for it, and its numbers in a table.
"use strict"

const dark = matchMedia("(prefers-color-scheme: dark)")
const views = new WeakMap()

function config() {
  const style = getComputedStyle(document.body)
  const text = style.color, line = dark.matches ? "#ffffff30" : "#00000020"
  return {
    background: style.backgroundColor, font: style.fontFamily,
    view: { stroke: null },
    title: { color: text }, legend: { labelColor: text, titleColor: text, orient: "top", columns: innerWidth < 500 ? 3 : 4 },
    axis: { labelColor: text, titleColor: text, gridColor: line, domainColor: line, tickColor: line },
    header: { labelColor: text, titleColor: text }, text: { color: text }, rule: { color: text },
  }
}

// Where a chart's choices are: beside the picture, of which a screen reader reads no parts.
function choices(place) {
  if (!place.nextElementSibling?.matches(".choices")) {
    place.after(Object.assign(document.createElement("div"), { className: "choices" }))
  }
  place.nextElementSibling.replaceChildren()
  return place.nextElementSibling
}

async function draw(figure) {
  const place = figure.querySelector(".plot")
  const spec = JSON.parse(figure.querySelector("script").textContent)
  const bind = choices(place)
  try {
    const { view } = await vegaEmbed(place, spec, { renderer: "svg", actions: false, config: config(), bind })
    views.set(figure, view)
  } catch (error) {
    place.textContent = `This chart could not be drawn (${error.message}); its numbers are below.`
  }
}

function save(name, address) {
  const link = document.createElement("a")
  link.download = name
  link.href = address
  link.click()
}

// A cell that begins as a formula does would be run by a spreadsheet.
function csv(table) {
  const cell = ({ textContent, dataset: { value: text = textContent } }) => `"${text.trim().replace(/^(?=[=@+]|-(?![\d.]))/, "'").replaceAll('"', '""')}"`
  return [...table.rows].map((row) => [...row.cells].map(cell).join(",")).join("\r\n") + "\r\n"
}

async function onSave({ target }) {
  const kind = target.dataset.save, figure = target.closest("figure")
  if (!kind || !figure) return
  if (kind === "csv") {
    const text = csv(figure.querySelector("table"))
    save(`${figure.id}.csv`, `data:text/csv;charset=utf-8,${encodeURIComponent(text)}`)
  } else if (views.has(figure)) {
    save(`${figure.id}.png`, await views.get(figure).toImageURL("png", 2))
  }
}

// What follows the # may be anything, also what is no text of UTF-8.
function fragment() {
  const name = location.hash.slice(1)
  try {
    return decodeURIComponent(name)
  } catch {
    return name
  }
}

// A link into a fold opens it.
function unfold() {
  let place = document.getElementById(fragment())
  while (place) {
    if (place instanceof HTMLDetailsElement) place.open = true
    place = place.parentElement
  }
}

function drawAll() {
  for (const figure of document.querySelectorAll("figure:has(.plot)")) draw(figure)
}

document.addEventListener("click", onSave)
addEventListener("hashchange", unfold)
dark.addEventListener("change", drawAll)
unfold()
drawAll()
