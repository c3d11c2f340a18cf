"""Ultravox against a forward written out from its configuration and its processor's rules."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_audio
from safetensors import safe_open
from test_families import everything, prompt
from tiny_ultravox import make_tiny_ultravox
from torch.utils.flop_counter import FlopCounterMode

from speechprune_cli import costs, load
from speechprune_cli.config import list_presets, load_preset
from speechprune_cli.errors import ModelError
from speechprune_cli.flow import SAMPLE_RATE, Selection
from speechprune_cli.main import main
from speechprune_cli.profiler.architecture import shape_of

QUESTION = "When is the report due?"
LENGTHS = (0.01, 0.4, 3.0, 29.99, 30.0, 30.01, 71.3, 200.0)
CASES = {"llama, 0.5": ("llama", "0.5"), "gemma, 0.4": ("gemma3_text", "0.4")}


@pytest.fixture(scope="module", params=CASES)
def folder(request, tmp_path_factory):
    """Encoder and norm in the middle, or another's encoder and the norm behind."""
    family, version = CASES[request.param]
    return make_tiny_ultravox(tmp_path_factory.mktemp("models") / "ultravox", family, version)


@pytest.fixture(scope="module")
def lm(folder):
    return load(str(folder), device="cpu", cache=False).model


@pytest.fixture(scope="module")
def text(folder):
    """Stock."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder.parent / "text-tiny").eval()


@pytest.fixture(scope="module")
def stored(folder):
    """All weights, of the encoder too."""
    found = {}
    for path in [*folder.glob("*.safetensors"), *folder.parent.glob("whisper-*/*.safetensors")]:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                found[name.replace("model.encoder.", "audio_tower.")] = file.get_tensor(name)
    return found


def cut(samples):
    """As the processor does: mel frames of the whole, in pieces of 3000, the last filled up."""
    from transformers import WhisperFeatureExtractor

    inputs = WhisperFeatureExtractor(feature_size=80)(
        np.pad(samples, (0, max(0, 320 - len(samples)))),
        sampling_rate=SAMPLE_RATE,
        padding="longest",
        pad_to_multiple_of=160,
        truncation=False,
        return_attention_mask=True,
        return_tensors="pt",
    )
    length = int(inputs.attention_mask.sum())
    for at in range(0, length, 3000):
        piece = inputs.input_features[:, :, at : at + 3000]
        missing = 3000 - piece.shape[-1] if at else 0
        yield F.pad(piece, (0, missing)), min(length - at, 3000)


@torch.no_grad()
def literal(stored, samples):
    """Tokens `[N, D]`, window by window."""
    from tiny_diva import WHISPER
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    tower = WhisperEncoder(WhisperConfig(**WHISPER)).eval()
    parts = {n.split(".", 1)[1]: w for n, w in stored.items() if n.startswith("audio_tower.")}
    tower.load_state_dict(parts, strict=True)
    own = {n.split(".", 1)[1]: w for n, w in stored.items() if n.startswith("multi_modal")}

    def norm(hidden, name):
        scaled = hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + 1e-6)
        return own[f"{name}.weight"] * scaled

    found = []
    for frames, length in cut(samples):
        hidden = F.gelu(tower.conv2(F.gelu(tower.conv1(frames)))).permute(0, 2, 1)
        hidden = hidden + tower.embed_positions.weight[: hidden.shape[1]]
        heard = torch.arange(hidden.shape[1]) < (length - 1) // 2 + 1
        mask = (1.0 - heard.float())[None, None, None] * torch.finfo(torch.float32).min
        for layer in tower.layers:
            hidden = layer(hidden, mask)
        hidden = tower.layer_norm(hidden)
        hidden = F.pad(hidden, (0, 0, 0, -hidden.shape[1] % 8)).reshape(1, -1, 8 * 32)
        hidden = F.linear(norm(hidden, "ln_pre"), own["linear_1.weight"])
        hidden = F.silu(hidden[..., 24:]) * hidden[..., :24]
        if "ln_mid.weight" in own:
            hidden = F.linear(norm(hidden, "ln_mid"), own["linear_2.weight"])
        else:
            hidden = norm(F.linear(hidden, own["linear_2.weight"]), "ln_post")
        found.append(hidden[0, : math.ceil(length / 16)])
    return torch.cat(found)


def literal_embeds(lm, text, stored, audio):
    """A user's turn: the recording, and the question on the next line."""
    said = "<|im_start|>user\n", f"\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    encode, embed = lm.chat.markup.encode, text.get_input_embeddings()
    before, after = (embed(torch.tensor(encode(part).ids)) for part in said)
    return torch.cat([before, literal(stored, audio.samples), after])[None]


