"""`cue`: what it must find, and what must not distract it."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pruning_tasks import pruning_task

from speechprune_cli import load
from speechprune_cli.bench.tasks import load_task
from speechprune_cli.bench.verdict import recall
from speechprune_cli.flow import PruningTask
from speechprune_cli.pruners import get_pruner
from speechprune_cli.pruners._passages import best_stretch, evenly_behind, keep_whole
from speechprune_cli.pruners._segments import SHORTEST, quiet_segments

SEGMENT = 50
SPEECH, SILENCE = -20.0, -80.0


def spoken(places: dict[int, int], *, segments: int = 40, keep: int = 100) -> PruningTask:
    """Segments of 2 s with silence before each; `places`: which question token is heard where."""
    task = pruning_task(n=segments * SEGMENT, length=4, width=256, heads=(4, 4), keep=keep)
    embeds, loudness = task.tokens.embeds.clone(), torch.full((segments * SEGMENT,), SPEECH)
    for token in (-1, 0, 1):
        loudness[(torch.arange(segments) * SEGMENT + token).clamp_min(0)] = SILENCE
    for segment, word in places.items():
        embeds[segment * SEGMENT + 20] = 2 * task.text[word]
    tokens = dataclasses.replace(task.tokens, embeds=embeds, loudness=loudness)
    return dataclasses.replace(task, tokens=tokens)


def share_kept(task: PruningTask, **options: float) -> list[float]:
    """Of every segment."""
    kept = get_pruner("cue", **{"longest": 4.4} | options).select(task).kept
    segments = len(task.tokens) // SEGMENT
    return (torch.bincount(kept // SEGMENT, minlength=segments) / SEGMENT).tolist()


@pytest.mark.parametrize("where", [0, 17, 39])
def test_the_segment_that_holds_a_word_of_the_question_is_kept_whole(where: int) -> None:
    assert share_kept(spoken({where: 0}))[where] == 1


def test_both_parts_of_a_question_are_kept_though_one_is_repeated() -> None:
    task = spoken({5: 0, 6: 0, 30: 1, 31: 1, 32: 1, 33: 1})
    both = share_kept(task, reach=0)
    assert max(both[5:7]) == max(both[30:34]) == 1


def test_a_word_that_is_heard_everywhere_says_nothing() -> None:
    everywhere = dict.fromkeys(range(40), 2)
    task = spoken(everywhere)
    task.tokens.embeds[11 * SEGMENT + 30] = 2 * task.text[0]
    assert share_kept(task)[11] == 1


def test_words_in_a_row_beat_the_same_words_apart() -> None:
    task = spoken({3: 0, 4: 1, 8: 0, 9: 1, 25: 0}, keep=SEGMENT)
    task.tokens.embeds[25 * SEGMENT + 24] = 2 * task.text[1]
    assert share_kept(task)[25] == 1


def test_the_next_segment_counts_more_than_the_one_before() -> None:
    """What is asked for often follows the words of the question."""
    shares = share_kept(spoken({20: 0}, keep=2 * SEGMENT), reach=1)
    assert shares[20] == shares[21] == 1


def test_a_segment_that_does_not_fit_is_thinned_evenly() -> None:
    """Neighbouring tokens say the same: half of them say more than one half."""
    kept = get_pruner("cue", longest=4.4).select(spoken({20: 0}, keep=SEGMENT // 2)).kept
    assert set((kept // SEGMENT).tolist()) == {20}
    assert set(kept.diff().tolist()) == {2}


def test_what_is_not_spent_on_passages_is_spread_evenly() -> None:
    task = spoken({20: 0}, keep=400)
    shares = share_kept(task)
    assert shares[20] == 1
    assert min(shares) > 0.1


@pytest.mark.parametrize("options", [0, 90])
@pytest.mark.parametrize("seed", range(5))
def test_embeddings_that_are_not_aligned_are_noticed_and_kept_evenly(
    seed: int, options: int
) -> None:
    task = pruning_task(n=2000, length=7 + options, width=256, keep=200, seed=seed)
    task = dataclasses.replace(task, question_length=7)
    selection = get_pruner("cue", longest=4.4).select(task)
    assert "little in the recording stands out" in selection.warning
    assert torch.bincount(selection.kept // 200, minlength=10).min() > 0


@pytest.mark.parametrize("segments", [8, 15])
def test_in_short_sound_too_the_word_of_the_question_is_found(segments: int) -> None:
    """16 and 30 s, with the default settings."""
    task = spoken({2: 0, 3: 1}, segments=segments, keep=2 * SEGMENT)
    selection = get_pruner("cue").select(task)
    assert selection.warning == ""
    around = torch.arange(2 * SEGMENT + 15, 3 * SEGMENT + 25)
    assert torch.isin(around, selection.kept).float().mean() > 0.6


def test_the_best_sentence_is_kept_however_little_it_stands_out() -> None:
    """Ten sentences, of which the longest holds the one word: evidence is thin."""
    task = in_sentences([12] * 4 + [22] + [12] * 5, {4: 0}, keep=24)
    kept = get_pruner("cue").select(task).kept
    assert set(range(48, 70)) <= set(kept.tolist())


def test_where_no_word_fits_the_best_passage_is_cut_all_the_same() -> None:
    words = torch.arange(12).repeat_interleave(30)
    order = torch.tensor([5, *(n for n in range(12) if n != 5)])
    taken = keep_whole(order, words, words, torch.zeros(360), 20)
    assert taken.nonzero().flatten().tolist() == list(range(150, 170))


def test_what_stands_out_is_no_reason_to_warn() -> None:
    assert get_pruner("cue", longest=4.4).select(spoken({17: 0, 18: 1})).warning == ""


@settings(derandomize=True, deadline=None, max_examples=50)
@given(
    loudness=st.lists(st.floats(-100, 0), min_size=1, max_size=600),
    per_second=st.sampled_from([25, 12.5, 3]),
    longest=st.sampled_from([4.4, 10.0]),
)
def test_segments_are_of_the_length_asked_for(
    loudness: list[float], per_second: float, longest: float
) -> None:
    segments = quiet_segments(torch.tensor(loudness), per_second, longest)
    steps = {int(after - before) for before, after in pairwise(segments)}
    assert int(segments[0]) == 0
    assert steps <= {0, 1}
    sizes = segments.bincount().tolist()
    assert max(sizes) <= round(longest * per_second)
    assert all(size >= round(SHORTEST * longest * per_second) for size in sizes[:-1])


def test_borders_fall_into_silence() -> None:
    loudness = torch.full((300,), SPEECH)
    pauses = (70, 150, 220)
    for pause in pauses:
        loudness[pause - 2 : pause + 3] = SILENCE
    borders = quiet_segments(loudness, 25, 4.4).diff().nonzero().flatten() + 1
    assert all(abs(found - pause) <= 1 for found, pause in zip(borders, pauses, strict=True))


@pytest.mark.slow
def test_on_speech_it_finds_the_sentence_that_answers() -> None:
    """Two recordings of the embedded benchmark, at a fifteenth of their tokens."""
    session = load("nano")
    samples = load_task("spiral-nano", None, offline=True).samples[:4]
    found = []
    for sample in samples:
        tokens = session.encode(sample.audio)
        kept = session.prune(tokens, sample.question, method="cue", keep=150).kept
        found.append(recall(sample.key_span, tokens.times, kept) or 0)
    assert sum(found) / len(found) > 0.5


def in_sentences(sizes: list[int], places: dict[int, int], keep: int) -> PruningTask:
    """Sentences of so many tokens; `places`: which question token is said in which sentence."""
    task = pruning_task(n=sum(sizes), length=4, width=256, keep=keep)
    numbers = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    embeds = task.tokens.embeds.clone()
    for sentence, word in places.items():
        embeds[int((numbers == sentence).nonzero()[0])] = 2 * task.text[word]
    tokens = dataclasses.replace(task.tokens, embeds=embeds, sentences=numbers)
    return dataclasses.replace(task, tokens=tokens)


def test_sentences_are_kept_whole_and_the_last_one_around_what_matches() -> None:
    sizes = [7, 12, 3, 20, 9, 15, 4, 11] * 4
    task = in_sentences(sizes, {5: 0, 18: 1}, keep=40)
    kept = get_pruner("cue").select(task).kept
    assert len(kept) == 40
    said = torch.bincount(task.tokens.sentences[kept], minlength=len(sizes)).tolist()
    whole = [n for n, (count, size) in enumerate(zip(said, sizes, strict=True)) if count == size]
    cut = [n for n, (count, size) in enumerate(zip(said, sizes, strict=True)) if 0 < count < size]
    assert {5, 18} <= {*whole, *cut}
    assert len(cut) <= 1
    for number in cut:
        inside = kept[task.tokens.sentences[kept] == number]
        assert inside.diff().eq(1).all()


def test_of_a_sentence_that_is_too_long_what_matches_is_kept() -> None:
    task = in_sentences([10, 60, 10], {}, keep=12)
    task.tokens.embeds[10 + 45] = 2 * task.text[0]
    task.tokens.embeds[10 + 47] = 2 * task.text[1]
    kept = get_pruner("cue").select(task).kept.tolist()
    assert {55, 57} <= set(kept)
    assert kept == list(range(kept[0], kept[0] + 12))


def test_of_stretches_that_match_alike_the_longest_is_kept_then_the_first() -> None:
    """In whatever order their matches are summed."""
    matches = torch.tensor([0.1, 0.2, 0.3, 0, 0, 0, 0, 0.6, 0, 0])
    assert best_stretch(matches, torch.arange(10), 5) == (0, 5)
    words = torch.tensor([0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 4])
    assert best_stretch(torch.zeros(11), words, 7) == (4, 11), "the longest where nothing matches"


def test_a_question_about_the_whole_gets_sentences_from_all_over() -> None:
    """Words of the question that stand out nowhere are no reason to read one place."""
    task = in_sentences([10] * 60, {}, keep=80)
    selection = get_pruner("cue").select(task)
    assert "it asks about the whole, or is not answered there" in selection.warning
    said = task.tokens.sentences[selection.kept].bincount(minlength=60)
    assert said[0] == said[59] == 10, "the beginning and the end"
    assert all(said[part : part + 20].sum() >= 20 for part in (0, 20, 40))
    found = get_pruner("cue").select(in_sentences([10] * 60, {7: 0, 8: 1}, keep=80))
    assert found.warning == ""
    assert set(range(70, 90)) <= set(found.kept.tolist())


@settings(derandomize=True, deadline=None, max_examples=50)
@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=40), budget=st.floats(0, 200))
def test_what_is_spread_comes_behind_what_fits(sizes: list[int], budget: float) -> None:
    order = torch.randperm(len(sizes), generator=torch.Generator().manual_seed(len(sizes)))
    spread = evenly_behind(order, torch.tensor(sizes), budget)
    assert sorted(spread.tolist()) == list(range(len(sizes)))
    fitting = max(1, int((torch.tensor(sizes)[order].cumsum(0) <= budget).sum()))
    assert torch.equal(spread[:fitting], order[:fitting])


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    words=st.lists(st.integers(1, 4), min_size=12, max_size=60),
    said=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    share=st.floats(0, 1),
    seed=st.integers(0, 99),
)
def test_no_word_is_cut_as_long_as_others_fit(
    words: list[int], said: list[int], share: float, seed: int
) -> None:
    """`words`: tokens of each; `said`: words of each sentence, the last has those that are left."""
    of_word = torch.arange(len(words)).repeat_interleave(torch.tensor(words))
    borders = torch.tensor(said).cumsum(0)
    sentence = torch.bucketize(of_word, borders, right=True).clamp_max(len(said) - 1)
    sentence = torch.unique(sentence, return_inverse=True)[1]
    worth = torch.rand(int(sentence[-1]) + 1, generator=torch.Generator().manual_seed(seed))
    keep = max(1, round(share * len(of_word)))
    matches = torch.rand(len(of_word), generator=torch.Generator().manual_seed(seed))
    order = worth.argsort(descending=True)
    taken = keep_whole(order, sentence, of_word, matches, keep)
    assert int(taken.sum()) == keep
    cut = {int(word) for word in of_word[taken]} & {int(word) for word in of_word[~taken]}
    assert len(cut) <= 1
    first = sentence == int(worth.argmax())
    assert taken[first].all() or int(first.sum()) > keep
