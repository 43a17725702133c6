"""What is predicted of the cards at one state of the code: the file that the page of fits is made from."""

from __future__ import annotations

import msgspec

FORMAT = "acestep-fits/1"


class Stretch(msgspec.Struct, frozen=True):
    """Memory in use from a moment to the next, in seconds and GB, context included, and the stage then."""

    from_s: float
    to_s: float
    stage: str
    used_gb: float


class Case(msgspec.Struct, frozen=True):
    """One prediction: what it is of, how it ended, and its memory over time."""

    key: str
    title: str
    story: str
    memory: tuple[Stretch, ...] = ()


class Cell(msgspec.Struct, frozen=True):
    """A card under a model and a variant of its settings; `case` is the key of its prediction, if it has one.

    `level`: by what is left of the card, as in the picture; `words` say the same.
    """

    size_gb: float
    model: str
    lm: bool
    variant: str
    level: str
    words: str
    case: str = ""


class Limits(msgspec.Struct, frozen=True):
    """The longest song and the largest batch of a card by its own settings, with its language model if it has
    one; None where nothing fits.

    `longest_of_request`, `largest_of_request`: it is the most that a request may ask for.
    """

    size_gb: float
    longest_s: float | None
    longest_of_request: bool
    largest: int | None
    largest_of_request: bool


class Card(msgspec.Struct, frozen=True):
    """Cards of a size, and the size of their language model, if they have one."""

    size_gb: float
    lm: str


class Fits(msgspec.Struct, frozen=True, tag_field="format", tag=FORMAT):
    """All of it. `commit`: whose code it is of, `dirty` with changes that are not committed. `request`: the
    song. `colours`: of a cell by its level, light and dark; `stages`: of stages. `svg`: the matrix as a
    picture, whose cells link to the cards' pages."""

    commit: str
    dirty: bool
    date: str
    request: str
    rests_on: tuple[str, ...]
    cards: tuple[Card, ...]
    cells: tuple[Cell, ...]
    cases: tuple[Case, ...]
    most: tuple[Limits, ...]
    colours: dict[str, tuple[str, str]]
    stages: dict[str, str]
    svg: str

    def cell(self, size_gb: float, model: str, lm: bool, variant: str = "default") -> Cell | None:
        """The cell of a card under a model and a variant."""
        wanted = size_gb, model, lm, variant
        cells = (one for one in self.cells if (one.size_gb, one.model, one.lm, one.variant) == wanted)
        return next(cells, None)

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(cell.model for cell in self.cells))


def page_of(size_gb: float) -> str:
    """The name of the page of cards of a size."""
    return f"fits-{size_gb:g}gb.html"
