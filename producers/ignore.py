"""Which files are not documents, and which rule says so."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pathspec import GitIgnoreSpec

from workers.contract.sidecar import SUFFIX

IGNORE_FILE = ".upwellignore"
DEFAULT = "default rules"
LARGEST_RULES = 1 << 20

# Patterns of a file's or a directory's own name; those that end in / are for directories only.
# fmt: off
DEFAULT_RULES = [
    # hidden files and directories: .git, .venv, .env, .ssh, .DS_Store, .~lock.x#, .#x, and our own
    ".*",
    # what editors, office programs and downloads leave while they work
    "*~", "~$*", "#*#", "*.swp", "*.swo", "*.swx", "*.tmp", "*.temp", "*.part", "*.partial", "*.crdownload",
    "*.download", "*.filepart", "4913",
    # metadata that belongs to the file beside it
    "*.meta.json",
    # what operating systems leave
    "Thumbs.db", "ehthumbs.db", "desktop.ini", "$RECYCLE.BIN/", "System Volume Information/", "lost+found/",
    "@eaDir/",
    # what builds and package managers make
    "__pycache__/", "node_modules/", "*.pyc", "*.pyo", "*.egg-info/", "CVS/", "_darcs/",
    # secrets
    "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.ppk",
    "*.kdbx", "*.kdb",
]
# fmt: on
_ANY = [rule for rule in DEFAULT_RULES if not rule.endswith("/")]
_FILES = re.compile("|".join(fnmatch.translate(rule) for rule in _ANY))
_DIRECTORIES = re.compile("|".join(fnmatch.translate(rule.rstrip("/")) for rule in DEFAULT_RULES))
# What a file name must have for one of the rules to match: the name itself, its ending, its first or its last letter.
_ENDINGS = frozenset(rule[1:] for rule in _ANY if re.fullmatch(r"\*\.\w+", rule))
_NAMES = frozenset(rule for rule in _ANY if not re.search(r"[*?\[]", rule))
_FIRST = frozenset(rule[0] for rule in _ANY if re.fullmatch(r"[^*?\[].*[*?\[].*", rule))
_LAST = frozenset(rule[-1] for rule in _ANY if re.fullmatch(r"\*[^.].*", rule))


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a path is ignored, by which rule, and where that rule stands."""

    ignored: bool
    rule: str | None = None
    where: str | None = None

    @property
    def by_default(self) -> bool:
        """True when it is one of our own rules (temporary files and the like), not the user's."""
        return self.where == DEFAULT

    def __str__(self) -> str:
        if not self.ignored:
            return "not ignored"
        return f"ignored by the rule {self.rule!r} ({self.where})"


_NOT_IGNORED = Verdict(False)


@dataclass(frozen=True, slots=True)
class _RuleFile:
    """The rules of one directory: the folder they are in, and (line number, line) of every pattern."""

    folder: str
    spec: GitIgnoreSpec
    lines: tuple[tuple[int, str], ...]


def plain(name: str) -> bool:
    """Tell that none of our own rules ignores a file of this name; False: one may, ask `IgnoreRules`.

    A scan asks this of every name it meets; all the rules together take ten times as long.
    """
    return (
        name[0] not in _FIRST
        and name[-1] not in _LAST
        and name[name.rfind(".") :] not in _ENDINGS
        and name not in _NAMES
        and not name.endswith(SUFFIX)
    )


class IgnoreRules:
    """The rules of one root: ours, then every .upwellignore from the root down, the last match deciding, as in git."""

    def __init__(self, root: Path) -> None:
        self._root = os.fsencode(root)
        self._in_force: dict[str, tuple[_RuleFile, ...]] = {}

    def explain(self, relative: str, is_dir: bool = False) -> Verdict:
        """Return the verdict for ``relative`` (forward slashes) and the directories it is in."""
        parts = relative.split("/")
        for depth in range(1, len(parts) + 1):
            verdict = self.explain_entry("/".join(parts[:depth]), is_dir=is_dir or depth < len(parts))
            if verdict.ignored:
                return verdict  # git never looks into an ignored directory
        return _NOT_IGNORED

    def explain_entry(self, relative: str, *, is_dir: bool) -> Verdict:
        """Return the verdict for one entry of a directory that is itself not ignored."""
        folder, _, name = relative.rpartition("/")
        verdict = _default(name, is_dir) if name != IGNORE_FILE else _NOT_IGNORED
        for rules in self._rules_for(folder):
            below = relative[len(rules.folder) + 1 :] if rules.folder else relative
            result = rules.spec.check_file(below + "/" if is_dir else below)
            if result.include is not None and result.index is not None:
                number, line = rules.lines[result.index]
                where = f"{rules.folder}/{IGNORE_FILE}".lstrip("/") + f" line {number}"
                verdict = Verdict(result.include, line.strip(), where)
        return verdict

    def has_rules(self, folder: str) -> bool:
        """Tell whether any rule file applies in ``folder``."""
        return bool(self._rules_for(folder))

    def forget(self) -> None:
        """Read the rule files again when next asked."""
        self._in_force.clear()

    def _rules_for(self, folder: str) -> tuple[_RuleFile, ...]:
        """Return the rule files that apply in ``folder``, the outermost first."""
        known = self._in_force.get(folder)
        if known is None:
            above = self._rules_for(folder.rpartition("/")[0]) if folder else ()
            own = self._read(folder)
            known = (*above, own) if own is not None else above
            self._in_force[folder] = known
        return known

    def _read(self, folder: str) -> _RuleFile | None:
        text = _text_of(os.path.join(self._root, os.fsencode(folder), IGNORE_FILE.encode()))
        lines: list[tuple[int, str]] = []
        for number, line in enumerate(unicodedata.normalize("NFC", text).splitlines(), 1):
            if line.strip() and not line.startswith("#") and _is_pattern(line):
                lines.append((number, line))
        if not lines:
            return None
        return _RuleFile(folder, GitIgnoreSpec.from_lines([line for _, line in lines]), tuple(lines))


@lru_cache(maxsize=4096)
def _default(name: str, is_dir: bool) -> Verdict:
    if not (_DIRECTORIES if is_dir else _FILES).match(name):
        return _NOT_IGNORED
    rules = DEFAULT_RULES if is_dir else _ANY
    return Verdict(True, next(rule for rule in rules if fnmatch.fnmatchcase(name, rule.rstrip("/"))), DEFAULT)


def _is_pattern(line: str) -> bool:
    """One line that is no pattern must not cost the others their effect; git passes over it as well."""
    try:
        GitIgnoreSpec.from_lines([line])
    except ValueError:
        return False
    return True


def _text_of(file: bytes) -> str:
    """Return what the rule file says; nothing for a link, a pipe or a device that bears its name."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return ""
        return os.read(fd, LARGEST_RULES).decode("utf-8", "replace").removeprefix("\ufeff")
    except OSError:
        return ""
    finally:
        os.close(fd)
