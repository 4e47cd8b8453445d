"""A PDF whose fonts do not say which letters they show is refused in words, and no text that is one."""

from __future__ import annotations

import pytest
from fpdf import FPDF

from workers.errors import NoText
from workers.indexing.parse.lettering import is_disguised
from workers.indexing.parse.pdf import read_pdf

ENGLISH = (
    "The boiler stands in the cellar of the house, behind the second door on the left. It was put in by Meyer and Sons"
    " in the autumn, and they come once a year to clean it. The key hangs beside the window in the kitchen, and whoever"
    " takes it writes a name into the book. When the lamp turns red nobody should touch it before the firm has been"
    " called, because the pressure may be too high for the old pipes in the wall."
)
GERMAN = (
    "Der Kessel steht im Keller des Hauses hinter der zweiten Tür links. Er wurde im Herbst von Meyer und Söhne"
    " eingebaut, die ihn jedes Jahr reinigen. Der Schlüssel hängt neben dem Fenster in der Küche, und wer ihn nimmt,"
    " schreibt seinen Namen in das Buch. Wenn die Lampe rot leuchtet, soll niemand ihn berühren, bevor die Firma"
    " gerufen wurde, denn der Druck kann für die alten Rohre in der Wand zu hoch sein."
)


def moved(text: str) -> str:
    """Glyphs of a TrueType font are numbered as ASCII is, 29 places further down."""
    return "".join(chr(ord(sign) - 29) if 61 < ord(sign) < 127 else " " if sign == " " else "" for sign in text)


def in_order_of_first_use(text: str) -> str:
    numbers: dict[str, int] = {}
    return "".join(" " if sign == " " else chr(33 + numbers.setdefault(sign, len(numbers))) for sign in text)


def in_private_use(text: str) -> str:
    return "".join(" " if sign == " " else chr(0xF000 + ord(sign)) for sign in text)


def as_cids(text: str) -> str:
    return "".join(f"(cid:{ord(sign) - 29})" for sign in text)


DISGUISES = [moved, in_order_of_first_use, in_private_use, as_cids]


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("text", [ENGLISH, GERMAN], ids=["en", "de"])
def test_a_text_in_disguise_is_told_and_the_text_itself_is_not(text, disguise):
    assert is_disguised(disguise(text))
    assert not is_disguised(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4711 8251 " * 60,
        "\n".join(f"{n}.00 $ {n + 1}.50 € {n} %" for n in range(100)),
        "XKB-4711 BRT/22 GSM PVC HDPE TFT LCD " * 20,
        "".join(f"Chapter {n} {'.' * 60} {n}\n" for n in range(30)),
        '{"id": 1, "tags": ["x", "y"], "on": true}, ' * 30,
        "ACGTTGCAAGCT" * 40,
        "deadbeef 0badf00d cafe " * 40,
        "∑ α² + β² = γ², ∀ ε > 0 ∃ δ > 0: |f(x) − f(y)| < ε " * 20,
        "Strč prst skrz krk, vlk zmrzl, smrt chrt srp, čtvrt hrst zrn. " * 10,
        "\uf0b7 First point\n\uf0b7 Second point\n" * 20,
        "ボイラーの暗証番号は四七一一です。" * 30,
        "كود الغلاية في القبو خلف الباب الثاني على اليسار " * 10,
    ],
)
def test_tables_codes_formulas_and_other_scripts_are_no_disguise(text):
    assert not is_disguised(text)


def test_a_pdf_whose_fonts_do_not_say_their_letters_has_a_reason_and_a_next_step():
    with pytest.raises(NoText, match=r"fonts do not say which letters.*ocrmypdf"):
        read_pdf(_pdf(moved(ENGLISH)), "house.pdf")

    assert read_pdf(_pdf(ENGLISH), "house.pdf").elements


def _pdf(text: str) -> bytes:
    made = FPDF()
    made.add_page()
    made.set_font("Helvetica", size=11)
    made.multi_cell(0, text=text)
    return bytes(made.output())
