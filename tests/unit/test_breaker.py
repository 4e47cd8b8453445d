"""A server that fails is left alone, longer each time; one asks whether it is back, and people are told."""

from __future__ import annotations

from ops.api.status import breakers
from workers.indexing.breaker import TRIAL_S, Breaker


def test_it_opens_longer_each_time_and_closes_at_the_first_success():
    now = [0.0]
    breaker = Breaker(clock=lambda: now[0])

    waits = [breaker.failed() for _ in range(8)]
    assert sorted(waits[:5]) == waits[:5]
    assert max(waits) <= 60.0 * 1.2
    assert not breaker.admits()

    breaker.succeeded()
    assert breaker.admits()
    assert breaker.told() == {"state": "closed", "failures": 0, "open_s": 0.0, "reason": None}


def test_half_open_it_admits_one_at_a_time_and_another_when_that_one_gave_no_verdict():
    now = [0.0]
    breaker = Breaker(clock=lambda: now[0])
    breaker.failed(10.0, reason="No answer.")
    now[0] = 11.0

    assert breaker.told()["state"] == "half open"
    assert [breaker.admits() for _ in range(3)] == [True, False, False]
    now[0] += TRIAL_S
    assert breaker.admits()


def test_the_status_tells_of_the_worst_worker_alive():
    closed = {"state": "closed", "failures": 0, "open_s": 0.0, "reason": None}
    away = {"state": "open", "failures": 3, "open_s": 7.0, "reason": "No answer from Qdrant."}

    def process(age_s, told):
        return {"name": "w", "kind": "index-worker", "age_s": age_s, "info": {"breakers": {"qdrant": told}}}

    assert breakers([process(1.0, closed), process(2.0, away), process(500.0, away)]) == {"qdrant": away}
    assert breakers([process(1.0, closed), process(500.0, away)]) == {"qdrant": closed}
    assert breakers([{"name": "a", "kind": "watcher", "age_s": 0.0, "info": {}}]) == {}
