"""When do two documents contradict each other: another number, date or name, or a denial, said of the same thing."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path

import pytest

from tests.support.answering import Index, ask
from workers.query.conflicts import contradict
from workers.query.figures import digits, figures, values
from workers.query.sentences import sentences

DATA = Path(__file__).parents[3] / "shared" / "data"
LAWS = DATA / "legal" / "gesetze"
XQUAD = DATA / "retrieval" / "xquad" / "corpus.jsonl"

CONTRADICTIONS = [
    # numbers
    ("What is the boiler code?", "The boiler code is 4711.", "The boiler code is 4712."),
    ("How many beds does the clinic have?", "The clinic has 120 beds.", "The clinic has 140 beds in total."),
    (
        "What does the yearly ticket cost?",
        "The yearly ticket costs 49.90 euros.",
        "The yearly ticket costs 59.90 euros.",
    ),
    ("What is the notice period?", "The notice period is three months.", "The notice period is six months."),
    ("How long is the warranty?", "The warranty lasts 2 years.", "The warranty lasts 3 years from delivery."),
    (
        "What share of the voters took part?",
        "64.5 % of the voters took part.",
        "In the end 46.5 % of the voters took part.",
    ),
    ("What is the limit for a claim?", "The limit for a claim is $1,000,000.", "The limit for a claim is $10,000,000."),
    ("How much water per plant?", "Give each plant 1.5 litres of water.", "Give each plant 15 litres of water."),
    ("Wie hoch ist die Miete?", "Die Miete beträgt 850 Euro.", "Die Miete beträgt 920 Euro."),
    ("¿Cuántas plazas tiene el garaje?", "El garaje tiene 40 plazas.", "El garaje tiene 60 plazas."),
    ("Combien de salles a le musée ?", "Le musée a douze salles.", "Le musée a neuf salles."),
    (
        "Which port does the server use?",
        "The server listens on port 8080.",
        "The server listens on port 9090 by default.",
    ),
    # in other words
    ("What is the boiler code?", "The boiler code is 4711.", "Enter 8251 as the code of the boiler."),
    ("What is the boiler code?", "The boiler code is 4711.", "The new boiler code is 8251."),
    (
        "How many beds does the clinic have?",
        "The clinic has 120 beds.",
        "Patients can be admitted to 140 beds at the clinic.",
    ),
    (
        "When was the bridge opened?",
        "The bridge was opened in 1932.",
        "Traffic has crossed the bridge since it opened in 1934.",
    ),
    ("How much is the rent?", "The rent is 850 euros.", "Tenants pay a rent of 920 euros."),
    ("How long is the notice period?", "The notice period is three months.", "A notice period of six weeks applies."),
    ("How many people work at the firm?", "The firm employs 120 people.", "140 people work at the firm."),
    ("When does the pool open?", "The pool opens at 8.", "Doors of the pool open at 10."),
    (
        "What is the speed limit?",
        "The speed limit is 50 km/h.",
        "Drivers must keep to the speed limit of 30 km/h.",
    ),
    # dates
    ("When is the hedge cut?", "The hedge is cut on 3 June.", "The hedge is cut on 7 June."),
    ("When is the hedge cut?", "The hedge is cut in June.", "The hedge is cut in September."),
    ("When does the board meet?", "The board meets on Monday.", "The board meets on Thursday."),
    ("When was the bridge opened?", "The bridge was opened in 1932.", "The bridge was opened in 1934 by the mayor."),
    ("When does the contract end?", "The contract ends on 31 March 2025.", "The contract ends on 30 June 2025."),
    ("Wann tagt der Ausschuss?", "Der Ausschuss tagt am Dienstag.", "Der Ausschuss tagt am Freitag."),
    ("¿Cuándo abre la piscina?", "La piscina abre en mayo.", "La piscina abre en junio."),
    ("When may the ban be lifted?", "The ban may be lifted in May.", "The ban may be lifted in July."),
    # names
    ("Who is the head of the clinic?", "The head of the clinic is Dr. Weber.", "The head of the clinic is Dr. Lang."),
    ("Who founded the firm?", "The firm was founded by Ada Brown.", "The firm was founded by Carl Green."),
    (
        "What is the capital of the county?",
        "The capital of the county is Maidstone.",
        "The capital of the county is Dover.",
    ),
    ("Who is the landlord?", "Meyer Ltd is the landlord.", "Huber Estates is the landlord."),
    (
        "Wer ist die Ansprechpartnerin?",
        "Die Ansprechpartnerin ist Frau Kern.",
        "Die Ansprechpartnerin ist Frau Sommer.",
    ),
    # denials
    ("May dogs swim in the lake?", "Dogs may swim in the lake.", "Dogs may not swim in the lake."),
    (
        "Is smoking allowed on the balcony?",
        "Smoking is allowed on the balcony.",
        "Smoking is never allowed on the balcony.",
    ),
    ("Does the fee include parking?", "The fee includes parking.", "The fee doesn't include parking."),
    ("Dürfen Hunde mitfahren?", "Hunde dürfen im Bus mitfahren.", "Hunde dürfen im Bus nicht mitfahren."),
    (
        "Is the drug safe in pregnancy?",
        "The drug is safe in pregnancy.",
        "There is no proof that the drug is safe in pregnancy.",
    ),
]

AGREEMENTS = [
    # the same value, written otherwise
    ("What was the turnover?", "The turnover was 1,250,000 euros.", "The turnover was 1.250.000 euros."),
    ("What does it cost?", "The ticket costs 49.90 euros.", "The ticket costs 49,9 euros."),
    ("How many rooms are there?", "The house has seven rooms.", "The house has 7 rooms."),
    ("When is the fair?", "The fair is in June.", "The fair is in Juni."),
    # one says more than the other
    ("When is the hedge cut?", "The hedge is cut on 3 June.", "The hedge is cut on 3 June 2024."),
    ("What is the code?", "The boiler code is 4711.", "The boiler code is 4711, valid until 2030."),
    ("When does the board meet?", "The board meets on Monday.", "The board meets on Monday and Thursday."),
    # of something else
    ("When was pump 3 made?", "Pump 3 was made in 2019.", "Pump 4 was made in 2020."),
    ("When is the hedge cut?", "The hedge is cut on 3 June.", "The lawn is mown on 7 June."),
    (
        "How high is the share?",
        "In Germany the share is 0.72 % of all people.",
        "In Belgium the share is 3.7 % of all people.",
    ),
    ("How many died?", "SARS-CoV caused 774 deaths worldwide.", "MERS-CoV has caused 858 deaths worldwide."),
    ("When does the office open?", "The office in Bern opens at 8.", "The office in Basel opens at 9."),
    ("How many were cured?", "Of the patients on Alfazin 12 were cured.", "Of the patients on Betazin 31 were cured."),
    ("Wann öffnet das Büro?", "Das Büro öffnet im Sommer um 8 Uhr.", "Das Büro öffnet im Winter um 9 Uhr."),
    # one is of a part, a place or a time of it
    ("What is the boiler code?", "The boiler code is 4711.", "The boiler of the flat has the code 8251."),
    ("What is the boiler code?", "The boiler code is 4711.", "The flat's boiler code is 8251."),
    ("What is the boiler code?", "The boiler code of the house is 4711.", "The boiler code of the flat is 8251."),
    ("What does a ticket cost?", "A ticket costs 40 euros.", "A summer ticket costs 30 euros."),
    ("When does the office open?", "The office opens at 8.", "In the holidays the office opens at 9."),
    ("When does the pool open?", "The pool opens at 8.", "The pool opens at 10 on weekends."),
    ("What is the fee?", "The fee is 30 euros.", "The fee for members is 20 euros."),
    ("Welchen Code hat die Heizung?", "Die Heizung hat den Code 4711.", "Die Heizung der Wohnung hat den Code 8251."),
    (
        "Quel est le code de la chaudière ?",
        "Le code de la chaudière est 4711.",
        "Le code de la chaudière de l'appartement est 8251.",
    ),
    (
        "¿Cuál es el código de la caldera?",
        "El código de la caldera es 4711.",
        "El código de la caldera del piso es 8251.",
    ),
    # of its own document
    ("How long does the agreement run?", "This Agreement runs for three years.", "This Agreement runs for five years."),
    ("When is the invoice due?", "Such an invoice is due within 45 days.", "The invoice is due within 15 days."),
    (
        "Wann tritt die Verordnung in Kraft?",
        "Diese Verordnung tritt im Mai 2020 in Kraft.",
        "Diese Verordnung tritt im Juni 2021 in Kraft.",
    ),
    # figures that say where something stands, or that belong to a name
    ("Which law governs the agreement?", "10.5 Governing Law.", "7.4 Governing Law and Arbitration."),
    ("Wie lange dauert die Ausbildung?", "## § 2 Dauer der Berufsausbildung", "### § 3 Dauer der Berufsausbildung"),
    ("How many died?", "The virus killed 774 people (33).", "The virus killed 774 people [5]."),
    ("Which receptor does it use?", "The virus uses the receptor ACE2.", "The virus uses the receptor DPP4."),
    ("What causes it?", "The illness is caused by 2019-nCoV.", "The illness is caused by 229E-CoV."),
    # several names can be true at once
    ("Where does the train stop?", "The train stops in Ulm.", "The train stops in Augsburg."),
    ("Who works at the clinic?", "Dr. Weber works at the clinic.", "Dr. Lang works at the clinic."),
    ("What is Berlin?", "Berlin is a city.", "Hamburg is a city."),
    # another wording, no denial
    ("How many may come?", "Not only members may come.", "Members may come."),
    ("How long may I stay?", "You may stay no longer than 3 days.", "You may stay 3 days."),
]


@pytest.mark.parametrize(("question", "one", "other"), CONTRADICTIONS)
def test_another_value_or_a_denial_about_the_same_thing_is_a_contradiction(question, one, other):
    assert contradict(question, one, other)
    assert contradict(question, other, one)


@pytest.mark.parametrize(("question", "one", "other"), AGREEMENTS)
def test_what_can_both_be_true_is_no_contradiction(question, one, other):
    assert not contradict(question, one, other)
    assert not contradict(question, other, one)


@pytest.mark.skipif(not LAWS.exists(), reason=f"no real data at {LAWS}")
def test_a_law_contradicts_a_version_of_itself_with_another_figure_and_hardly_any_other_law():
    durations = re.compile(r"\b(\d+)(?= (?:Tagen?|Wochen?|Monaten?|Jahren?|Euro|Stunden?|Prozent)\b)")
    laws = [file.read_text() for file in sorted(LAWS.glob("*.md"))]
    said = [(n, " ".join(law[start:end].split())) for n, law in enumerate(laws) for start, end in sentences(law)]
    said = [(n, each) for n, each in said if each.endswith(".") and len(each.split()) > 5]
    figured = [(n, each) for n, each in said if durations.search(each)][:150]
    versions = [(one, durations.sub(lambda found: str(int(found[1]) + 1), one)) for _, one in figured]

    assert len(versions) > 50
    assert sum(contradict("", *pair, versions=True) for pair in versions) > 0.9 * len(versions)
    others = [(a, b) for (n, a), (m, b) in combinations(figured, 2) if n != m]
    alarms = [pair for pair in others if contradict("", *pair)]
    assert len(alarms) < 0.002 * len(others), alarms  # ordinances that say the same each year with another figure


@pytest.mark.skipif(not XQUAD.exists(), reason=f"no real data at {XQUAD}")
def test_a_translation_contradicts_nothing():
    texts = {row["_id"]: row["text"] for row in map(json.loads, XQUAD.read_text().splitlines())}
    pairs = [(texts[key], texts["de" + key[2:]]) for key in texts if key.startswith("en") and "de" + key[2:] in texts]

    assert len(pairs) > 100
    assert [pair for pair in pairs if contradict("", *pair)] == []


def test_two_versions_of_a_text_may_differ_in_what_each_says_of_itself():
    question, *said = "How long does the agreement run?", "This Agreement runs 3 years.", "This Agreement runs 5 years."

    assert contradict(question, *said, versions=True)
    assert not contradict(question, *said)


def test_what_is_said_of_a_part_stands_after_what_is_said_of_the_whole_and_contradicts_nothing():
    flat, house = "The boiler of the flat has the code 8251.", "The boiler code is 4711."
    for index in (Index(flat, house), Index(house, flat)):
        answer = ask(index, query="What is the boiler code?", threshold=0.0)

        assert answer["answer"] == f"{house} [1] {flat} [2]"
        assert not answer["conflicts"]

    asked = ask(Index(flat, house), query="What is the code of the boiler of the flat?", threshold=0.0)
    assert asked["answer"] == f"{flat} [1]"


@pytest.mark.parametrize(("paths", "differ"), [(("deal-v1.md", "deal-v2.md"), True), (("acme.md", "bolt.md"), False)])
def test_an_answer_takes_documents_of_one_name_and_one_text_for_versions(paths, differ):
    index = Index(*(f"This Agreement runs {years} years. Notice goes to the office in Bern." for years in (3, 5)))
    for chunk, path in zip(index.chunks, paths, strict=True):
        chunk.metadata.update(path=path, title=path)

    answer = ask(index, query="How many years does the agreement run?", threshold=0.0)

    assert bool(answer["conflicts"]) is differ


@pytest.mark.parametrize(("question", "one", "other"), CONTRADICTIONS[::5])
def test_an_answer_says_that_its_documents_differ(question, one, other):
    answer = ask(Index(one, other), query=question, threshold=0.0)

    assert answer["answer"].startswith("The documents differ:")
    assert {quote for citation in answer["citations"] for quote in citation["quotes"]} == {one, other}


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1,250 1.250 1'250", {"1250"}),
        ("1 250 000 and 1.250.000,50", {"1250000", "1250000.5"}),
        ("3.0 3 3,00", {"3"}),
        ("0.125 and 1.5", {"0.125", "1.5"}),
        ("on 12.03.2024 in 2.0.1", {"12.03.2024", "2.0.1"}),
        ("in 2019 30 people", {"2019", "30"}),
    ],
)
def test_a_number_is_the_same_however_it_is_written(text, numbers):
    assert digits(text) == numbers


def test_small_numerals_vouch_for_figures_and_months_and_days_have_one_value_in_every_language():
    assert figures("seven shops, sieben Läden, 12") == {"7", "12"}
    assert values("on Monday, lundi")["day"] == {"day 1"}
    assert (
        values("It may rain in Mai")["month"] == values("enero may start in May")["month"] - {"month 1"} == {"month 5"}
    )
    assert not values("one may march on")["number"]
