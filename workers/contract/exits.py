"""The exit codes by which a process says why it ended, to `upwell up`, to a container's restart policy, to a person."""

from __future__ import annotations

EXIT_TAKEN = 3
"""A port or a directory belongs to somebody else."""

EXIT_UNAVAILABLE = 69
"""A server is away; starting again later makes sense (EX_UNAVAILABLE of sysexits.h)."""

EXIT_MISCONFIGURED = 78
"""Starting again changes nothing (EX_CONFIG of sysexits.h)."""
