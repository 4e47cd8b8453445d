"""A first-time user asks about the one document that is there: what it answers is answered, everything else refused."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from ops.embedded.embeddings import MODEL
from ops.up.welcome import make_default_folder
from tests.support.product import SOURCE, Product
from workers.query.answer import Answering
from workers.query.main import build
from workers.query.requests import AnswerRequest
from workers.query.settings import QueryWorkerSettings

DIMENSIONS = 384

ANSWERED = {
    "Which formats does Upwell read?": "Markdown, HTML",
    "Does it read Excel files?": "Excel",
    "How do I leave files out?": ".upwellignore",
    "How do I stop it?": "Ctrl-C",
    "Do I lose anything when I stop it?": "Nothing is lost",
    "How can I ask a question?": "upwell ask",
    "What happens when I move a file?": "the index follows",
    "Where do I see which files could not be read?": "parked",
    "How do I find out why a file was left out?": "upwell documents why",
    "Can I delete this document?": "delete it whenever you like",
}
"""Questions that the welcome document answers, and words of the sentence that does."""

NOT_ANSWERED = (
    "How much does Upwell cost?",
    "Who makes Upwell?",
    "How do I change my password?",
    "When is the office open?",
    "Which embedding model is used?",
    "How much memory does it need?",
    "Can I run it on Windows?",
    "What is the boiler code?",
    "How do I share a folder with my colleagues?",
    "How many files can the folder hold?",
)
LEAST_ANSWERED, LEAST_REFUSED = 8, 9


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory, qdrant_url: str, embeddings_url: str) -> Iterator[Answering]:
    """The query worker's own, over the welcome document as the pipeline indexes it."""
    home = tmp_path_factory.mktemp("welcome")
    make_default_folder(home / SOURCE)
    endpoint: Any = SimpleNamespace(url=embeddings_url)
    name = f"test-{home.name}"
    product = Product(home, qdrant_url, name, endpoint, model=MODEL, dimensions=DIMENSIONS)
    product.scan()
    product.settle()
    settings = QueryWorkerSettings(
        qdrant_url=qdrant_url,
        collection=name,
        embeddings_url=embeddings_url,
        embeddings_model=MODEL,
        ledger_url=f"sqlite:///{home}/ledger.db",
        query_embedding_timeout=30.0,
    )
    made, index = build(settings)
    yield made
    index.close()
    product.close()


def test_questions_that_the_only_document_answers_are_answered_from_it(answering: Answering) -> None:
    answers = {question: answering.answer(AnswerRequest(query=question)) for question in ANSWERED}

    right = [question for question, words in ANSWERED.items() if words in answers[question]["answer"]]
    told = {question: (answer.get("confidence"), answer["answer"]) for question, answer in answers.items()}
    assert len(right) >= LEAST_ANSWERED, told


def test_questions_that_it_does_not_answer_are_refused(answering: Answering) -> None:
    answers = {question: answering.answer(AnswerRequest(query=question)) for question in NOT_ANSWERED}

    refused = [question for question, answer in answers.items() if answer["refused"]]
    told = {question: (answer.get("confidence"), answer["answer"]) for question, answer in answers.items()}
    assert len(refused) >= LEAST_REFUSED, told
