"""How a measurement ended. Imports nothing, as whoever supervises one needs little else of a record."""

from typing import Literal

Status = Literal["ok", "oom", "host-oom", "timeout", "crash", "error", "invalid", "refused", "skip"]
