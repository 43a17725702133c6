"""The mode `scaling`: seconds of each component at several lengths, how they grow, and what is predicted.

Measured are the calls of `acestep.scaling`, the shortest first, each an item of the record as soon as it is
done. The prediction beside it is of a card: the one of --card, the one that is here, or the default of costs.
All that is shown is computed from the items.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace as changed

from acestep.profiler import prepare
from acestep.profiler.flags import SCALING
from acestep.profiler.growth import growth_lines, page, row, row_head
from acestep.profiler.options import Options
from acestep.profiler.recording import Recording
from acestep.setup import NONE, Setup
from acestep.subject import SUBJECT
from harness import cards
from harness.accelerators import Accelerator
from harness.cards import Card
from harness.errors import BenchError, MissingPrerequisite
from harness.files import rewrite, writable
from harness.oom import classify
from harness.page import is_page
from harness.progress import Progress
from harness.records import making
from harness.records.schema import Cold, Item, Sample, key_of
from harness.text import harmless

if TYPE_CHECKING:
    from acestep.engine import Engine

COMPONENTS = ("lm_decode", "dit_step", "vae_encode", "vae_decode", "resample", "text_encode")
OF_TOKENS, ON_HOST = ("text_encode",), ("resample",)
LENGTHS_S, QUICK_S, CARD_S = (5, 30, 60, 180, 300), (5, 15, 30), (600,)
LENGTHS_TOKENS, QUICK_TOKENS = (16, 32, 64, 128, 256), (16, 64, 256)
PAGE = Path("outputs", "scaling.html")


@dataclass(frozen=True, slots=True)
class Point:
    """A component at a length, with what else of the request its time depends on."""

    component: str
    length: int
    seed: int
    engine: tuple[tuple[str, Any], ...] = ()  # what flags ask of it

    @property
    def unit(self) -> str:
        return "tokens" if self.component in OF_TOKENS else "s"

    @property
    def requested(self) -> dict[str, Any]:
        """Plain values, for a record."""
        case = {"component": self.component, "length": self.length, "unit": self.unit, "seed": self.seed}
        return case | dict(self.engine)

    @property
    def key(self) -> str:
        """Name in a record."""
        return key_of(SCALING, self.requested)


def run(options: Options, setup: Setup) -> int:
    """Measure and show; returns the exit code: 0 done, 1 something failed. Raises BenchError."""
    card = _card(options, setup)
    todo = points(options, setup)
    if options.dry_run:
        _list(todo, card)
        return 0
    page_file = _page_file(options)
    with Recording(options, setup, resume=options.resume) as recording:
        print(f"predicted for {harmless(card.name)}\n\n{row_head()}", flush=True)
        items = _items(options, setup, card, todo, recording)
        print("\n" + "\n".join(growth_lines(items, options.seed)) + "\n")
    rewrite(page_file, page(items, card, setup, options.seed).encode())
    print(f"plot     {harmless(str(page_file))}")
    return 0 if all(item.status in ("ok", "skip") for item in items) else 1


def _items(
    options: Options, setup: Setup, card: Card, todo: Sequence[Point], recording: Recording
) -> list[Item]:
    """An item of each point, written and printed as it is there."""
    engine, items = None, []
    with Progress(sum(point.length for point in todo), len(todo)) as progress:
        progress.say("predicting")
        predicted = _predicted(todo, setup, card, options)
        for point in todo:
            item = recording.kept.get(point.key)
            if item is not None:
                progress.left_out(point.length)
            else:
                progress.begin(f"{point.component}, {point.length} {point.unit}")
                engine = engine or _load(setup)
                item = _measured(engine, point, options)
                progress.end(point.length)
            item = changed(item, effective={**item.effective, "predicted": predicted.get(point)})
            recording.add(item)
            items.append(item)
            print(row(item), flush=True)
    return items


def points(options: Options, setup: Setup) -> list[Point]:
    """What is measured, the shortest of each component first and one component after another."""
    on_card = setup.accelerator.device.partition(":")[0] != "cpu"
    of_audio = QUICK_S if options.quick else (*LENGTHS_S, *(CARD_S if on_card else ()))
    of_tokens = QUICK_TOKENS if options.quick else LENGTHS_TOKENS
    engine = tuple(sorted(options.engine.items()))
    return [
        Point(component, length, options.seed, engine)
        for component in COMPONENTS
        for length in (of_tokens if component in OF_TOKENS else of_audio)
    ]


def _list(todo: Sequence[Point], card: Card) -> None:
    """What would run."""
    for component, own in groupby(todo, key=lambda point: point.component):
        unit = "tokens" if component in OF_TOKENS else "s"
        print(f"{component:<13}{', '.join(str(point.length) for point in own)} {unit}")
    print(f"predicted for {harmless(card.name)}")


def _page_file(options: Options) -> Path:
    path = options.html or PAGE
    if path == PAGE:
        with suppress(OSError):  # told by `writable`
            path.parent.mkdir(exist_ok=True)
    return writable("html", path, is_page)


def _load(setup: Setup) -> Engine:
    """The engine; its models follow as they are called."""
    from acestep.engine import Engine

    return Engine.from_setup(setup, preload=())


def _measured(engine: Engine, point: Point, options: Options) -> Item:
    """A failure is an item, too; what it held is let go before the next."""
    facts: dict[str, Any] = {"key": point.key, "mode": SCALING, "requested": point.requested}
    facts["effective"] = dict(engine.environment)
    try:
        return _timed(engine, point, options, facts)
    except MissingPrerequisite as error:
        return Item(**facts, status="skip", error=str(error))
    except BenchError as error:
        return Item(**facts, status="error", error=str(error))
    except Exception as error:
        failure = classify(error)
    gc.collect()  # after the `except` block, whose traceback holds what the next one needs
    return Item(**facts, **making.failed(failure))


def _timed(engine: Engine, point: Point, options: Options, facts: Mapping[str, Any]) -> Item:
    from acestep.scaling import call

    with call(engine, point.component, point.length, seed=point.seed) as one:
        first = one.timed()[0] if options.warmup else None
        times = [one.timed() for _ in range(options.repeats)]
    return Item(
        **facts,
        status="ok",
        samples=tuple(Sample(wall_s=seconds, stages_s={one.stage: seconds}) for seconds, _ in times),
        cold=Cold(load_s=engine.load_s, first_call_s=first),
        counts=dict(times[-1][1]),
    )


def _card(options: Options, setup: Setup) -> Card:
    """The card to predict for."""
    here = setup.accelerator
    known = cards.known(here.name, here.memory_gib) if here.device.startswith("cuda") else None
    return prepare.card(options) or known or cards.find(cards.DEFAULT)


def _predicted(
    todo: Sequence[Point], setup: Setup, card: Card, options: Options
) -> dict[Point, dict[str, Any]]:
    """Seconds at the roofline and FLOP by kind of each point on the card, as plain values; none of what runs
    on the host, what the setup has not, and what does not fit."""
    from acestep.scaling import call
    from harness.trace.calls import predict_calls

    traced = [
        point
        for point in todo
        if point.component not in ON_HOST and (setup.lm or point.component != "lm_decode")
    ]
    calls = [partial(call, component=point.component, length=point.length) for point in traced]
    costs = predict_calls(SUBJECT, _on_card(setup, card, options), card, calls)
    return {
        point: {"card": card.name, "seconds": cost.seconds, "flop": dict(cost.flop)}
        for point, cost in zip(traced, costs, strict=True)
        if cost
    }


def _on_card(setup: Setup, card: Card, options: Options) -> Setup:
    """The same models on a card, none of them offloaded, whether or not this machine could compile for it."""
    there = Setup.choose(
        setup.source,
        accelerator=Accelerator("cuda", card.name, card.memory_gib, capability=card.capability),
        dit=setup.dit,
        lm=setup.lm,
        lm_backend="pt",
        quantization=setup.quantization or NONE,
        lm_quantization=setup.lm_quantization or NONE,
        compile=False,
        graphs=options.graphs,
        offload_to_cpu=False,
        offload_dit_to_cpu=False,
        no_limits=True,
    )
    return replace(there, compile=setup.compile)
