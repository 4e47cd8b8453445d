"""Which files are not documents, and which rule says so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

IGNORE_FILE = ".upwellignore"

# fmt: off
DEFAULT_RULES = [
    ".*", "!.upwellignore", "*~", "~$*", "#*#", "*.swp", "*.swo", "*.tmp", "*.temp", "*.part", "*.partial",
    "*.crdownload", "*.download", "4913", "Thumbs.db", "desktop.ini", "__pycache__/", "node_modules/",
    "*.pyc", "*.egg-info/", "lost+found/", "id_rsa*", "id_ed25519*", "*.pem", "*.key", "*.p12", "*.pfx",
    "*.kdbx",
]
# fmt: on


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a path is ignored, by which rule, and where that rule stands."""

    ignored: bool
    rule: str | None = None
    where: str | None = None

    @property
    def by_default(self) -> bool:
        """True when it is one of our own rules (temporary files and the like), not the user's."""
        return self.where == "default rules"

    def __str__(self) -> str:
        if not self.ignored:
            return "not ignored"
        return f"ignored by the rule {self.rule!r} ({self.where})"


class IgnoreRules:
    """The rules of one root: ours, then every .upwellignore from the root down, the last match deciding, as in git."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._defaults = GitIgnoreSpec.from_lines(DEFAULT_RULES)
        self._files: dict[str, tuple[GitIgnoreSpec | None, list[tuple[int, str]]]] = {}

    def explain(self, relative: str, *, is_dir: bool = False) -> Verdict:
        """Return the verdict for ``relative`` (forward slashes) and the directories it is in."""
        parts = relative.split("/")
        for depth in range(1, len(parts) + 1):
            verdict = self._explain_one("/".join(parts[:depth]), is_dir=is_dir or depth < len(parts))
            if verdict.ignored:
                return verdict  # git never looks into an ignored directory
        return Verdict(False)

    def explain_entry(self, relative: str, *, is_dir: bool) -> Verdict:
        """Return the verdict for one entry of a directory that is itself not ignored."""
        return self._explain_one(relative, is_dir=is_dir)

    def forget(self) -> None:
        """Read the rule files again when next asked."""
        self._files.clear()

    def _explain_one(self, relative: str, *, is_dir: bool) -> Verdict:
        verdict = Verdict(False)
        name = relative + ("/" if is_dir else "")
        result = self._defaults.check_file(name)
        if result.include and result.index is not None:
            verdict = Verdict(True, DEFAULT_RULES[result.index], "default rules")
        folder = ""
        for part in ["", *relative.split("/")[:-1]]:
            folder = f"{folder}/{part}".strip("/") if part else folder
            spec, lines = self._load(folder)
            if spec is None:
                continue
            below = name[len(folder) :].lstrip("/") if folder else name
            result = spec.check_file(below)
            if result.include is not None and result.index is not None:
                where = f"{folder}/{IGNORE_FILE}".lstrip("/") + f" line {lines[result.index][0]}"
                verdict = Verdict(bool(result.include), lines[result.index][1].strip(), where)
        return verdict

    def _load(self, folder: str) -> tuple[GitIgnoreSpec | None, list[tuple[int, str]]]:
        known = self._files.get(folder)
        if known is not None:
            return known
        spec: GitIgnoreSpec | None = None
        lines: list[tuple[int, str]] = []
        try:
            text = (self._root / folder / IGNORE_FILE).read_text("utf-8", "replace")
            lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip() and line[0] != "#"]
            spec = GitIgnoreSpec.from_lines([line for _, line in lines])
        except OSError:
            pass
        except ValueError:  # a pattern that is none: the others of other files still count
            spec = None
        self._files[folder] = (spec, lines)
        return spec, lines
