"""What one parse may use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one parser child; each protects the machine from one hostile or broken file."""

    wall_s: float = 300.0
    cpu_s: int = 240
    memory_bytes: int = 2 << 30  # address space
    file_bytes: int = 512 << 20  # what it may write
    open_files: int = 256
    max_text_chars: int = 20_000_000
    documents_per_child: int = 1000
    resident_bytes: int = 600 << 20  # a child that has grown beyond is replaced

    @property
    def output_bytes(self) -> int:
        """What a child may send: four bytes a character at most, eight for its words, and the frames around them."""
        return 12 * self.max_text_chars + (16 << 20)
