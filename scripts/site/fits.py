"""Fits: what runs on which card, with how much to spare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from markupsafe import Markup

from harness import cards
from harness.chart import OTHER
from scripts.site import fits_history
from scripts.site.charts import Chart
from scripts.site.fits_cache import predicted
from scripts.site.fits_record import Card, Case, Cell, Fits, page_of
from scripts.site.page import Page, Site

EIGHT_GB = 8.0


@dataclass(frozen=True, slots=True)
class Row:
    """A card in the table of answers. `cells`: by its own settings, by model and whether with its LM."""

    card: Card
    page: str
    cells: Mapping[tuple[str, bool], Cell]
    longest: str
    batch: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One prediction on a card's page, and the `names` of all cells that it stands for."""

    cell: Cell
    names: list[str]
    case: Case | None
    chart: Chart | None

    @property
    def title(self) -> str:
        return "; ".join(self.names)


def pages(site: Site) -> Iterator[Page]:
    """The page, and one for each size of card."""
    predictions = predicted(site)
    fits = predictions.fits
    known = fits_history.known(site)
    history = {"known": known, "of_size": cards.of_size, "note": predictions.note, "fits": fits}
    if fits is None:
        yield site.page("fits.html", "fits.html", "Fits", answer=known.answer(EIGHT_GB), **history)
        return
    first, *others = fits.models
    yield site.page(
        "fits.html", "fits.html", "Fits", **history, first=first, others=others, basis=_basis(fits),
        answer=answer(fits, EIGHT_GB), rows=[row(fits, card) for card in fits.cards],
        picture=Markup(fits.svg),
    )  # fmt: skip
    for card in fits.cards:
        yield site.page(
            "fits_card.html", page_of(card.size_gb), cards.of_size(card.size_gb), fits=fits,
            note=predictions.note, basis=_basis(fits), row=row(fits, card), answer=answer(fits, card.size_gb),
            groups=list(_groups(fits, card)),
        )  # fmt: skip


def _basis(fits: Fits) -> str:
    """What the predictions rest on, and whose code they are of."""
    changes = " and changes" if fits.dirty else ""
    code = f"commit {fits.commit[:12]}{changes}" if fits.commit else "no commit"
    return f"{'; '.join(fits.rests_on)}; {code}, {fits.date}"


def answer(fits: Fits, size_gb: float) -> str:
    """Whether a card of this size holds the first model by its own settings, in a sentence."""
    card = next((card for card in fits.cards if card.size_gb == size_gb), None)
    if card is None:
        return ""
    lm = bool(card.lm)
    cell = fits.cell(size_gb, fits.models[0], lm)
    if cell is None:
        return ""
    model = f"{fits.models[0]} {f'with LM {card.lm}' if lm else 'without LM'}"
    return f"{cards.of_size(size_gb)}: {cell.words} ({model}, {fits.request}, predicted)."


def row(fits: Fits, card: Card) -> Row:
    """What the table of answers says of a card."""
    of_models = [
        (model, lm, fits.cell(card.size_gb, model, lm)) for model in fits.models for lm in (True, False)
    ]
    most = next((one for one in fits.most if one.size_gb == card.size_gb), None)
    return Row(
        card,
        page_of(card.size_gb),
        {(model, lm): cell for model, lm, cell in of_models if cell},
        _limit(most.longest_s, " s", most.longest_of_request) if most else "n/a",
        _limit(most.largest, "", most.largest_of_request) if most else "n/a",
    )


def _limit(most: float | None, unit: str, of_request: bool) -> str:
    """The most that fits, and whose limit it is where that is not the card's."""
    return "none" if most is None else f"{most:g}{unit}{', a limit of requests' if of_request else ''}"


def _groups(fits: Fits, card: Card) -> Iterator[tuple[str, list[Entry]]]:
    """By model what is predicted of a card, each prediction once; what has none by its words."""
    cases = {case.key: case for case in fits.cases}
    for model in fits.models:
        cells = [cell for cell in fits.cells if (cell.size_gb, cell.model) == (card.size_gb, model)]
        entries: dict[str, Entry] = {}
        for cell in cells:
            name = f"{'with LM' if cell.lm else 'without LM'}, {cell.variant}"
            key = cell.case or cell.words
            if key in entries:
                entries[key].names.append(name)
            else:
                case = cases.get(cell.case)
                chart = _chart(fits, case, card) if case and case.memory else None
                entries[key] = Entry(cell, [name], case, chart)
        yield model, list(entries.values())


def _chart(fits: Fits, case: Case, card: Card) -> Chart:
    """Memory over time, with the card as a line."""
    return Chart(
        name=f"memory-{case.key}",
        title=f"Memory over time: {case.title}",
        story=case.story,
        columns={"from_s": "from, s", "to_s": "to, s", "stage": "stage", "used_gb": "in use, GB"},
        rows=[msgspec.to_builtins(stretch) for stretch in case.memory],
        spec=_spec(fits, case, card),
    )


def _spec(fits: Fits, case: Case, card: Card) -> dict[str, Any]:
    stages = list(dict.fromkeys(stretch.stage for stretch in case.memory))
    colours = [fits.stages.get(stage, OTHER) for stage in stages]
    line = {"data": {"values": [{"gb": card.size_gb, "text": f"the card, {card.size_gb:g} GB"}]}}
    gb = {"field": "gb", "type": "quantitative"}
    return {
        "height": 190,
        "layer": [
            {
                "mark": {"type": "rect", "tooltip": True},
                "encoding": {
                    "x": {"field": "from_s", "type": "quantitative", "title": "seconds, at the roofline"},
                    "x2": {"field": "to_s"},
                    "y": {"field": "used_gb", "type": "quantitative", "title": "GB in use"},
                    "y2": {"datum": 0},
                    "color": {
                        "field": "stage", "type": "nominal", "title": None,
                        "scale": {"domain": stages, "range": colours},
                    },
                },
            },
            {**line, "mark": {"type": "rule", "strokeDash": [6, 4]}, "encoding": {"y": gb}},
            {
                **line,
                "mark": {"type": "text", "align": "right", "baseline": "bottom", "dy": -3, "x": "width"},
                "encoding": {"y": gb, "text": {"field": "text"}},
            },
        ],
    }  # fmt: skip
