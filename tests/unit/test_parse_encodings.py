"""Whatever the encoding, the letters come back; and what is no text is not taken for it."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.indexing.parse.encoding import declared_in_html, declared_in_xml, decode, looks_like_text
from workers.indexing.parse.language import FIRST, SAMPLE, _sample, iso639, language_of
from workers.indexing.values import Element

# One sentence each, written for this test, with the letters that tell the language's encodings apart.
SENTENCES = {
    "de": "Im Frühjahr müssen die Gärtner größere Mengen Erde über die Beete streuen, schöne Äpfel wachsen später.",
    "fr": "L'été dernier, la fête du village a été annulée à cause de la tempête ; les élèves étaient déçus.",
    "es": "El niño pequeño soñaba con montañas y después comió piña con azúcar mañana por la mañana.",
    "sv": "På ön växer det både blåbär och hallon, och i sjön får man fiska året om när isen är borta.",
    "pl": "Późną jesienią żółte liście spadają z drzew, a dzieci zbierają kasztany i żołędzie w pobliskim lesie.",
    "cs": "Příliš mnoho lidí čeká každé ráno na tramvaj, která přijíždí pozdě kvůli častým opravám kolejí.",
    "hu": "A tűzoltók gyorsan megérkeztek, de a régi épületet már nem tudták megmenteni a lángoktól, őrültség volt.",
    "lt": "Ąžuolai auga lėtai, tačiau jų mediena labai tvirta, todėl žmonės iš jos stato namus ir gamina baldus.",
    "tr": "Çocuklar akşam üstü bahçede oynarken yağmur başladı, hepsi koşarak evlerine doğru dağıldılar.",
    "ru": "Вчера вечером мы долго гуляли по набережной и смотрели, как баржи медленно уходят вниз по реке.",
    "uk": "Щороку навесні їжаки прокидаються та шукають поживу в садах, де ґрунт уже прогрівся після зими.",
    "el": "Το καλοκαίρι τα παιδιά παίζουν στην παραλία μέχρι αργά το βράδυ, όταν φυσάει δροσερός άνεμος.",
    "he": "בבוקר יצאנו לשוק לקנות ירקות ופירות טריים, ואחר כך ישבנו לשתות קפה ליד הים עם החברים.",
    "ar": "ذهبنا في الصباح إلى السوق لشراء الخضار والفواكه الطازجة ثم جلسنا نشرب القهوة قرب البحر مع الأصدقاء.",
    "th": "เมื่อวานนี้เราไปตลาดเพื่อซื้อผักและผลไม้สด แล้วนั่งดื่มกาแฟริมทะเลกับเพื่อนจนถึงเย็น",
    "ja": "昨日の夕方、友達と一緒に川沿いの道を歩きながら、ゆっくりと下っていく船を眺めていました。",
    "zh": "昨天晚上我们沿着河边散步，看着船慢慢地顺流而下，后来下起了小雨，大家就回家了。",
    "zh-tw": "昨天晚上我們沿著河邊散步，看著船慢慢地順流而下，後來下起了小雨，大家就回家了。",
    "ko": "어제 저녁에 친구들과 함께 강변을 걸으며 천천히 내려가는 배를 바라보았고 나중에 비가 내렸다.",
}
LEGACY = [
    ("de", "cp1252"), ("de", "iso8859-15"), ("de", "mac_roman"), ("de", "cp850"), ("fr", "cp1252"), ("es", "cp1252"),
    ("sv", "cp1252"), ("pl", "cp1250"), ("pl", "iso8859-2"), ("cs", "cp1250"), ("cs", "iso8859-2"), ("hu", "cp1250"),
    ("lt", "cp1257"), ("tr", "cp1254"), ("tr", "iso8859-9"), ("ru", "cp1251"), ("ru", "koi8-r"), ("ru", "cp866"),
    ("ru", "iso8859-5"), ("uk", "cp1251"), ("uk", "koi8-u"), ("el", "cp1253"), ("el", "iso8859-7"), ("he", "cp1255"),
    ("he", "iso8859-8"), ("ar", "cp1256"), ("th", "cp874"), ("ja", "shift_jis"), ("ja", "euc_jp"), ("ja", "iso2022_jp"),
    ("zh", "gb18030"), ("zh", "gb2312"), ("zh-tw", "big5"), ("ko", "euc_kr"), ("ko", "cp949"),
]  # fmt: skip
WIDE = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "utf-8", "utf-8-sig"]


@pytest.mark.parametrize(("language", "encoding"), LEGACY)
def test_one_sentence_in_a_legacy_encoding_is_decoded(language, encoding):
    text = SENTENCES[language]

    assert decode(text.encode(encoding)) == text
    assert decode(text.encode(encoding), encoding) == text


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("language", SENTENCES)
def test_one_sentence_in_unicode_is_decoded_with_and_without_a_mark(language, encoding):
    assert decode(SENTENCES[language].encode(encoding)) == SENTENCES[language]


@pytest.mark.parametrize(
    "text", ["“It’s cold – again,” she said.", "12 € or £ 10", "Müller, Jürgen", "It was 25 °C ± 2 today.", "• one"]
)
def test_plain_text_with_a_few_windows_letters_is_windows_text(text):
    assert decode(text.encode("cp1252")) == text


@pytest.mark.parametrize("language", ["de", "ru", "el", "ja"])
def test_utf_8_with_a_broken_byte_here_and_there_stays_utf_8(language):
    text = "\n".join([SENTENCES[language]] * 30)
    data = bytearray(text.encode())
    data[300] = data[900] = 0xE9

    assert decode(bytes(data)).count(SENTENCES[language]) >= 27


def test_text_that_is_cut_within_its_last_letter_is_still_utf_8():
    assert decode((SENTENCES["ru"] + "ё").encode()[:-1]).startswith(SENTENCES["ru"])


def test_a_declaration_that_cannot_be_true_is_not_believed():
    assert decode(SENTENCES["ar"].encode("cp1256"), "utf-8") == SENTENCES["ar"]
    assert decode(SENTENCES["ru"].encode("cp1251"), "shift_jis") == SENTENCES["ru"]
    assert decode(SENTENCES["he"].encode("cp1255"), "cp1252") == SENTENCES["he"]
    assert decode(SENTENCES["de"].encode("cp1252"), "rot13") == SENTENCES["de"]
    assert decode(SENTENCES["de"].encode("cp1252"), "no-such-code") == SENTENCES["de"]


def test_a_declaration_is_found_where_html_and_xml_put_it():
    assert declared_in_html(b'<html><meta charset="koi8-r">') == "koi8-r"
    assert (
        declared_in_html(b'<meta http-equiv="Content-Type" content="text/html; charset=windows-1250">')
        == "windows-1250"
    )
    assert declared_in_xml(b'<?xml version="1.0" encoding="Shift_JIS"?>') == "Shift_JIS"
    assert declared_in_xml(b"<a/>") is None


def test_random_bytes_and_programs_are_no_text():
    numbers = random.Random(1)
    assert not any(looks_like_text(numbers.randbytes(4000)) for _ in range(50))
    assert not looks_like_text(Path("/bin/sh").read_bytes()[:20_000])


@given(
    data=st.binary(max_size=400), declared=st.none() | st.text(max_size=12) | st.sampled_from(["utf-16", "hz", "utf-7"])
)
def test_decoding_never_fails(data, declared):
    assert isinstance(decode(data, declared), str)
    looks_like_text(data)
    declared_in_html(data)


@pytest.mark.parametrize("language", SENTENCES)
def test_the_language_of_two_sentences_is_found(language):
    text = Element("text", SENTENCES[language])

    assert language_of([text, text]) == language.partition("-")[0]


def test_names_numbers_and_addresses_tell_nothing_of_the_language():
    noise = "v2.0 read_all a/b C:\\x https://example.org/le-chat jean@example.org 4711 "

    assert language_of([Element("text", noise * 4)]) is None
    assert language_of([Element("text", f"{noise * 4}{SENTENCES['de']} {SENTENCES['de']}")]) == "de"


def test_a_beginning_in_many_languages_leaves_it_to_the_rest():
    mixed = " ".join(" ".join(SENTENCES[each].split()[:5]) for each in ("hu", "fr", "cs", "es", "lt", "sv", "tr", "pl"))
    rest = [Element("text", SENTENCES["de"])] * 8

    assert language_of([Element("text", mixed)]) != "de"
    assert language_of([Element("text", mixed), *rest]) == "de"


@given(st.lists(st.text(st.sampled_from("ab1 /_é"), max_size=900), max_size=9))
def test_the_first_words_of_a_sample_are_those_of_a_longer_one(texts):
    assert _sample(texts, FIRST)[:FIRST] == _sample(texts, SAMPLE)[:FIRST]


def test_too_little_text_and_what_is_no_language_have_none():
    assert language_of([Element("text", "4711")]) is None
    assert language_of([Element("table", "12 | 13\n" * 50)]) is None
    assert language_of([Element("code", "for (i = 0; i < 10; i++) { print(i); } // and so on and on and on")]) is None


@pytest.mark.parametrize(
    ("code", "meant"),
    [("en-US", "en"), ("pt_BR", "pt"), ("ger", "de"), ("deu", "de"), ("", None), ("x", None), (None, None)],
)
def test_language_codes_become_two_letters(code, meant):
    assert iso639(code) == meant
