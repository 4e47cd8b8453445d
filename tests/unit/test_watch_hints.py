"""The watcher's hints: many of a backfill wait in the ledger, not on the broker."""

from __future__ import annotations

from producers.watch import BACKFILL_HINTS, HintSender


class Broker:
    """Counts what was sent."""

    def __init__(self) -> None:
        self.live: list[str] = []
        self.bulk: list[str] = []
        self.calls: list[int] = []

    def look(self, document_ids: list[str], *, bulk: bool = False) -> bool:
        self.calls.append(len(document_ids))
        (self.bulk if bulk else self.live).extend(document_ids)
        return True


def test_a_first_scan_of_very_many_files_puts_a_bounded_number_of_hints_on_the_broker():
    broker = Broker()
    send = HintSender(broker, lambda: len(broker.bulk))

    for start in range(0, 3 * BACKFILL_HINTS, 500):
        send([f"d{start + number}" for number in range(500)], True)
    send.stop(10)

    assert len(broker.bulk) == BACKFILL_HINTS


def test_an_edit_is_hinted_however_many_hints_of_a_backfill_wait():
    broker = Broker()
    send = HintSender(broker, lambda: 10 * BACKFILL_HINTS)

    send(["edited"], False)
    send(["scanned"], True)
    send.stop(10)

    assert (broker.live, broker.bulk) == (["edited"], [])


def test_what_comes_in_small_portions_of_a_backfill_is_hinted_together_and_an_edit_does_not_wait_for_it():
    broker = Broker()
    send = HintSender(broker, lambda: 0, gather_s=3600)

    for folder in range(70):
        send([f"{folder}/{number}" for number in range(10)], True)
    send(["edited"], False)
    send.stop(10)

    assert broker.calls == [500, 1, 200]
    assert broker.live == ["edited"]
    assert len(set(broker.bulk)) == 700
