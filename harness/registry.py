"""The registry of subjects: the one place that names them.

A subject is a folder that offers an object of the protocol of `harness.subject`, and a row here. A name
that is no row is the module of a subject of one's own, which offers it as `SUBJECT`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.subject import Subject

SUBJECTS = {  # the module that has it as SUBJECT; the first is the default
    "acestep": "acestep.subject",
    "qwen3_tts": "subjects.qwen3_tts.subject",
    "rvc": "subjects.rvc.subject",
}
DEFAULT = next(iter(SUBJECTS))

PACKAGE = "acestep-bench"  # as installed
FORMAT = "acestep-profile/"  # of records, with a version behind it
PACKAGES = ("harness", "acestep", "subjects", "tiersim")  # whose code a result rests on


@cache
def subject(name: str = DEFAULT) -> Subject:
    """The subject `name`. Imports no torch. Raises UsageError where there is none."""
    module = SUBJECTS.get(name, name)
    try:
        return import_module(module).SUBJECT
    except (ModuleNotFoundError, AttributeError, ValueError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name not in (module, module.partition(".")[0]):
            raise
        raise UsageError(
            f"subject: {name!r} is not known; use one of {', '.join(SUBJECTS)}, or a module with a SUBJECT"
        ) from None
