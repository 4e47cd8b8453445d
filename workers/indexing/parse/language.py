"""The language of a text, the same every time."""

from __future__ import annotations

SAMPLE = 2000
LEAST = 20
SURE = 0.85


def language_of(text: str) -> str | None:
    """Return the ISO 639-1 code of the language, or None when the text is too short or the guess is unsure."""
    sample = text[:SAMPLE]
    if sum(letter.isalpha() for letter in sample) < LEAST:
        return None
    from langdetect import DetectorFactory, LangDetectException, detect_langs

    DetectorFactory.seed = 0  # without it the same text gets another language now and then
    try:
        best = detect_langs(sample)[0]
    except LangDetectException:
        return None
    return str(best.lang).partition("-")[0] if best.prob >= SURE else None
