"""Whether a song fits a card, with how much to spare; what is the most that fits; what makes room.

    predictor = Predictor()
    predictor.fit(Question(8.0, find("rtx4060"))).to_spare_bytes

All of it is predicted, of the request of a tier test (`acestep.tier_options`), so that `tiersim --predict`
says the same. What the card's tier allows is left aside: whether it could be more is what is asked.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from acestep.effective_plan import EffectivePlan
from acestep.gpu_config import INT8
from acestep.request import LONGEST_S, MAX_BATCH
from acestep.setup import NONE
from acestep.subject import SUBJECT
from acestep.tier_options import LM, LM_QUANTIZATION, QUANTIZATION
from acestep.weights.layout import LMS
from harness.accelerators import Accelerator
from harness.cards import MIB, Card
from harness.memory import GIB, context_within
from harness.quantization import unavailable
from harness.subject import DEFAULT_DURATION_S, DEFAULT_PRESET, DEFAULT_SEED
from harness.tiers import BATCHES, LENGTHS_S, STEPS, Target, Tier, Value

OF_LM = (LM, LM_QUANTIZATION)  # choices that are for a language model
SEARCH = 2  # predictions that a search mostly takes: the last of its sizes, and the one to expect


@dataclass(frozen=True, slots=True)
class Question:
    """A song on a card of `tier_gb`, as `card` runs it: a `harness.tiers.Case`.

    `lm`: planned by a language model. `choices`: by the names of the subject's options. The switches of
    offloading are the tier's where they are None.
    """

    tier_gb: float
    card: Card
    lm: bool = True
    duration_s: float = DEFAULT_DURATION_S
    batch_size: int = 1
    choices: tuple[tuple[str, Value], ...] = ()
    source: str | None = None
    offload_to_cpu: bool | None = None
    offload_dit_to_cpu: bool | None = None
    steps: int = STEPS
    seed: int = DEFAULT_SEED
    lm_backend: str = "auto"
    variant: str = "default"
    preset: str = DEFAULT_PRESET
    skip_compile: bool = False
    no_limits: bool = True

    @property
    def tier(self) -> Tier:
        return SUBJECT.tier(self)

    def plan(self) -> EffectivePlan:
        """What runs. Raises UsageError or MissingPrerequisite where nothing can; no torch."""
        simulated = Accelerator(
            "cuda", self.card.name, self.tier_gb, simulated=True, capability=self.card.capability
        )
        plan = SUBJECT.case_plan(self, Target(simulated, "cuda", stand_in="predicted"))
        switches = {
            name: value
            for name in ("offload_to_cpu", "offload_dit_to_cpu")
            if (value := getattr(self, name)) is not None
        }
        return replace(plan, setup=replace(plan.setup, **switches))


Change = Callable[[Question], Question]


@dataclass(frozen=True, slots=True)
class Fit:
    """What a song comes to on a card of `size_bytes`.

    `peak_bytes`: the most of the card that is in use, the driver's context included, in stage `at`; of one
    that does not fit, before it ended there for want of `wanted_bytes` more. `fallbacks`: what was done
    another way for want of memory.
    """

    duration_s: float
    batch_size: int
    size_bytes: int
    peak_bytes: int
    at: str
    wanted_bytes: int = 0
    fallbacks: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        return not self.wanted_bytes

    @property
    def holds(self) -> bool:
        """Whether it fits as it was to be done."""
        return self.fits and not self.fallbacks

    @property
    def to_spare_bytes(self) -> int:
        return self.size_bytes - self.peak_bytes


@dataclass(frozen=True, slots=True)
class Most:
    """The largest of some lengths, or of some batches, that fits as it was to be done; None where none does.

    `of_request`: it is the most that a request may ask for, so the card may hold more.
    """

    fit: Fit | None
    of_request: bool


@dataclass(frozen=True, slots=True)
class Saving:
    """A change that makes room: the flags that ask for it, and what the song comes to with them."""

    flags: str
    fit: Fit


@dataclass(frozen=True, slots=True)
class Answer:
    """All that is found of a question. `rests_on`: torch and the calibration."""

    question: Question
    plan: EffectivePlan
    fit: Fit
    longest: Most
    largest: Most
    savings: tuple[Saving, ...]
    rests_on: tuple[str, ...]


class Predictor:
    """Predicts each question once. `begin` is called with one before that is done, and `left_out` with how
    many fewer there will be than was expected.

    `rests_on`: torch and the calibration, once something is predicted.
    """

    def __init__(
        self,
        begin: Callable[[Question], object] = lambda question: None,
        left_out: Callable[[int], object] = lambda number: None,
    ):
        self._begin = begin
        self.left_out = left_out
        self._fits: dict[Question, Fit] = {}
        self.rests_on: tuple[str, ...] = ()

    def fit(self, question: Question) -> Fit:
        """What is predicted of `question`; imports torch."""
        if question not in self._fits:
            self._begin(question)
            self._fits[question] = self._predicted(question)
        return self._fits[question]

    def _predicted(self, question: Question) -> Fit:
        plan = question.plan()
        from harness.trace.predict import predict
        from harness.trace.report import highest

        size_bytes = int(question.tier_gb * GIB)
        outside_bytes = context_within(question.tier_gb, question.card.context_bytes)
        card = replace(question.card, memory_gib=question.tier_gb, context_mib=outside_bytes / MIB)
        cost = predict(SUBJECT, plan, card, size_bytes - outside_bytes)
        self.rests_on = (f"torch {cost.environment['torch']}", cost.environment["calibration"])
        return Fit(
            question.duration_s,
            question.batch_size,
            size_bytes,
            cost.peak_bytes,
            cost.ended.stage if cost.ended else highest(cost).stage,
            cost.ended.wanted_bytes if cost.ended else 0,
            tuple(map(str, cost.fallbacks)),
        )


def answer(question: Question, predictor: Predictor) -> Answer:
    """Predict `question`, how far it goes, and, where the card is the limit, what makes room.

    Raises as `Question.plan` does, before torch is imported.
    """
    plan = question.plan()
    fit = predictor.fit(question)
    longest, largest = limits(question, predictor)
    enough = fit.holds and longest.of_request and largest.of_request
    if enough:
        predictor.left_out(len([*_savings(question, plan)]))
    room = () if enough else tuple(_room(question, plan, predictor))
    return Answer(question, plan, fit, longest, largest, room, predictor.rests_on)


def expected_predictions(question: Question) -> int:
    """How many predictions `answer` is going to make."""
    return 1 + 2 * SEARCH + len([*_savings(question, question.plan())])


def limits(question: Question, predictor: Predictor) -> tuple[Most, Most]:
    """The longest song at the batch of `question`, and the largest batch at its length."""
    longest = _most(question, "duration_s", LENGTHS_S, predictor)
    largest = _most(question, "batch_size", BATCHES, predictor)
    return (
        Most(longest, longest is not None and longest.duration_s >= LONGEST_S),
        Most(largest, largest is not None and largest.batch_size >= MAX_BATCH),
    )


def _most(question: Question, name: str, sizes: Sequence[float], predictor: Predictor) -> Fit | None:
    """The largest of ascending `sizes` that holds, where all below it do: the last is tried first, as mostly
    all do; then the one to expect by a straight line; then it is bisection."""
    best: Fit | None = predictor.fit(question)
    asked = getattr(question, name)
    if best.holds:
        left = [size for size in sizes if size > asked]
    else:
        best, left = None, [size for size in sizes if size < asked]
    guess, first, expected = len(left) - 1, True, SEARCH
    while left:
        fit = predictor.fit(replace(question, **{name: left[guess]}))
        if fit.holds:
            best, left = fit, left[guess + 1 :]
        else:
            left = left[:guess]
        guess = _expected(left, name, best, fit) if first and best and not fit.fits else len(left) // 2
        first = False
        rest = min(len(left), SEARCH)
        predictor.left_out(expected - 1 - rest)
        expected = rest
    predictor.left_out(expected)
    return best


def _expected(sizes: Sequence[float], name: str, held: Fit, too_much: Fit) -> int:
    """The place of the largest of `sizes` that fits if memory grows evenly from what held to what did not."""
    low, high = getattr(held, name), getattr(too_much, name)
    rise = too_much.peak_bytes + too_much.wanted_bytes - held.peak_bytes
    return max(bisect_right(sizes, low + (high - low) * held.to_spare_bytes / rise) - 1, 0)


def _room(question: Question, plan: EffectivePlan, predictor: Predictor) -> Iterator[Saving]:
    """Each saving by itself, and where none is enough, all of them."""
    savings = [Saving(flags, predictor.fit(change(question))) for flags, change in _savings(question, plan)]
    yield from savings
    if len(savings) > 1 and not any(saving.fit.fits for saving in savings):
        together = question
        for _, change in _savings(question, plan):
            together = change(together)
        yield Saving("all of these", predictor.fit(together))


def _savings(question: Question, plan: EffectivePlan) -> Iterator[tuple[str, Change]]:
    """What of the setup could be saved on, and is not; the largest saving of one kind comes last."""
    setup = plan.setup
    if setup.quantization is None and not unavailable(INT8, "cuda", question.card.capability):
        yield f"--quantization {INT8}", lambda of: _choosing(of, QUANTIZATION, INT8)
    if not (setup.offload_to_cpu and setup.offload_dit_to_cpu):
        yield "--offload --offload-dit", lambda of: replace(of, offload_to_cpu=True, offload_dit_to_cpu=True)
    if setup.lm and setup.lm != LMS[0]:
        yield f"--lm {LMS[0]}", lambda of: _choosing(of, LM, LMS[0])
    if setup.lm:
        yield f"--lm {NONE}", without_lm


def _choosing(question: Question, name: str, value: Value) -> Question:
    return replace(question, choices=tuple({**dict(question.choices), name: value}.items()))


def without_lm(question: Question) -> Question:
    """The same song, not planned."""
    choices = tuple(choice for choice in question.choices if choice[0] not in OF_LM)
    return replace(question, lm=False, choices=choices)