@torch.no_grad()
@pytest.mark.parametrize("seconds", LENGTHS)
def test_with_nothing_pruned_the_logits_are_those_of_the_literal_forward(lm, text, stored, seconds):
    audio = make_audio(seconds)
    expected = literal_embeds(lm, text, stored, audio)
    tokens = lm.encode(audio, batch_size=1)
    asked = lm.build_prompt(tokens, everything(tokens), QUESTION)
    assert (asked.inputs_embeds - expected).abs().max() == 0.0
    stock = text(inputs_embeds=expected).logits
    ours = text(inputs_embeds=asked.inputs_embeds, position_ids=asked.position_ids).logits
    assert (ours - stock).abs().max() == 0.0
    hidden = lm.run_decoder(asked.inputs_embeds, asked.position_ids, None, lm.new_cache())
    assert (lm.head(hidden) - stock).abs().max() == 0.0
    torch.testing.assert_close(lm.prefill(asked)[1], stock[0, -1], rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("seconds", [3.0, 71.3])
def test_generate_gives_the_text_model_s_tokens(lm, text, stored, seconds):
    embeds = literal_embeds(lm, text, stored, make_audio(seconds))
    stock = text.generate(inputs_embeds=embeds, do_sample=False, max_new_tokens=20)[0].tolist()
    answer = lm.generate(prompt(lm, seconds, QUESTION), max_new_tokens=20)
    ended = stock[-1] in lm.end_tokens
    assert (answer.finished, answer.new_tokens) == (ended, len(stock) - ended)
    assert answer.text == lm.text_of(stock).strip()


@torch.no_grad()
@pytest.mark.parametrize("position", ["repacked", "original"])
def test_a_pruned_prompt_is_the_text_model_s_own_on_what_is_kept(lm, text, stored, position):
    audio = make_audio(31.0)
    whole = literal_embeds(lm, text, stored, audio)[0]
    tokens = lm.encode(audio)
    kept = torch.arange(0, len(tokens), 7)
    selection = Selection(kept, torch.zeros(len(tokens)), "test", "", len(tokens), 0.0)
    pruned = lm.build_prompt(tokens, selection, QUESTION, position=position)
    before = len(lm.prompt_ids(QUESTION).before)
    after = torch.arange(before + len(tokens), len(whole))
    places = torch.cat([torch.arange(before), before + kept, after])
    told = places if position == "original" else torch.arange(len(places))
    mask = torch.ones(1, len(places), dtype=torch.int64)
    stock = text(
        inputs_embeds=whole[places][None], position_ids=told[None], attention_mask=mask
    ).logits[0, -1]
    torch.testing.assert_close(lm.prefill(pruned)[1], stock, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seconds", LENGTHS)
def test_counts_and_times_are_the_processor_s(lm, seconds):
    audio = make_audio(seconds)
    lengths = [length for _, length in cut(audio.samples)]
    counts = [math.ceil(length / 16) for length in lengths]
    assert lm.shape.audio_tokens(seconds) == sum(counts)
    expected = [
        (30 * window + 0.16 * token, min(30 * window + min(0.16 * (token + 1), 30), seconds))
        for window, count in enumerate(counts)
        for token in range(count)
    ]
    times = lm.times(sum(counts), audio)
    torch.testing.assert_close(times, torch.tensor(expected), rtol=0, atol=1e-4)


def test_attention_is_a_mean_over_positions_of_the_recording(lm):
    """1 is a fair share, of tokens that are cut off too."""
    attention = lm.encode(make_audio(31.0)).attention
    assert float(attention[:187].mean()) == pytest.approx(1, abs=0.05)
    assert float(attention[188:].mean()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("seconds", [3.0, 60.0])
@torch.no_grad()
def test_torch_counts_the_same_encoder(lm, monkeypatch, seconds):
    """Attention written out as two products, which torch counts on every device."""
    monkeypatch.setattr(lm.sound.audio_tower.config, "_attn_implementation", "eager")
    windows = lm.windows(make_audio(seconds))
    frames = torch.stack([each for each, _ in windows])
    valid = torch.ones(len(frames), (frames.shape[-1] + 1) // 2, dtype=torch.bool)
    with FlopCounterMode(display=False) as counter:
        lm.project(lm.stacked(lm.listen(frames, valid)))
    assert counter.get_total_flops() == lm.encoder.flops(seconds, lm.hidden_size)


def test_what_is_quantised_is_the_text_model_alone(lm, text):
    names = [name for name, _ in text.named_modules()]
    assert "lm_head" in names
    assert not [name for name in names if "audio" in name or "projector" in name]
    assert {name for name, _ in lm.sound.named_children()} == {
        "audio_tower", "multi_modal_projector",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"projector_act": "gelu"}, "projector_act is gelu"),
        ({"audio_latency_block_size": 100}, "audio_latency_block_size is 100"),
        ({"text_model_id": None}, "does not name its text_model_id"),
        ({"hidden_size": 64}, r"linear_1.weight is \[48, 256\], config.json says \[64, 256\]"),
        ({"projector_ln_mid": False}, "weights missing, as multi_modal_projector.ln_post.weight"),
        ({"text_model_id": "meta-llama/gone"}, "hf download meta-llama/gone"),
    ],
)
def test_what_is_not_understood_is_refused_in_a_line(tiny_ultravox_folder, tmp_path, told, words):
    shutil.copytree(tiny_ultravox_folder.parent, tmp_path / "models")
    folder = tmp_path / "models" / tiny_ultravox_folder.name
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **told}))
    with pytest.raises(ModelError, match=words) as error:
        load(str(folder), device="cpu", cache=False)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [name for name in list_presets() if "ultravox" in name])
def test_presets_state_the_published_models(name, capsys):
    """Without weights: sizes of the published files in bytes are those of what they hold."""
    from speechprune_cli.backends.composed import built, weights_of
    from speechprune_cli.backends.ultravox import Ultravox

    preset = load_preset(name)
    shape = shape_of(preset)
    sound = built(lambda: Ultravox.build(shape.encoder, shape.decoder.hidden_size))
    projector = 10240 + 10240 * 4096 + 2048 * shape.decoder.hidden_size + 2048
    assert weights_of(sound) == 636_968_960 + projector
    assert (shape.input_tokens, shape.audio_tokens(90)) == (188, 3 * 188)
    for dtype, size in preset.weights_gb.items():
        counted = costs.weights_bytes(shape.decoder, shape.parameters, dtype) / 1e9
        assert size == pytest.approx(counted, abs=0.006), dtype
    assert preset.needs[-1] in preset.licence, "where its text model's licence is accepted"
    assert main(["profile", name]) == 0
    assert name in capsys.readouterr().out
