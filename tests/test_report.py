"""Timeline, facts, files and figures, from selections whose every number is known."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_audio
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text
from rich.console import Console

from speechprune_cli.atomic import atomic
from speechprune_cli.errors import SpeechPruneError, UsageError
from speechprune_cli.escaping import printable
from speechprune_cli.flow import SAMPLE_RATE, Audio, AudioTokens, Selection
from speechprune_cli.report import facts, figures, files
from speechprune_cli.report.passages import Passage
from speechprune_cli.report.timeline import LEVELS, Timeline, draw, markers, shares
from speechprune_cli.units import clock, duration


def make_tokens(count: int = 250, width: int = 8) -> AudioTokens:
    starts = torch.arange(count, dtype=torch.float64) / 25
    times = torch.stack([starts, starts + 0.04], dim=1).float()
    embeds = torch.randn(count, width, generator=torch.Generator().manual_seed(0))
    level = torch.zeros(count)
    return AudioTokens(embeds, times, 25.0, count / 25, 0.5, level, level + 1)


def make_selection(kept, count: int = 250, scores=None, budget: int = 200) -> Selection:
    if scores is None:
        scores = torch.arange(count, dtype=torch.float32)
    return Selection(torch.as_tensor(kept), scores, "speechprune", "why", budget, 0.002)


def test_timeline_counts_the_tokens_of_every_second():
    scores = torch.arange(250, dtype=torch.float32)
    scores[:25] = -torch.inf
    timeline = Timeline.of(make_tokens(), make_selection([25, 49, 50, 249], scores=scores))
    assert timeline.tokens.tolist() == [25] * 10
    assert timeline.kept.tolist() == [0, 2, 1, 0, 0, 0, 0, 0, 0, 1]
    assert timeline.scores[0] == 25, "tokens never looked at count as the lowest"
    assert timeline.best() == [1, 9], "by tokens kept, then by score, 3 s apart"
    assert timeline.best(count=1) == [1]


def test_padding_behind_the_end_lies_in_no_second():
    tokens, selection = make_tokens(60), make_selection([10, 59], 60, budget=60)
    times = tokens.times.clone()
    times[50:] = 2.0
    padded = replace(tokens, times=times, seconds=2.0)
    timeline = Timeline.of(padded, selection)
    assert timeline.tokens.tolist() == [25, 25]
    assert timeline.kept.tolist() == [1, 0]


def test_no_second_begins_where_the_recording_has_ended():
    timeline = Timeline.of(replace(make_tokens(60), seconds=2.0), make_selection([59], 60))
    assert (timeline.tokens.tolist(), timeline.kept.tolist()) == ([25, 35], [0, 1])


def test_equal_scores_have_no_best_seconds():
    scores = torch.zeros(250).index_fill_(0, torch.arange(100), 1.0)
    assert Timeline.of(make_tokens(), make_selection(range(100), scores=scores)).best() == []


@settings(deadline=None)
@given(st.lists(st.integers(0, 25), min_size=1, max_size=200), st.integers(1, 200))
def test_shares_are_means_over_the_seconds_below(kept, columns):
    seconds, kept = len(kept), np.array(kept)
    found = shares(Timeline(np.full(seconds, 25), kept, kept * 1.0, ranked=True), columns)
    assert len(found) == columns
    assert ((found >= 0) & (found <= 1)).all()
    assert found.any() == kept.any()
    if seconds % columns == 0:
        np.testing.assert_allclose(found, kept.reshape(columns, -1).mean(1) / 25)
    if columns % seconds == 0:
        np.testing.assert_allclose(found, np.repeat(kept / 25, columns // seconds))


@pytest.mark.parametrize("width", [20, 60, 80, 140])
@pytest.mark.parametrize("count", [1, 40, 2250, 90_000])
def test_drawing_is_as_wide_as_the_window(width, count):
    tokens, selection = make_tokens(count), make_selection([0, count - 1], count)
    strip, *rest = draw(Timeline.of(tokens, selection), tokens.seconds, width).plain.split("\n")
    assert len(strip) == width or width < 30
    assert strip.startswith("00:00 ")
    assert strip.endswith(clock(tokens.seconds))
    assert all(len(line) <= len(strip) for line in rest)


def test_drawing_without_colour_still_tells_kept_from_pruned():
    tokens = make_tokens()
    timeline = Timeline.of(tokens, make_selection(range(50, 75)))
    strip = draw(timeline, tokens.seconds, 52).plain.split("\n")[0].split(" ")[1]
    assert strip == "·" * 8 + LEVELS[-1] * 4 + "·" * 28


def test_a_full_bar_is_the_second_that_keeps_most():
    timeline = Timeline.of(make_tokens(), make_selection([0, 1, 2, 3, 25, 26, 50]))
    assert draw(timeline, 10, 22).plain.split("\n")[0] == "00:00 █▅▃······· 00:10"
    counts = {"kept": timeline.kept.tolist(), "tokens": timeline.tokens.tolist()}
    assert timeline.peak == 4 / 25
    assert facts.bar_phrase(counts) == "█ = 16% of a second"


@settings(deadline=None)
@given(st.lists(st.integers(0, 89), unique=True, max_size=8), st.integers(10, 200))
def test_markers_stay_apart_and_inside(best, columns):
    line = markers(best, 90, columns)
    assert len(line) <= columns
    times = re.findall(r"\d\d:\d\d", line)
    assert line.count("▲") == len(set(times)) == len(times)
    assert len(line) >= 7 * len(times)
    if best and columns >= 20:
        assert clock(best[0]) in line, "the best second comes first"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "00:00"), (59.99, "00:59"), (754, "12:34"), (3600, "1:00:00")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text


def pruning(tokens, budget, kept):
    counts = {"tokens": tokens, "budget": budget, "kept": kept, "share_kept": kept / tokens}
    return {**counts, "rate_of_budget": 1 - kept / budget, "rate_of_recording": 1 - kept / tokens}


@pytest.mark.parametrize(
    ("stages", "tokens", "rates"),
    [
        ((2250, 750, 600), "N 2,250, B1 750, k 600", "27% of the recording kept, 20% of B1 pruned"),
        ((250, 250, 200), "N 250, B1 250, k 200", "80% of the recording kept, 20% of B1 pruned"),
        ((2250, 750, 750), "N 2,250, B1 750, k 750", "33% of the recording kept"),
        ((2250, 750, 900), "N 2,250, B1 750, k 900", "40% of the recording kept"),
        ((2250, 750, 2250), "N 2,250, B1 750, k 2,250", "nothing pruned"),
    ],
)
def test_facts_tell_the_counts_and_the_shares(stages, tokens, rates):
    assert facts.tokens_phrase(pruning(*stages)) == f"{tokens} tokens"
    assert facts.rates_phrase(pruning(*stages)) == rates


def test_the_fields_of_a_selection_say_how_much_is_kept():
    found = facts.describe_pruning(make_tokens(), make_selection([0, 1, 2, 3, 4]), {})
    shares = ("share_kept", "rate_of_recording", "rate_of_budget")
    assert [found[name] for name in shares] == [0.02, 0.98, 0.975]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0000314, "31 µs"), (0.0123, "12 ms"), (3.44, "3.4 s"), (125, "2 min 05 s")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize("width", [30, 60, 80, 200])
def test_facts_break_between_phrases_only(width):
    phrases = ["N 2,250, B1 750, k 600 tokens", "encode 2.1 s", "prune 4 ms", "peak 1.20 GiB"]
    lines = facts.facts_text(phrases, width).plain.split("\n")
    assert [phrase for line in lines for phrase in line.split(" · ")] == phrases
    assert all(len(line) <= width for line in lines)


def test_choices_show_every_option_and_stress_the_likeliest():
    console = Console(file=io.StringIO(), width=60, force_terminal=True, no_color=True)
    text = facts.choices_text({"on Monday": 0.03, "on [b]Friday": 0.97}, 60)
    console.print(text)
    shown = console.file.getvalue()
    assert "on Monday       3%" in shown
    assert "\033[1mon [b]Friday   97%" in shown


def write_half(target, error):
    with atomic(target) as temporary:
        temporary.write_text("half")
        raise error


def test_atomic_file_is_whole_or_as_before(tmp_path):
    target = tmp_path / "kept.txt"
    target.write_text("before")
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error):
            write_half(target, error)
        assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"]
        assert target.read_text() == "before"
    with atomic(target) as temporary:
        assert temporary.suffix == ".txt"
        temporary.write_text("after")
    assert target.read_text() == "after"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_is_one_line(tmp_path):
    with (
        pytest.raises(SpeechPruneError, match=r"cannot write .*kept\.png: No space left"),
        atomic(tmp_path / "kept.png"),
        Path("/dev/full").open("w") as full,
    ):
        full.write("x" * 100_000)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("kept.zip", "has to end in .safetensors"), ("no/kept.safetensors", "there is no folder")],
)
def test_destinations_are_checked(tmp_path, name, complaint):
    with pytest.raises(UsageError, match=complaint):
        files.check_destination(tmp_path / name, "--output", (".safetensors",))
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(UsageError, match="that is a folder"):
        files.check_destination(tmp_path / "folder.safetensors", "-o", (".safetensors",))


def test_saved_selection_reads_back(tmp_path):
    from safetensors import safe_open

    tokens, selection = make_tokens(), make_selection([3, 4, 9])
    path = tmp_path / "kept.safetensors"
    files.save_selection(path, tokens, selection, {"question": "Où?", "pruning": {"kept": 3}})
    with safe_open(path, "pt") as saved:
        assert torch.equal(saved.get_tensor("embeds"), tokens.embeds[[3, 4, 9]])
        assert saved.get_tensor("indices").tolist() == [3, 4, 9]
        assert torch.equal(saved.get_tensor("times"), tokens.times[[3, 4, 9]])
        assert torch.equal(saved.get_tensor("scores"), selection.scores)
        metadata = {key: json.loads(value) for key, value in saved.metadata().items()}
    assert metadata == {"question": "Où?", "pruning": {"kept": 3}}


def test_excerpt_is_what_is_kept_without_clicks():
    tokens, selection = make_tokens(), make_selection([0, 1, 2, 10, 249])
    runs = files.spans(tokens, selection)
    assert np.allclose(runs, [(0, 0.12), (0.4, 0.44), (9.96, 10)])
    ones = np.ones(10 * SAMPLE_RATE, np.float32)
    heard = files.excerpt(Audio(ones, "x.wav", "", SAMPLE_RATE, 1, 10.0), runs)
    assert len(heard) == 5 * SAMPLE_RATE // 25
    assert heard.dtype == np.float32
    assert np.abs(np.diff(heard)).max() < 0.02
    assert heard.max() == 1
    assert (ones == 1).all(), "the recording itself is left alone"


@pytest.mark.parametrize(
    ("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")]
)
def test_timeline_figure(tmp_path, suffix, magic):
    path = tmp_path / f"timeline{suffix}"
    audio, said = make_audio(10), [Passage(0.0, 2.4, "It costs $5 or _$6_.")]
    selection = make_selection(range(60))
    figures.save_timeline(path, audio, make_tokens(), selection, "A $5 question_?", said)
    assert path.read_bytes().startswith(magic)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", figures.FORMATS)
@pytest.mark.parametrize(
    "text",
    ["does it cost $5 or $10?", r"is $\foo$ bad", "b\udcff\x1b[31m", "_a_ ^b^ {", "何時ですか"],
)
def test_figures_draw_any_text_as_it_is(text, suffix, tmp_path, caplog, recwarn):
    from matplotlib.figure import Figure

    figure = Figure()
    axes = figure.subplots()
    axes.semilogx([1, 1000], [0, 1], label="a line")
    axes.set(title=text, xlabel=text)
    axes.legend(title=text)
    figure.suptitle(text)
    figures.write(figure, tmp_path / f"figure{suffix}")
    told = {each.get_text(): each.get_parse_math() for each in figure.findobj(Text)}
    assert told[printable(text)] is False
    assert told["$\\mathdefault{10^{2}}$"] is True, "ticks are matplotlib's own"
    assert [each.name for each in tmp_path.iterdir()] == [f"figure{suffix}"]
    assert len(caplog.records) == text.isalpha()
    assert not len(recwarn)


@pytest.mark.parametrize("count", [1, 60])
def test_tsne_figure(tmp_path, count):
    pytest.importorskip("sklearn")
    path = tmp_path / "tsne.png"
    tokens, selection = make_tokens(count), make_selection([0], count)
    figures.save_tsne(path, tokens, selection, torch.randn(4, 8), question="Q?", seed=0)
    assert path.read_bytes().startswith(b"\x89PNG")
