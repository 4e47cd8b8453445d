"""What a check found, as `upwell doctor` and `upwell contract check` tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ops.cli.output import clean


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.  ``fail``: it does not work; ``warn``: it does, but not quite as asked."""

    name: str
    verdict: Literal["ok", "warn", "fail"]
    found: str
    remedy: str | None = None

    def show(self) -> None:
        """Print it, and below it what to do."""
        print(f"{self.verdict:<4}  {self.name}: {clean(self.found)}", flush=True)
        if self.remedy:
            print(f"      {clean(self.remedy)}", flush=True)
