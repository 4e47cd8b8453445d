"""When do two documents contradict each other: another number, date or name, or a denial, said of the same thing."""

from __future__ import annotations

import pytest

from tests.support.answering import Index, ask
from workers.query.conflicts import contradict
from workers.query.figures import digits, figures, values

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
