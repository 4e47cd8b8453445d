"""The metrics page: figures of the ledger and the broker in Prometheus' text format.

Nothing is counted in the api's memory, so every replica tells the same, and a restart loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from workers.contract.states import State
from workers.housekeeping.findings import Kind

STAGES = ("parse", "reconcile", "store", "embed")


class Figures(Collector):
    """What one scrape tells."""

    def __init__(self, status: dict[str, Any], counters: dict[str, float]) -> None:
        self._status = status
        self._counters = counters

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield from self._documents()
        yield from self._queues()
        yield from self._work()
        yield from self._processes()
        yield from self._audits()

    def _documents(self) -> Iterator[Metric]:
        documents = GaugeMetricFamily("upwell_documents", "Documents by state.", labels=["state"])
        for state in State:
            documents.add_metric([state.value], self._status["documents"].get(state.value, 0))
        yield documents
        yield GaugeMetricFamily("upwell_chunks", "Chunks stored.", value=self._status["chunks"])
        pending = self._status["embeddings_pending"]
        yield GaugeMetricFamily("upwell_embeddings_pending", "Chunks without a dense vector.", value=pending)
        yield GaugeMetricFamily("upwell_converged", "1: nothing is left to do.", value=float(self._status["converged"]))
        alarms = GaugeMetricFamily("upwell_source_alarm", "1: the source is not being followed.", labels=["source"])
        for source in self._status["sources"]:
            alarms.add_metric([source["name"]], float(source["alarm"] is not None))
        yield alarms

    def _queues(self) -> Iterator[Metric]:
        length = GaugeMetricFamily("upwell_queue_length", "Hints waiting.", labels=["queue"])
        age = GaugeMetricFamily("upwell_queue_oldest_age_seconds", "Age of the oldest hint.", labels=["queue"])
        for name, queue in self._status["queues"].items():
            if queue is None:
                continue
            length.add_metric([name], queue["length"])
            if queue["oldest_age_s"] is not None:
                age.add_metric([name], queue["oldest_age_s"])
        yield length
        yield age

    def _work(self) -> Iterator[Metric]:
        seconds = CounterMetricFamily("upwell_stage_seconds", "Seconds spent in a stage.", labels=["stage"])
        count = CounterMetricFamily("upwell_stage_documents", "Documents that passed a stage.", labels=["stage"])
        for stage in STAGES:
            seconds.add_metric([stage], self._counters.get(f"stage.{stage}.seconds", 0.0))
            count.add_metric([stage], self._counters.get(f"stage.{stage}.count", 0.0))
        yield seconds
        yield count
        for name, text in (
            ("tokens", "Tokens sent to the embedding endpoint."),
            ("requests", "Requests to the embedding endpoint."),
            ("texts", "Texts embedded."),
            ("refused", "Texts that the endpoint refused."),
        ):
            yield CounterMetricFamily(
                f"upwell_embedding_{name}", text, value=self._counters.get(f"embedding.{name}", 0.0)
            )

    def _processes(self) -> Iterator[Metric]:
        age = GaugeMetricFamily("upwell_process_beat_age_seconds", "Seconds since a process beat.", labels=["process"])
        dirty = GaugeMetricFamily(
            "upwell_watcher_dirty", "Paths that a watcher has still to settle.", labels=["process"]
        )
        for process in self._status["processes"]:
            age.add_metric([process["name"]], process["age_s"])
            if process["kind"] == "watcher":
                dirty.add_metric([process["name"]], float(process["info"].get("dirty", 0)))
        yield age
        yield dirty
        away = GaugeMetricFamily(
            "upwell_breaker_open", "1: index workers leave this server alone for a while.", labels=["server"]
        )
        for name, told in self._status["breakers"].items():
            away.add_metric([name], float(told["state"] != "closed"))
        yield away
        if (disk := self._status["disk"]) is not None:
            yield GaugeMetricFamily(
                "upwell_disk_free_bytes", "Bytes free on the disk of the data directory.", value=disk["free_bytes"]
            )

    def _audits(self) -> Iterator[Metric]:
        """The last audit; findings that are left are what somebody should look at."""
        audit = self._status["audit"]
        found = GaugeMetricFamily(
            "upwell_audit_findings", "Documents in which the last audit found something.", labels=["kind"]
        )
        left = GaugeMetricFamily(
            "upwell_audit_findings_left", "Findings of the last audit that are left.", labels=["kind"]
        )
        for kind in Kind:
            found.add_metric([kind.value], audit["found"].get(kind.value, 0))
            left.add_metric([kind.value], audit["left"].get(kind.value, 0))
        yield found
        yield left
        yield GaugeMetricFamily(
            "upwell_audit_documents", "Documents that the last audit compared.", value=audit["documents"]
        )
        yield GaugeMetricFamily("upwell_audit_points", "Points that the last audit compared.", value=audit["points"])
        yield GaugeMetricFamily("upwell_audit_running", "1: an audit is being done.", value=float(audit["running"]))
        if audit["finished_at_s"] is not None:
            yield GaugeMetricFamily(
                "upwell_audit_finished_timestamp_seconds", "When the last audit ended.", value=audit["finished_at_s"]
            )
            failed = float(audit["failed"] is not None)
            yield GaugeMetricFamily("upwell_audit_failed", "1: the last audit could not be done.", value=failed)


def render(status: dict[str, Any], counters: dict[str, float]) -> bytes:
    """Return the page."""
    registry = CollectorRegistry()
    registry.register(Figures(status, counters))
    return generate_latest(registry)
