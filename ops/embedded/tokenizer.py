"""Cuts text into the pieces that the bundled model reads: SentencePiece's unigram model, word by word.

No piece reaches over a space, so the best cut of a text is the best cut of each of its words (Kudo, 2018, "Subword
regularization": Viterbi over a unigram model), and words that were met before need not be cut again.
"""

from __future__ import annotations

import re

from ops.embedded.weights import Vocabulary

SPACE = "▁"  # what SentencePiece puts where a word begins
KNOWN_WORDS = 200_000
LONGEST_KNOWN = 40
_SPACES = re.compile(" {2,}")


class Tokenizer:
    """Threads may share it: a word cut twice at once is only wasted work."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        pieces = vocabulary.pieces.copy()
        pieces[vocabulary.unknown] = ""
        # Numbers, and scores beside them: a pair for each of 250,000 pieces takes longer to make than all the rest.
        self._ids = dict(zip(pieces, range(len(pieces)), strict=True))
        self._ids.pop("", None)
        self._scores = vocabulary.scores
        self._longest = max(map(len, self._ids))
        self._unknown = (vocabulary.unknown, min(vocabulary.scores) - 10.0)
        self._replaced = vocabulary.replaced
        self._words: dict[str, list[int]] = {}

    def tokens(self, text: str) -> list[int]:
        """Return piece ids, without those that mark beginning and end."""
        plain = _SPACES.sub(" ", text.translate(self._replaced))
        if not plain.startswith(" "):
            plain = " " + plain
        found: list[int] = []
        for word in plain.split(" ")[1:]:
            known = self._words.get(word)
            if known is None:
                known = self._cut(SPACE + word)
                if len(word) <= LONGEST_KNOWN:
                    if len(self._words) >= KNOWN_WORDS:
                        self._words = {}
                    self._words[word] = known
            found += known
        return found

    def _cut(self, word: str) -> list[int]:
        """Return the pieces whose log probabilities add up to the most."""
        length = len(word)
        best = [0.0] + [-1e30] * length
        came: list[tuple[int, int]] = [(0, 0)] * (length + 1)  # (piece, where it begins)
        unknown, unknown_score = self._unknown
        ids, scores = self._ids, self._scores
        for start in range(length):
            here = best[start]
            for end in range(start + 1, min(length, start + self._longest) + 1):
                piece = ids.get(word[start:end])
                if piece is not None and here + scores[piece] > best[end]:
                    best[end], came[end] = here + scores[piece], (piece, start)
            if here + unknown_score > best[start + 1]:
                best[start + 1], came[start + 1] = here + unknown_score, (unknown, start)
        pieces: list[int] = []
        while length > 0:
            piece_id, length = came[length]
            pieces.append(piece_id)
        return pieces[::-1]
