"""What an audit tells: totals by kind, a few examples of each, and whether all is well."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from workers.housekeeping.findings import REMEDIES, Finding, Kind

EXAMPLES = 10


@dataclass(slots=True)
class Report:
    """Grows while an audit runs.  Memory: a few examples of each kind."""

    documents: int = 0
    points: int = 0
    files: int = 0
    busy: int = 0
    unchecked: dict[str, str] = field(default_factory=dict)  # source -> why its files were not compared
    found: Counter[Kind] = field(default_factory=Counter)  # documents (or lone points) by kind
    found_points: Counter[Kind] = field(default_factory=Counter)
    examples: dict[Kind, list[Finding]] = field(default_factory=dict)

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it if it is one of the first of its kind."""
        self.found[finding.kind] += 1
        self.found_points[finding.kind] += finding.points
        kept = self.examples.setdefault(finding.kind, [])
        if len(kept) < EXAMPLES:
            kept.append(finding)

    @property
    def clean(self) -> bool:
        """Nothing is wrong, and everything was looked at."""
        return not self.found and not self.unchecked

    def as_json(self) -> dict[str, Any]:
        """Return the report as the ledger keeps it and the api tells it."""
        return {
            "documents": self.documents,
            "points": self.points,
            "files": self.files,
            "busy": self.busy,
            "unchecked": [{"source": source, "why": why} for source, why in sorted(self.unchecked.items())],
            "findings": {
                kind.value: {
                    "documents": self.found[kind],
                    "points": self.found_points[kind],
                    "remedy": REMEDIES[kind],
                    "examples": [
                        {
                            "id": f.document_id or None,
                            "source": f.source,
                            "path": f.path,
                            "points": f.points,
                            "why": f.why,
                        }
                        for f in self.examples.get(kind, [])
                    ],
                }
                for kind in Kind
                if self.found[kind]
            },
        }
