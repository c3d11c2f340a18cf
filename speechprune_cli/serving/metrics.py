"""What a server counts, for Prometheus."""

from __future__ import annotations

from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from speechprune_cli.serving.answering import Answering
from speechprune_cli.serving.line import Line

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
STEPS = ("encode", "prune", "prefill", "decode")


class Metrics:
    """All series of one server."""

    def __init__(self, line: Line, answering: Answering) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        made: dict[str, Any] = {"registry": self.registry, "namespace": "speechprune"}
        self.requests = Counter("requests", "By path and HTTP status.", ["path", "status"], **made)
        self.seconds = Histogram(
            "request_seconds",
            "From a request's head to its end.",
            ["path"],
            buckets=SECONDS,
            **made,
        )
        self.steps = Counter("step_seconds", "In the model, by step.", ["step"], **made)
        self.heard = Counter("recording_seconds", "Of the recordings asked about.", **made)
        self.audio = Counter("audio_tokens", "Whole, and kept.", ["part"], **made)
        self.text = Counter("text_tokens", "Of the prompts read.", **made)
        self.new = Counter("new_tokens", "Generated.", **made)
        self.encoded = Counter(
            "recordings", "Asked about, by where their tokens came from.", ["origin"], **made
        )
        waiting = Gauge("waiting_requests", "Not yet begun.", **made)
        waiting.set_function(lambda: len(line.waiting))
        running = Gauge("running_requests", "In the model.", **made)
        running.set_function(lambda: len(line.running))
        remembered = Gauge("remembered_bytes", "Of encoded recordings in memory.", **made)
        remembered.set_function(lambda: answering.remembered.bytes)

    def answered(self, fields: dict[str, Any]) -> None:
        """Count an answer in."""
        seconds, prompt = fields["seconds"], fields["prompt"]
        cached = seconds["encode_cached"]
        for step in STEPS:
            if step != "encode" or not cached:
                self.steps.labels(step).inc(seconds[step])
        self.encoded.labels("remembered" if cached else "encoded").inc()
        self.heard.inc(fields["audio"]["source_seconds"])
        self.audio.labels("whole").inc(fields["pruning"]["tokens"])
        self.audio.labels("kept").inc(prompt["audio_tokens"])
        self.text.inc(prompt["text_tokens"])
        self.new.inc(fields["new_tokens"])

    def text_format(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self.registry)
