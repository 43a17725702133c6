"""Where weights come from, decided in one place: argument, then ACESTEP_SOURCE, then what is there.

    synthetic-tiny, synthetic-full     made-up weights (acestep/weights/synthetic.py)
    a path                             a checkpoint root in the published layout

With nothing asked for: `./checkpoints` when it holds a DiT, else synthetic weights, full ones where
an accelerator makes their cost bearable and tiny ones on a CPU.

A source holds the DiT in several variants, each a folder of its own. A folder's name only finds it; what
the variant can do is read from its configuration.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from acestep.weights.layout import (
    DEFAULT_DIT,
    DEFAULT_ROOT,
    DIT_PREFIX,
    DITS,
    ENVIRONMENT,
    LMS,
    SYNTHETIC,
    TEXT_ENCODER,
    XL_INFIX,
    folders,
)
from harness import sources
from harness.checks import listed
from harness.errors import MissingPrerequisite, UsageError

if TYPE_CHECKING:
    from acestep.models.configs import DiTConfig
    from acestep.text.tokenizer import Tokenizer
    from acestep.weights.checkpoint import Source
    from harness.nn.config import Config


def choose_source(choice: str | Path | None, accelerator: bool) -> tuple[str, str]:
    """The source's name or path, and who chose it: `argument`, `environment` or `default`.

    Raises MissingPrerequisite when a path does not exist. Imports no torch.
    """
    published = any(DEFAULT_ROOT.glob(f"{DIT_PREFIX}*/"))
    default = str(DEFAULT_ROOT) if published else SYNTHETIC[accelerator]
    return sources.choose(choice, ENVIRONMENT, SYNTHETIC, default, "a checkpoint folder")


def choose_dit(source: str, choice: str | None) -> str:
    """The folder of `source` that holds the DiT: `choice`, else the default, else the only one published.

    Raises UsageError (synthetic weights) or MissingPrerequisite (a checkpoint root), naming what is there.
    Imports no torch.
    """
    if source in SYNTHETIC:
        there, error = list(DITS), UsageError
    else:
        there, error = folders(Path(source)), MissingPrerequisite
    if choice:
        if choice in there:
            return choice
        raise error(f"dit: {source} has no folder {choice!r}; it has {listed(there) or 'none'}")
    if DEFAULT_DIT in there:
        return DEFAULT_DIT
    dits = [folder for folder in there if folder.startswith(DIT_PREFIX)]
    if len(dits) != 1:
        contents = f"{len(dits)} DiT folders ({listed(dits)})" if dits else f"no folder {DIT_PREFIX}*"
        raise error(f"dit: {source} has {contents}; name the one to use")
    return dits[0]


def smaller_dit(source: str, dit: str) -> str | None:
    """The folder of `source` that holds what the XL DiT `dit` is among the 2B, or None."""
    folder = dit.replace(XL_INFIX, "", 1)
    there = DITS if source in SYNTHETIC else folders(Path(source))
    return folder if folder in there and not dit_config(source, folder).is_xl else None


def dit_config(source: str, dit: str) -> DiTConfig:
    """What variant the folder `dit` of `source` is, by its config.json. Imports no torch.

    Raises CheckpointError when the file is missing or is not a DiT's.
    """
    from acestep.models.configs import DiTConfig

    return component_config(source, dit, DiTConfig)


def component_config(source: str, folder: str, kind: type[Config]) -> Config:
    """The configuration of a component, by the config.json of its folder. Imports no torch.

    Raises CheckpointError when the file is missing, or is not one of this kind.
    """
    from acestep.weights.synthetic_configs import CONFIGS
    from harness.checkpoint_files import read_json
    from harness.nn.config import parse_config

    path = Path(source) / folder / "config.json"
    data = CONFIGS[source][folder] if source in SYNTHETIC else read_json(path)
    return parse_config(data, kind, str(path))


def check_source(source: str, dit: str, lm: str | None) -> None:
    """Hold the components of a generation against themselves and one another. Imports no torch.

    `dit`, `lm`: folders. Raises CheckpointError for one that is missing, cut short or cannot be right.
    """
    from acestep.weights.contents import check_root

    if source not in SYNTHETIC:
        check_root(Path(source), dit, lm)


def language_models(source: str) -> tuple[str, ...]:
    """Names of the language models of `source`, whole or not, smallest first. Imports no torch."""
    return LMS if source in SYNTHETIC else tuple(name for name in LMS if (Path(source) / name).is_dir())


def lacks(source: str, lm: str) -> str | None:
    """What the language model `lm` of `source` lacks, or None for one that is whole. Imports no torch."""
    from acestep.weights import contents

    return None if source in SYNTHETIC else contents.lacks(Path(source), lm)


@lru_cache(maxsize=2)
def text_tokenizer(source: str) -> Tokenizer:
    """The text encoder's tokenizer, read once. Imports no torch.

    Raises CheckpointError when the source has none.
    """
    if source in SYNTHETIC:
        from acestep.weights.synthetic_tokenizer import synthetic_tokenizer

        return synthetic_tokenizer("text")
    from acestep.text.tokenizer import Tokenizer

    return Tokenizer.from_folder(Path(source) / TEXT_ENCODER)


def open_source(value: str) -> Source:
    """The source `choose_source` named."""
    if value in SYNTHETIC:
        from acestep.weights.synthetic import Synthetic

        return Synthetic(value)
    from acestep.weights.checkpoint import Folder

    return Folder(Path(value))
