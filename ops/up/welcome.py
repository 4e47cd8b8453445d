"""Makes the default folder on the very first start, with one document to try things on."""

from __future__ import annotations

from pathlib import Path

DEFAULT_FOLDER = "inbox"

WELCOME = """\
# Welcome to Upwell

This folder is being watched. Drop a file into it, and a moment later it can be found; change it, move it or delete it,
and the index follows.

## What Upwell reads

Text, Markdown, HTML, XML, JSON, CSV, source code, Word, PowerPoint, Excel, OpenDocument, RTF, EPUB, e-mail and PDF.
Files that cannot be read are listed with the reason: `upwell documents list --state parked`.

## How to ask

Search with `upwell search "your words"`, ask a question with `upwell ask "Your question?"`, or open the console page,
whose address is shown where Upwell was started. Answers name the files that they come from.

## How to leave files out

List them in a file called `.upwellignore`, in the syntax of `.gitignore`. `upwell documents why PATH` tells what became
of a file and by which rule.

## How to stop

Press Ctrl-C where Upwell was started. Nothing is lost: the next start goes on where this one stopped.
This document is yours; delete it whenever you like.
"""


def make_default_folder(folder: Path) -> bool:
    """Create ``folder`` with its welcome document; False when it is there already."""
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    (folder / "welcome.md").write_text(WELCOME, encoding="utf-8")
    return True
