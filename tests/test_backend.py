"""The backend against the stock model it wraps: same tokens, same logits, same answers."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import make_audio
from parity import LENGTHS, Parity, preset_is_the_model
from tiny_families import TINY
from tiny_models import QUESTION, stock_inputs

from speechprune_cli.backends import load_backend
from speechprune_cli.config import Preset, load_preset
from speechprune_cli.device import PeakMemory, bfloat16_unit, memory_guard, place
from speechprune_cli.errors import AudioError, ModelError, OutOfMemoryError, UsageError
from speechprune_cli.flow import SAMPLE_RATE, Selection

BFLOAT16_UNIT = bfloat16_unit  # before the tests' machine is said to have none


def load(folder, **options):
    options = {"device": "cpu", "dtype": "float32", **options}
    return load_backend(Preset(name="tiny", source=str(folder)), **options)


@pytest.fixture(scope="module", params=["tiny_model_folder", "tiny_qwen2_folder"])
def lm(request):
    return load(request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
def llama(tiny_model_folder):
    return load(tiny_model_folder)


def keep(tokens, kept=None):
    kept = torch.arange(len(tokens)) if kept is None else torch.as_tensor(kept)
    return Selection(kept, torch.zeros(len(tokens)), "test", "", len(tokens), 0.0)


def full_prompt(lm, seconds, question=QUESTION, **options):
    tokens = lm.encode(make_audio(seconds))
    return lm.build_prompt(tokens, keep(tokens), question, **options)


class TestParity(Parity):
    tiny = TINY["qwen2_audio"]


@pytest.mark.parametrize("name", ["qwen2-audio", "nano"])
def test_presets_are_counted_as_they_are_built(name):
    preset_is_the_model(name)


@torch.inference_mode()
@pytest.mark.parametrize("seconds", LENGTHS)
def test_hidden_states_of_the_prefill_are_the_stock_model_s(lm, seconds):
    seen = []
    hook = lm.decoder.register_forward_hook(
        lambda module, inputs, output: seen.append(output.last_hidden_state)
    )
    lm.model(**stock_inputs(lm, make_audio(seconds)))
    lm.prefill(full_prompt(lm, seconds))
    hook.remove()
    assert (seen[0] - seen[1]).abs().max() == 0.0


def test_generate_streams_what_it_returns(llama):
    pieces = []
    answer = llama.generate(full_prompt(llama, 3.0), max_new_tokens=30, on_text=pieces.append)
    assert "".join(pieces).strip() == answer.text
    assert len(pieces) > 1
    assert min(answer.prefill_seconds, answer.decode_seconds) > 0
    assert answer.peak_memory_bytes > 0


def test_generate_stops_at_the_end_token(llama, monkeypatch):
    prompt = full_prompt(llama, 3.0)
    _, logits = llama.prefill(prompt)
    monkeypatch.setattr(llama, "end_tokens", frozenset([int(logits.argmax())]))
    answer = llama.generate(prompt)
    assert (answer.text, answer.new_tokens, answer.finished) == ("", 0, True)


@pytest.mark.parametrize("samples", [321, 800, 1600, 15999, 16000, 16001, 159_999, 480_000])
def test_tokens_of_a_window(llama, samples):
    tokens = llama.encode(make_audio(samples / SAMPLE_RATE))
    frames = -(-samples // 160)
    assert len(tokens) == (frames + 1) // 4
    assert tokens.seconds == samples / SAMPLE_RATE


@pytest.mark.parametrize("seconds", [0.05, 30.0, 30.01, 60.0, 71.3])
def test_what_is_encoded_is_what_was_given(llama, seconds):
    tokens = llama.encode(make_audio(seconds))
    assert tokens.seconds == pytest.approx(seconds, abs=0.5 / SAMPLE_RATE)
    assert tokens.per_second == 25.0
    assert tokens.times.dtype == torch.float32


def test_times_of_tokens(llama):
    times = llama.encode(make_audio(71.3)).times.double()
    assert len(times) == 750 + 750 + 282
    torch.testing.assert_close(times[751], torch.tensor([30.04, 30.08]).double())
    torch.testing.assert_close(times[1500], torch.tensor([60.0, 60.04]).double())
    assert times.max() <= 71.3 + 1e-4
    assert (times[:, 1] > times[:, 0]).all()
    assert (times[1:, 0] > times[:-1, 0]).all()


def test_a_last_token_that_the_recording_cuts_short_is_clipped(llama):
    times = llama.encode(make_audio(0.03)).times
    torch.testing.assert_close(times, torch.tensor([[0.0, 0.03]]))


def test_batches_of_windows_give_the_same_tokens_as_one_by_one(lm):
    audio, progress = make_audio(131.7), []
    single = lm.encode(audio, batch_size=1).embeds
    batched = lm.encode(audio, batch_size=4, on_progress=lambda *p: progress.append(p)).embeds
    torch.testing.assert_close(single, batched, rtol=1e-5, atol=1e-6)
    assert progress == [(4, 5), (5, 5)]


def test_a_recording_without_a_single_token_is_refused(llama):
    with pytest.raises(AudioError, match=r"0\.010 s is too short"):
        llama.encode(make_audio(0.01))


def test_repacked_positions_are_contiguous(llama):
    tokens = llama.encode(make_audio(3.0))
    prompt = llama.build_prompt(tokens, keep(tokens, [3, 10, 70]), QUESTION)
    assert prompt.audio_tokens == 3
    assert prompt.position_ids.tolist() == [list(range(3 + prompt.text_tokens))]
    assert prompt.inputs_embeds.shape == (1, 3 + prompt.text_tokens, llama.hidden_size)
    assert prompt.text.count("<|AUDIO|>") == 1


def test_original_positions_leave_every_token_where_it_was(llama):
    tokens = llama.encode(make_audio(3.0))
    whole = llama.build_prompt(tokens, keep(tokens), QUESTION, position="original")
    part = llama.build_prompt(tokens, keep(tokens, [3, 10, 70]), QUESTION, position="original")
    before = llama.tokenizer(whole.text).input_ids.index(llama.model.config.audio_token_id)
    audio = set(range(before, before + len(tokens)))
    left = [p for p in range(whole.position_ids.shape[1]) if p not in audio]
    assert part.position_ids[0].tolist() == sorted([*left, before + 3, before + 10, before + 70])
    repacked = llama.build_prompt(tokens, keep(tokens), QUESTION)
    assert torch.equal(whole.position_ids, repacked.position_ids)


@torch.inference_mode()
def test_gaps_in_original_positions_are_no_borders_of_packed_sequences(llama):
    tokens = llama.encode(make_audio(3.0))
    prompt = llama.build_prompt(tokens, keep(tokens, [3, 10, 70]), QUESTION, position="original")
    expected = llama.model(
        inputs_embeds=prompt.inputs_embeds,
        position_ids=prompt.position_ids,
        attention_mask=torch.ones(prompt.inputs_embeds.shape[:2], dtype=torch.long),
    ).logits[0, -1]
    torch.testing.assert_close(llama.prefill(prompt)[1], expected, rtol=1e-5, atol=1e-5)
    answer = llama.generate(prompt, max_new_tokens=8)
    first = llama.tokenizer.decode([int(expected.argmax())], skip_special_tokens=True)
    assert answer.text.startswith(first.strip())


def test_dropping_tokens_really_shortens_the_prompt(llama):
    tokens = llama.encode(make_audio(12.0))
    kept = list(range(0, 300, 5))
    prompt = llama.build_prompt(tokens, keep(tokens, kept), QUESTION)
    start = llama.tokenizer(prompt.text).input_ids.index(llama.model.config.audio_token_id)
    assert torch.equal(prompt.inputs_embeds[0, start : start + 60], tokens.embeds[::5])


@torch.inference_mode()
@pytest.mark.parametrize("position", ["repacked", "original"])
def test_choose_scores_each_option_as_a_run_of_its_own_would(lm, position):
    choices = ["on Friday", "in the red house", "w"]
    tokens = lm.encode(make_audio(3.0))
    prompt = lm.build_prompt(tokens, keep(tokens, range(0, 75, 3)), QUESTION, position=position)
    expected = []
    for choice in choices:
        ids = torch.tensor(lm.tokenizer(choice, add_special_tokens=False).input_ids)
        embeds = lm.model.get_input_embeddings()(ids)[None]
        after = prompt.position_ids[0, -1] + 1 + torch.arange(len(ids))
        logits = lm.model(
            inputs_embeds=torch.cat([prompt.inputs_embeds, embeds], dim=1),
            position_ids=torch.cat([prompt.position_ids, after[None]], dim=1),
            attention_mask=torch.ones(1, prompt.inputs_embeds.shape[1] + len(ids)),
        ).logits[0, -len(ids) - 1 : -1]
        expected.append(logits.log_softmax(-1)[torch.arange(len(ids)), ids].mean())
    answer = lm.choose(prompt, choices)
    assert list(answer.probabilities) == choices
    torch.testing.assert_close(
        torch.tensor(list(answer.probabilities.values())),
        torch.stack(expected).softmax(0),
        rtol=1e-4,
        atol=1e-5,
    )
    assert answer.text == choices[int(torch.stack(expected).argmax())]


def test_choose_wants_options_that_differ(llama):
    prompt = full_prompt(llama, 3.0)
    for wrong in (["only one"], ["same", "same"], ["a", " a"], []):
        with pytest.raises(UsageError, match="at least two options that differ"):
            llama.choose(prompt, wrong)


def test_options_are_listed_in_the_prompt_when_given(llama):
    assert "When?\nA. noon\nB. dusk<|im_end|>" in llama.prompt_ids("When?", ["noon", "dusk"]).text
    assert llama.prompt_ids("When?").text.endswith("When?<|im_end|>\n<|im_start|>assistant\n")


def test_a_question_cannot_smuggle_in_an_audio_placeholder(llama):
    with pytest.raises(UsageError, match=r"must not contain <\|AUDIO\|>"):
        full_prompt(llama, 3.0, "What is <|AUDIO|>?")
    with pytest.raises(UsageError, match="repacked or original"):
        full_prompt(llama, 3.0, position="sideways")


def test_text_embeddings_are_those_of_the_question_alone(llama):
    ids = llama.tokenizer(QUESTION, add_special_tokens=False).input_ids
    table = llama.model.get_input_embeddings().weight
    assert torch.equal(llama.embed_text(QUESTION), table[ids])
    with pytest.raises(UsageError, match="empty"):
        llama.embed_text("  ")


def test_first_layer_is_the_model_s_and_the_checkpoint_s(lm):
    layer = lm.first_layer()
    assert layer.q_weight.shape == (64, 64)
    assert layer.k_weight.shape == (32, 64)
    assert (layer.heads, layer.kv_heads) == (4, 2)
    for name, weight in (("q_proj", layer.q_weight), ("k_proj", layer.k_weight)):
        stored = lm.checkpoint.read_tensor("language_model", f"layers.0.self_attn.{name}.weight")
        assert torch.equal(stored, weight)


def test_half_precision_runs(tiny_model_folder):
    half = load(tiny_model_folder, dtype="bfloat16")
    prompt = full_prompt(half, 3.0)
    assert prompt.inputs_embeds.dtype == torch.bfloat16
    assert half.decisions == ()
    half.generate(prompt, max_new_tokens=3)
    assert sum(half.choose(prompt, ["a b", "c"]).probabilities.values()) == pytest.approx(1)


# What may be wrong with a model folder


@pytest.fixture
def folder(tiny_model_folder, tmp_path):
    return shutil.copytree(tiny_model_folder, tmp_path / "model")


def refused(folder, message):
    with pytest.raises(ModelError, match=message) as error:
        load(folder)
    assert "\n" not in str(error.value)


def test_pickled_weights_are_refused(folder):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    refused(folder, r"pickled weights \(pytorch_model.bin\).*safetensors")


def test_missing_weights(folder):
    (folder / "model.safetensors").unlink()
    refused(folder, "weight file missing: model.safetensors")


def test_a_missing_shard_is_named(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    index = {"weight_map": dict(zip("ab", names, strict=True))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(folder, "weight file missing: model-00002-of-00002.safetensors")


def test_truncated_weights(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    refused(folder, r"model.safetensors is damaged or cut short")


def test_corrupt_weights(folder):
    (folder / "model.safetensors").write_bytes(b"not a header" * 100)
    refused(folder, r"model.safetensors is damaged or cut short")


def test_weights_that_lack_a_tensor(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    name = next(n for n in weights if n.endswith("layers.1.self_attn.q_proj.weight"))
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, "1 weights missing.*q_proj")


def test_weights_of_another_shape(folder):
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["intermediate_size"] = 192
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder, r"mlp.*config.json says")


@pytest.mark.parametrize("section", ["text_config", "audio_config"])
def test_a_config_without_a_section_makes_no_large_model(folder, section):
    config = json.loads((folder / "config.json").read_text())
    del config[section]
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder, r"config.json describes \d[\d,]+ weights, its files hold \d")


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_config(folder, content):
    (folder / "config.json").write_text(content)
    refused(folder, "config.json")


def test_no_config(folder):
    (folder / "config.json").unlink()
    refused(folder, "is no model folder: config.json is missing")


def test_a_transformers_whose_decoders_take_no_cache(folder, monkeypatch):
    """As another package of the same environment may have put in the place of ours."""
    monkeypatch.setattr("transformers.__version__", "5.20.1")
    refused(folder, "transformers 5.20.1 is installed: 5.24 is needed")


def test_no_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    refused(folder, "no usable tokenizer and feature extractor")


def test_another_family(folder):
    (folder / "config.json").write_text('{"model_type": "bert"}')
    refused(folder, "is a 'bert' model: expected .*qwen2_audio")


def test_a_folder_has_no_revision(tiny_model_folder):
    with pytest.raises(ModelError, match="no --revision"):
        load(tiny_model_folder, revision="main")


def test_the_revision_of_a_folder_changes_with_its_content(folder):
    before = load(folder).revision
    assert load(folder).revision == before
    with (folder / "generation_config.json").open("a") as file:
        file.write("\n")
    assert load(folder).revision != before


def test_a_hub_id_offline():
    preset = Preset(name="x", source="no-such-org/no-such-model")
    with pytest.raises(ModelError, match=r"--offline is on.*huggingface.co/no-such-org/no-such"):
        load_backend(preset, offline=True)


# Devices and memory


def run_script(code, folder, tests):
    run = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        env={**os.environ, "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"},
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"device": "cuda:99"}, "no device cuda:99"),
        ({"dtype": "float8"}, "unknown dtype 'float8': auto, float32"),
        ({"quantize": "int2"}, "unknown quantisation"),
    ],
)
def test_placements_that_this_machine_lacks(options, message):
    with pytest.raises(UsageError, match=message):
        place(**options)


def test_automatic_choices_come_with_a_reason():
    placement = place(device="cpu")
    assert placement.dtype == torch.float32
    assert [line.split(":")[0] for line in placement.decisions] == ["dtype float32"]


@pytest.mark.parametrize(
    ("features", "dtype", "reason"),
    [
        ({"amx_bf16": True, "avx512_bf16": True}, torch.bfloat16, "AMX-BF16"),
        ({"amx_bf16": False, "avx512_bf16": True}, torch.bfloat16, "AVX512-BF16"),
        ({"avx2": True}, torch.float32, "no unit for bfloat16"),
        ({}, torch.float32, "no unit for bfloat16"),
    ],
)
def test_the_processor_s_units_alone_settle_the_dtype(monkeypatch, features, dtype, reason):
    monkeypatch.setattr("speechprune_cli.device.bfloat16_unit", BFLOAT16_UNIT)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features)
    placement = place(device="cpu")
    assert placement.dtype == dtype
    assert reason in placement.decisions[-1]


def test_a_preset_may_have_a_dtype_of_its_own():
    nano = load_backend(load_preset("nano"), device="cpu")
    assert nano.dtype == torch.float32
    assert nano.decisions[-1] == "dtype float32: that of the preset nano"
    assert load_backend(load_preset("nano"), dtype="bfloat16").dtype == torch.bfloat16


def test_running_out_of_memory_for_real_names_tokens_gib_and_a_flag():
    message = r"reading 90,000 tokens needs about 1\.0 GiB.*try a higher --rate"
    guard = memory_guard("reading 90,000 tokens", 2**30, torch.device("cpu"), "a higher --rate")
    with pytest.raises(OutOfMemoryError, match=message), guard:
        torch.empty(2**60)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_other_ways_to_run_out_of_memory(error):
    with pytest.raises(OutOfMemoryError), memory_guard("x", 1, torch.device("cpu"), "y"):
        raise error


def test_other_runtime_errors_stay_what_they_are():
    with (
        pytest.raises(RuntimeError, match="must match the size"),
        memory_guard("x", 1, torch.device("cpu"), ""),
    ):
        torch.empty(2) + torch.empty(3)


@pytest.mark.skipif(sys.platform != "linux", reason="free memory is known on Linux only")
def test_a_prompt_that_cannot_fit_is_refused_before_it_is_read(llama):
    prompt = full_prompt(llama, 3.0)
    huge = prompt.inputs_embeds.expand(1, -1, -1)[:, :1].expand(1, 2**36, -1)
    prompt = type(prompt)(huge, prompt.position_ids, "", 2**36, 0)
    for run in (lambda: llama.generate(prompt), lambda: llama.choose(prompt, ["a", "b"])):
        with pytest.raises(OutOfMemoryError, match=r"68,719,476,736 tokens.*GiB.*--rate"):
            run()


@pytest.mark.skipif(sys.platform != "linux", reason="free memory is known on Linux only")
def test_an_encoding_that_cannot_fit_is_refused_before_it_starts(llama):
    endless = np.broadcast_to(np.float32(0), 2**42)
    audio = dataclasses.replace(make_audio(3.0), samples=endless)
    message = r"encoding 6,871,947,674 tokens, 4 windows at a time, needs.*GiB.*try --dtype"
    with pytest.raises(OutOfMemoryError, match=message):
        llama.encode(audio)


LONG_PREFILL = """
import resource, sys
from test_backend import load
import torch
from speechprune_cli.flow import Prompt

lm = load(sys.argv[1])
n = 16_000
embeds = torch.randn(1, n, lm.hidden_size)
prompt = Prompt(embeds, torch.arange(n)[None], "", n, 0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with torch.inference_mode():
    lm.prefill(prompt)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / n)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak as Linux reports it")
def test_a_long_prefill_builds_no_square_matrix(tiny_model_folder, request):
    """A mask alone would take one byte for each pair: 16,000 bytes a token."""
    assert float(run_script(LONG_PREFILL, tiny_model_folder, request.path.parent)) < 8_000


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak as Linux reports it")
def test_peak_memory_sees_what_was_held_and_let_go():
    peak = PeakMemory(torch.device("cpu"))
    before = peak.bytes()
    block = np.ones(200 * 2**20, dtype=np.uint8)
    del block
    assert peak.bytes() - before > 150 * 2**20


def test_what_a_listener_raises_is_no_fault_of_the_model(tiny_model_folder):
    """Not even at the first recording, where the extractor's settings show."""
    model = load(tiny_model_folder)

    def closed(_done, _total):
        raise BrokenPipeError

    for _ in range(2):
        with pytest.raises(BrokenPipeError):
            model.encode(make_audio(1), on_progress=closed)
