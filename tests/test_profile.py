"""What `profile` counts: lengths, architectures of any model, growth, and what fits."""

from __future__ import annotations

import csv
import io
import json

import pytest
from conftest import make_audio
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig

from speechprune_cli.backends import FAMILIES
from speechprune_cli.config import load_preset, resolve_model
from speechprune_cli.errors import ModelError, UsageError
from speechprune_cli.methods import FULL, Amount, grid
from speechprune_cli.pipeline import load
from speechprune_cli.profiler import counted
from speechprune_cli.profiler.architecture import shape_of
from speechprune_cli.profiler.setting import Setting, parse_memory
from speechprune_cli.pruners import PRUNERS
from speechprune_cli.report.profile_tables import counted_tables
from speechprune_cli.table import csv as csv_of
from speechprune_cli.units import length

PRESET = load_preset("qwen2-audio")
QWEN, NANO = shape_of(PRESET), shape_of(load_preset("nano"))


def setting(*rates, method="speechprune", **others):
    """Of one method at these rates."""
    return Setting(specs=grid([method], [Amount(rate=rate) for rate in rates]), **others)


@pytest.mark.parametrize("seconds", [0.1, 0.33, 1.0, 11.3, 30.0, 30.01, 71.3])
def test_tokens_are_those_that_the_model_makes(tiny_model_folder, seconds):
    session = load(str(tiny_model_folder), cache=False)
    assert NANO.audio_tokens(seconds) == len(session.encode(make_audio(seconds)))


def test_the_defaults_are_the_paper_s_setting():
    loads = {load.name: load for load in Setting().loads(QWEN)}
    assert [loads[f"speechprune {r}"].length for r in ("0", "0.2", "0.4", "0.6", "0.8")] == [
        857, 707, 557, 407, 257,
    ]  # fmt: skip
    assert "silence" not in loads


def test_longer_recordings_are_pruned_to_the_same_budget():
    loads = {load.name: load for load in setting(0.8, seconds=90).loads(QWEN)}
    assert (loads["full"].kept, loads["original"].kept) == (2250, 750)
    assert loads["speechprune 0.8"].kept == 150
    assert (loads["full"].heard_seconds, loads["original"].heard_seconds) == (90, 30)


def test_original_is_the_first_window_whatever_the_budget():
    for budget in (40, "all"):
        loads = {load.name: load for load in Setting(seconds=90, budget=budget).loads(QWEN)}
        assert (loads["original"].kept, loads["original"].heard) == (750, 750)


@pytest.mark.parametrize(
    "wrong",
    [{"seconds": -1.0}, {"seconds": 0.0}, {"seconds": float("nan")}, {"seconds": 36_001.0}],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(UsageError, match="--seconds"):
        Setting(**wrong)


@pytest.mark.parametrize(
    ("text", "size"),
    [("24GB", 24e9), ("16 GiB", 16 * 2**30), ("500mb", 5e8), ("1.5tb", 1.5e12)],
)
def test_sizes_of_memory(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["24", "GB", "-1GB", "24 apples", "0GB", ""])
def test_sizes_without_sense_are_refused(text):
    with pytest.raises(UsageError, match="24GB"):
        parse_memory(text)


def folder_of(tmp_path, family, **changes):
    config = AutoConfig.for_model(family, **changes)
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict(), default=str))
    return resolve_model(str(tmp_path))


def test_a_folder_with_nothing_but_a_config_is_counted_like_its_preset(tmp_path):
    preset = folder_of(
        tmp_path,
        "qwen2_audio",
        text_config=QWEN.decoder.model_dump(),
        audio_config=QWEN.encoder.model_dump(),
    )
    found = shape_of(preset)
    assert (found.decoder, found.encoder, found.family) == (QWEN.decoder, QWEN.encoder, QWEN.family)
    assert found.parameters == QWEN.parameters == 8_397_094_912
    rows = [counted.paper_counts(shape, Setting()) for shape in (found, QWEN)]
    assert rows[0] == rows[1]


def test_voxtral_is_counted_by_its_own_rules(tmp_path):
    """Its configuration's defaults are those of the published Mini 3B."""
    found = shape_of(folder_of(tmp_path, "voxtral", audio_token_id=24))
    assert (found.input_tokens, found.encoder.per_second) == (375, 12.5)
    assert [found.audio_tokens(seconds) for seconds in (1, 30, 30.01, 90)] == [375, 375, 750, 1125]
    assert found.decoder.num_key_value_heads == 8
    assert "no input length of its own" in found.budget_reason
    whisper = QWEN.encoder.flops(30, 0) - QWEN.encoder.projector_flops(0)
    projector = found.encoder.projector_flops(found.decoder.hidden_size)
    assert found.encoder.flops(30, found.decoder.hidden_size) == whisper + projector


def test_decoders_that_the_formulas_do_not_describe_are_refused(tmp_path):
    odd = {"model_type": "phi", "num_hidden_layers": 1, "hidden_size": 64}
    preset = folder_of(tmp_path, "qwen2_audio", text_config=odd)
    with pytest.raises(ModelError, match="no such decoder can be counted yet"):
        shape_of(preset)


@pytest.mark.parametrize("family", ["phi", "mixtral", "whisper"])
def test_families_that_nobody_knows_are_refused(tmp_path, family):
    with pytest.raises(ModelError, match=f"is a '{family}' model: expected .*qwen2_audio"):
        shape_of(folder_of(tmp_path, family))


