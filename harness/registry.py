"""The one place that names what is measured. Everything else takes it from here.

A subject is a module that offers what `harness.subject` asks for. Adding one is a folder and a row.
"""

from __future__ import annotations

PACKAGE = "acestep-bench"  # as installed
FORMAT = "acestep-profile/"  # of records, with a version behind it
PACKAGES = ("harness", "acestep", "subjects", "tiersim")  # whose code a result rests on
