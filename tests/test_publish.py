"""Recordings written as benchmarks are read back as they were."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import pytest

from speechprune_cli.audio import load_audio
from speechprune_cli.bench import tasks
from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.training.publish import publish
from speechprune_cli.training.spiral import speak_records
from speechprune_cli.training.splicing import Question, SplicedRecording

SPIRAL = Path(__file__).parents[2] / "shared" / "data" / "spiral_sample.jsonl"


@pytest.fixture
def recording():
    moments = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    samples = (0.1 * np.sin(2 * np.pi * (200 + 100 * moments) * moments)).astype(np.float32)
    options = ("on Monday", "on Friday", "in May", "never")
    question = Question("When is it?", "on Friday", options, "deadline", 1.25, 2.5)
    return SplicedRecording(samples, "lecture", ("It is on Friday.", "Well."), (question, question))


@pytest.mark.parametrize("opus", [False, True])
def test_a_published_benchmark_is_read_back(opus, recording, tmp_path):
    assert publish([recording, recording], tmp_path, opus=opus) == 4
    loaded = tasks.load_task("jsonl", tmp_path / "index.jsonl", offline=True)
    assert [sample.id for sample in loaded.samples] == ["000-0", "000-1", "001-0", "001-1"]
    sample = loaded.samples[2]
    assert (sample.question, sample.answer) == ("When is it?", "on Friday")
    assert sample.options == recording.questions[0].options
    assert sample.key_span == (1.25, 2.5)
    assert sample.transcript == "It is on Friday. Well."
    heard = load_audio(sample.audio).samples
    assert len(heard) == len(recording.samples)
    loud = np.abs(np.fft.rfft(heard[:SAMPLE_RATE]))
    meant = np.abs(np.fft.rfft(recording.samples[:SAMPLE_RATE]))
    assert np.corrcoef(loud, meant)[0, 1] > 0.9


@dataclass
class Humming:
    """A synthesizer whose every sentence and voice sounds different."""

    voices: tuple[str, ...] = ("low", "middle", "high", "higher", "shrill")
    said: list[tuple[str, str]] = field(default_factory=list)

    def say(self, text: str, voice: str, speed: float) -> tuple[np.ndarray, int]:
        """Noise that only this text and voice make."""
        self.said.append((voice, text))
        noise = np.random.default_rng(abs(hash((text, voice)))).standard_normal(12_000)
        return (0.1 * noise).astype(np.float32), 24_000


@pytest.mark.skipif(not SPIRAL.exists(), reason="SPIRAL's records are not here")
def test_spoken_records_are_what_the_loader_of_spiral_wants(tmp_path):
    engine = Humming()
    index = tmp_path / "three.jsonl"
    lines = SPIRAL.read_text(encoding="utf-8").splitlines()
    index.write_text("\n".join(Random(0).sample(lines, 3)) + "\n", encoding="utf-8")
    assert speak_records(index, engine, engine.voices, tmp_path / "spoken") == 3
    samples = tasks.load_task("spiral", tmp_path / "spoken", offline=True).samples
    for sample, line in zip(samples, index.read_text(encoding="utf-8").splitlines(), strict=True):
        record = json.loads(line)
        sentences = record["audio_data"]["combined"]["sentences"]
        first, last = record["audio_data"]["key_sentences"]["indices"]
        start, end = sample.key_span
        seconds = load_audio(sample.audio).seconds
        assert seconds > 0.5 * len(sentences)
        assert 0 <= start < end <= seconds + 0.01
        assert (last - first) * 0.5 <= end - start <= (last - first) * 1.2
    spoken = len(engine.said)
    speak_records(index, engine, engine.voices, tmp_path / "spoken")
    assert len(engine.said) == spoken