@pytest.mark.parametrize("text", [None, "{", "[]", '{"model_type": "nonsense"}'])
def test_what_is_no_configuration_is_one_clear_line(tmp_path, text):
    if text is not None:
        (tmp_path / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json|nonsense") as error:
        shape_of(resolve_model(str(tmp_path)))
    assert "\n" not in str(error.value)


def test_stages_add_up_and_pruning_has_its_price():
    rows = {row.condition: row for row in counted.compute(QWEN, Setting(seconds=90))}
    full, pruned = rows["full"], rows["speechprune 0.8"]
    assert full.pruning == 0
    assert 0 < pruned.pruning < 0.01 * full.prefill
    assert full.encoder == pruned.encoder == pytest.approx(6.84, abs=0.01)
    assert rows["original"].encoder == pytest.approx(2.28, abs=0.005)
    assert full.layers + full.attention == pytest.approx(33.5 + 2.9 - 2.357 * 1.278, abs=0.1)
    assert pruned.total == pytest.approx(
        pruned.encoder + pruned.pruning + pruned.layers + pruned.attention + pruned.head
    )


def test_a_batch_encodes_once_and_answers_each():
    one, four = (counted.compute(QWEN, Setting(batch_size=n, output_tokens=9))[-1] for n in (1, 4))
    assert four.encoder == one.encoder
    for stage in ("pruning", "layers", "attention", "head", "decode"):
        assert getattr(four, stage) == pytest.approx(4 * getattr(one, stage))


def test_a_method_that_is_not_counted_is_said_to_be_so():
    asked = setting(0.2, method="atome")
    row = counted.compute(QWEN, asked)[-1]
    assert row.pruning is None
    [_, compute, *_] = counted_tables(QWEN, asked, "bfloat16", None)
    assert "not counted" in compute.plain()


@pytest.mark.slow
@given(st.floats(1, 36_000), st.floats(1, 36_000))
def test_memory_never_shrinks_with_the_length(first, second):
    short, long = sorted((first, second))
    pruned = [*setting(0.2).specs, *setting(0.8, method="phase2").specs]
    for condition in (FULL, *pruned):
        peaks = [
            counted.peak_bytes(QWEN, Setting(), Setting().load(QWEN, condition, s), "nf4")
            for s in (short, long)
        ]
        assert peaks[0] <= peaks[1]


def test_the_longest_recording_just_fits():
    asked = setting(0.2)
    by_dtype = {found.dtype: found for found in counted.longest(QWEN, asked, 24e9)}
    assert by_dtype["float32"].seconds == {"full": None, "speechprune 0.2": None}
    longest = by_dtype["bfloat16"].seconds
    assert longest["full"] < 600
    assert longest["speechprune 0.2"] > 20_000
    for name, seconds in longest.items():
        spec = FULL if name == "full" else asked.specs[0]
        peaks = [
            counted.peak_bytes(QWEN, asked, asked.load(QWEN, spec, s), "bfloat16")
            for s in (seconds, seconds + 1)
        ]
        assert peaks[0] <= 24e9 < peaks[1]


def test_quantised_weights_are_those_that_were_measured():
    found = {dtype: counted.weights_bytes(QWEN, dtype) / 1e9 for dtype in counted.DTYPES}
    assert {dtype: f"{size:.2f}" for dtype, size in found.items()} == {
        "float32": "33.59", "bfloat16": "16.79", "int8": "10.32", "nf4": "7.48",
    }  # fmt: skip


def test_the_context_ends_where_the_prompt_does_not_fit():
    end = counted.context_seconds(QWEN, Setting())
    assert QWEN.audio_tokens(end) + 107 == 8192
    marks = {
        row.seconds: row.beyond_context
        for row in counted.growth(QWEN, Setting(), "nf4", (end, end + 1))
    }
    assert list(marks.values()) == [False, True]


def test_every_shipped_method_can_be_counted_or_says_that_it_is_not():
    given = FAMILIES.part("qwen2_audio").provides
    for method in (name for name in PRUNERS.names if PRUNERS.part(name).requires <= given):
        rows = counted.compute(QWEN, setting(0.2, method=method, seconds=90))
        assert all(row.pruning is None or row.pruning >= 0 for row in rows)


def test_every_form_of_a_table_holds_every_row():
    shown = counted_tables(QWEN, Setting(), "bfloat16", 24e9, PRESET.published_costs)
    rows = list(csv.DictReader(io.StringIO(csv_of(shown))))
    assert len(rows) == sum(len(table.rows) for table in shown)
    assert {row["kind"] for row in rows} == {"counted"}
    assert [row["paper_tflops"] for row in rows if row["table"] == "paper"] == [
        "12.2", "10.06", "7.93", "5.79", "3.66",
    ]  # fmt: skip
    for table in shown:
        assert table.markdown().count("\n|") == len(table.rows) + 2
        found = json.loads(json.dumps(table.json(), allow_nan=False))
        assert len(found["rows"]) == len(table.rows)
        assert "(counted)" in table.title


@pytest.mark.parametrize(
    ("seconds", "text"), [(30, "30 s"), (90, "1 min 30 s"), (3600, "1 h"), (7500, "2 h 05 min")]
)
def test_lengths_for_people(seconds, text):
    assert length(seconds) == text
