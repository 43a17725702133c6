"""Speed: where the time goes, on which machine, and what bounds it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.trace.calibration import FOLDER
from scripts.gate.causes import shown
from scripts.site import speed_predicted
from scripts.site.page import Page, Site
from scripts.site.speed_measured import songs, stages, typical
from scripts.site.speed_numbers import TINY, Times, confronted, measured, predicted
from scripts.site.speed_predicted import OnCards, brief, least_s


def pages(site: Site) -> Iterator[Page]:
    """The page."""
    times = measured(site.history, site.machines)
    work = predicted(site.history)
    predictions = speed_predicted.on_cards(work)
    runs = list(confronted(times, work))
    charts = [stages(times)]
    if work:
        charts.append(speed_predicted.against_each_other(work, predictions))
    charts.append(songs(times))
    if work:
        charts.append(speed_predicted.roofline(work, predictions, runs))
    charts.append(speed_predicted.against_measured(runs))
    yield site.page(
        "speed.html", "speed.html", "Speed", charts=list(filter(None, charts)),
        answers=[*_measured(times), *_predicted(predictions)],
        tiny=", ".join(one.machine for one in times if one.weights == TINY),
        calibrated=", ".join(path.stem for path in sorted(FOLDER.glob("*.json"))),
    )  # fmt: skip


def _measured(times: Sequence[Times]) -> Iterator[str]:
    """What a song took on the machine that was measured last."""
    if not times:
        yield "No generation was timed yet: make bench does."
    for one in times[:1]:
        if request := typical(one.stages):
            ran = one.stages[request]
            longest, wall_s = max(ran, key=ran.__getitem__), sum(ran.values())
            doubt = f" Doubtful: {one.doubts[request]}." if request in one.doubts else ""
            planned = ", planned," if request.planned else ""
            yield (
                f"Measured: {request.music_s} s of music{planned} in {shown(wall_s, 'seconds')}"
                f" on {one.machine}; {ran[longest] / wall_s:.0%} is {longest}.{doubt}"
            )


def _predicted(predictions: OnCards) -> Iterator[str]:
    """What a long song takes at least on the first of the cards, the fastest and the slowest."""
    longest = max((music_s for _, music_s in predictions), default=0)
    totals = {brief(card): least_s(ran) for (card, music_s), ran in predictions.items() if music_s == longest}
    if totals:
        ranked = sorted(totals, key=totals.__getitem__)
        names = dict.fromkeys((ranked[0], next(iter(totals)), ranked[-1]))
        least = ", ".join(f"{shown(totals[name], 'seconds')} on {name}" for name in names)
        yield f"Predicted: {longest} s of music, planned, takes at least {least}."
