"""`eval` of a model that reads transcripts: nothing is guessed where nothing was said."""

from __future__ import annotations

import json

import pytest
from bench_data import RECORDS, SECONDS, write_benchmark
from conftest import make_audio
from spoken import Imagining

from speechprune_cli.backends import load_backend
from speechprune_cli.bench.store import Run
from speechprune_cli.config import resolve_model
from speechprune_cli.flow import SAMPLE_RATE
from speechprune_cli.main import main
from speechprune_cli.pipeline import NO_WORDS, Session
from speechprune_cli.transcripts.piece import Piece

WORDLESS = {record["id"] for record in RECORDS if SECONDS[record["audio"]] < 10}
CONDITIONS = {"full", "original", "silence", "uniform 50%"}


class Choosy(Imagining):
    """Hears no words in what is short, and does not trust the first second of what is long."""

    def transcribe(self, samples, language=None, on_progress=lambda _: None, done=()):
        for piece in super().transcribe(samples, "de"):
            if len(samples) < 10 * SAMPLE_RATE:
                yield Piece(piece.start, piece.end)
            else:
                words = piece.words[3:]
                yield Piece(piece.start, piece.end, words, ((0.0, 1.0),), piece.language)


def test_a_language_that_the_reader_is_not_known_to_read_is_a_doubt(tiny_transcriber, imagining):
    preset = resolve_model(str(tiny_transcriber))
    reader = preset.reader.model_copy(update={"languages": ("en", "zh")})
    session = Session(load_backend(preset.model_copy(update={"reader": reader})))
    for language, doubts in (("de", 1), ("en", 0)):
        session.model.hear(language)
        found = session.doubts(session.encode(make_audio(3)))
        assert len(found) == doubts
        assert all("not known to read 'de'" in doubt for doubt in found)


@pytest.mark.slow
@pytest.mark.parametrize("scoring", ["likelihood", "letter", "generate", "open"])
def test_of_no_words_the_reader_is_not_asked(
    tmp_path, tiny_transcriber, monkeypatch, capfd, scoring
):
    monkeypatch.setattr("speechprune_cli.transcripts.recogniser.Recogniser", Choosy)
    index = write_benchmark(tmp_path)
    asked = ["eval", "jsonl", "--data", index, "-m", tiny_transcriber, "-o", tmp_path / "run"]
    told = ["--method", "uniform", "--keep", "50%", "--scoring", scoring, "--max-new-tokens", "4"]
    assert main([*map(str, asked), *told, "--permute-options"]) == 0
    out, err = capfd.readouterr()
    assert err == (
        "warning: recordings without words: 1 of 3 (counted as wrong, the model is not asked)\n"
        "warning: transcripts with notes on what they lack: 2 of 3 (`notes` in lines.jsonl)\n"
    )
    assert ("count as wrong" in out) == (scoring != "open")
    lines = Run(tmp_path / "run").lines()
    assert {line.condition for line in lines} == CONDITIONS
    for line in lines:
        wordless = line.sample in WORDLESS
        assert (line.total == 0) == wordless
        assert bool(line.notes) == (not wordless)
        if wordless and line.condition != "silence":
            assert (line.correct, line.right) == (0, False)
            assert {(a.text, a.chosen, a.probabilities) for a in line.answers} == {
                (NO_WORDS, None, None)
            }
            assert not line.f1
            assert line.unparsed == (len(line.answers) if line.f1 is None else 0)
        else:
            assert NO_WORDS not in {answer.text for answer in line.answers}
    (first, *_) = json.loads((tmp_path / "run" / "results.json").read_text())
    assert all(0 <= row["accuracy"] <= 1 for row in first["rows"])
