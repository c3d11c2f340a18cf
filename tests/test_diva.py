"""DiVA against a forward written out from its paper (arXiv 2410.02678) and configuration."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from conftest import make_audio
from safetensors import safe_open
from test_families import everything, prompt
from tiny_diva import make_tiny_diva
from torch.utils.flop_counter import FlopCounterMode

from speechprune_cli import costs, load
from speechprune_cli.bench.plan import Plan
from speechprune_cli.commands.models import state
from speechprune_cli.config import Preset, load_preset, resolve_model
from speechprune_cli.errors import ModelError
from speechprune_cli.flow import SAMPLE_RATE, Selection
from speechprune_cli.main import main
from speechprune_cli.profiler.architecture import shape_of

QUESTION = "When is the report due?"
LENGTHS = (0.4, 3.0, 29.99, 30.0, 30.01, 71.3, 200.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """As published: 448 queries."""
    return make_tiny_diva(tmp_path_factory.mktemp("models") / "diva", queries=448)


@pytest.fixture(scope="module")
def lm(folder):
    return load(str(folder), device="cpu", cache=False).model


@pytest.fixture(scope="module")
def llama(folder):
    """Stock."""
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(folder.parent / "llama-tiny").eval()


@pytest.fixture(scope="module")
def literal(folder):
    """Sound `[T]` of 30 s at most -> tokens: stock Whisper, whose decoder reads the queries."""
    from transformers import WhisperFeatureExtractor, WhisperModel

    whisper = WhisperModel.from_pretrained(folder.parent / "whisper-tiny").eval()
    extractor = WhisperFeatureExtractor.from_pretrained(folder.parent / "whisper-tiny")
    stored = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            stored |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    own = {
        name.removeprefix("connector."): each
        for name, each in stored.items()
        if name.startswith("connector.")
    }
    whisper.decoder.load_state_dict(own, strict=True)
    projection = torch.nn.Linear(*stored["projection.weight"].shape)
    projection.weight.data = stored["projection.weight"].T.contiguous()
    projection.bias.data = stored["projection.bias"]

    @torch.no_grad()
    def tokens(samples):
        inputs = extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        heard = whisper.encoder(inputs.input_features).last_hidden_state
        found = whisper.decoder(
            inputs_embeds=stored["query_tokens"][None], encoder_hidden_states=heard
        )
        return projection(found.last_hidden_state.reshape(-1, projection.in_features))

    return tokens


def literal_embeds(lm, llama, literal, audio):
    """A user's turn: every window's tokens in order, a blank line, the question."""
    size = 30 * SAMPLE_RATE
    windows = [audio.samples[at : at + size] for at in range(0, len(audio.samples), size)]
    said = "<|im_start|>user\n", f"\n\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    encode, embed = lm.chat.markup.encode, llama.get_input_embeddings()
    before, after = (embed(torch.tensor(encode(part).ids)) for part in said)
    return torch.cat([before, *map(literal, windows), after])[None]


@torch.no_grad()
@pytest.mark.parametrize("seconds", LENGTHS)
def test_with_nothing_pruned_the_logits_are_those_of_the_literal_forward(
    lm, llama, literal, seconds
):
    audio = make_audio(seconds)
    expected = literal_embeds(lm, llama, literal, audio)
    tokens = lm.encode(audio, batch_size=1)
    asked = lm.build_prompt(tokens, everything(tokens), QUESTION)
    assert (asked.inputs_embeds - expected).abs().max() == 0.0
    ours = llama(inputs_embeds=asked.inputs_embeds, position_ids=asked.position_ids)
    stock = llama(inputs_embeds=expected)
    assert (ours.logits - stock.logits).abs().max() == 0.0
    hidden = lm.run_decoder(asked.inputs_embeds, asked.position_ids, None, lm.new_cache())
    assert (lm.head(hidden) - stock.logits).abs().max() == 0.0, "our own decoder"
    torch.testing.assert_close(lm.prefill(asked)[1], stock.logits[0, -1], rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("seconds", [3.0, 71.3])
def test_generate_gives_llama_s_tokens(lm, llama, literal, seconds):
    audio = make_audio(seconds)
    embeds = literal_embeds(lm, llama, literal, audio)
    stock = llama.generate(inputs_embeds=embeds, do_sample=False, max_new_tokens=20)[0].tolist()
    answer = lm.generate(prompt(lm, seconds, QUESTION), max_new_tokens=20)
    ended = stock[-1] in lm.end_tokens
    assert (answer.finished, answer.new_tokens) == (ended, len(stock) - ended)
    assert answer.text == lm.text_of(stock).strip()


@torch.no_grad()
@pytest.mark.parametrize("position", ["repacked", "original"])
def test_a_pruned_prompt_is_llama_s_own_on_what_is_kept(lm, llama, literal, position):
    audio = make_audio(31.0)
    whole = literal_embeds(lm, llama, literal, audio)[0]
    tokens = lm.encode(audio, batch_size=1)
    kept = torch.arange(0, len(tokens), 7)
    selection = Selection(kept, torch.zeros(len(tokens)), "test", "", len(tokens), 0.0)
    pruned = lm.build_prompt(tokens, selection, QUESTION, position=position)
    before = len(lm.prompt_ids(QUESTION).before)
    after = torch.arange(before + len(tokens), len(whole))
    places = torch.cat([torch.arange(before), before + kept, after])
    told = places if position == "original" else torch.arange(len(places))
    # a mask, or else gaps would be taken for the borders of packed sequences
    mask = torch.ones(1, len(places), dtype=torch.int64)
    stock = llama(
        inputs_embeds=whole[places][None], position_ids=told[None], attention_mask=mask
    ).logits[0, -1]
    torch.testing.assert_close(lm.prefill(pruned)[1], stock, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("seconds", "windows"),
    [(0.4, 1), (3, 1), (29.99, 1), (30, 1), (30.01, 2), (71.3, 3), (200, 7)],
)
def test_448_tokens_a_window_share_what_it_holds(lm, seconds, windows):
    count = 448 * windows
    assert lm.shape.audio_tokens(seconds) == count
    start, end = lm.times(count, make_audio(seconds)).double().T
    assert (start[0], end[-1]) == (0, pytest.approx(seconds, abs=1e-4))
    torch.testing.assert_close(start[1:], end[:-1], rtol=0, atol=1e-4)
    assert (end > start).all()
    for window in range(windows):
        assert start[448 * window] == pytest.approx(30 * window, abs=1e-4)


def test_four_queries_to_a_token(tmp_path):
    """Where the stored projection is four times as wide, as the published code allows."""
    folder = make_tiny_diva(tmp_path / "diva", joined=4, queries=448)
    lm = load(str(folder), device="cpu", cache=False).model
    assert len(lm.encode(make_audio(3.0))) == lm.shape.audio_tokens(3.0) == 112
    assert shape_of(resolve_model(str(folder))) == lm.shape


@torch.no_grad()
def test_torch_counts_the_same_encoder(lm, monkeypatch):
    """Attention written out as two products, which torch counts on every device."""
    for each in (lm.sound.encoder, lm.sound.connector):
        monkeypatch.setattr(each.config, "_attn_implementation", "eager")
    with FlopCounterMode(display=False) as counter:
        lm.project(torch.zeros(2, 80, 3000))
    assert counter.get_total_flops() == lm.encoder.flops(60, lm.hidden_size)


def test_the_kv_cache_takes_what_is_counted(lm):
    asked = prompt(lm, 3.0, QUESTION)
    cache, _ = lm.prefill(asked)
    held = sum(each.nbytes for each in (*cache.keys, *cache.values))
    assert held == costs.kv_cache_bytes(lm.shape.decoder, asked.inputs_embeds.shape[1], 4)


def test_what_is_quantised_is_the_text_model_alone(lm, llama):
    """The reader is loaded by itself; its head stays in 16 bits."""
    assert dict(llama.named_modules())["lm_head"]
    names = [name for name, _ in llama.named_modules()]
    assert not [name for name in names if "encoder" in name or "connector" in name]
    assert {name for name, _ in lm.sound.named_children()} == {
        "encoder", "connector", "projection",
    }  # fmt: skip


def test_what_looks_like_markup_is_text(lm):
    ids = lm.prompt_ids("Is it <|im_end|> here?")
    end = lm.chat.markup.token_to_id("<|im_end|>")
    assert list(ids.after).count(end) == 1


class TestFolders:
    """Encoder and text model are other people's checkpoints."""

    @pytest.fixture
    def copy(self, folder, tmp_path):
        shutil.copytree(folder.parent, tmp_path / "models")
        return tmp_path / "models" / folder.name

    def refused(self, folder, *words):
        with pytest.raises(ModelError) as error:
            load(str(folder), device="cpu", cache=False)
        assert "\n" not in str(error.value)
        for word in words:
            assert word in str(error.value)

    def test_a_path_in_the_configuration(self, copy, tmp_path):
        shutil.move(copy.parent / "llama-tiny", tmp_path / "elsewhere")
        config = json.loads((copy / "config.json").read_text())
        config["reference_decoder"] = str(tmp_path / "elsewhere")
        (copy / "config.json").write_text(json.dumps(config))
        assert load(str(copy), device="cpu", cache=False).model.end_tokens

    @pytest.mark.parametrize("name", ["openai/whisper-tiny", "meta-llama/llama-tiny"])
    def test_one_that_is_not_here(self, copy, name):
        last = name.split("/")[1]
        shutil.rmtree(copy.parent / last)
        page = f"https://huggingface.co/{name}"
        self.refused(copy, f"put together with {name}", f"hf download {name}", page, "beside")

    def test_a_gated_one_names_its_licence_page(self, copy, monkeypatch):
        import huggingface_hub
        from huggingface_hub.errors import GatedRepoError

        def gated(*_, **__):
            raise GatedRepoError.__new__(GatedRepoError)  # it wants an answer of the Hub

        shutil.rmtree(copy.parent / "llama-tiny")
        monkeypatch.setattr(huggingface_hub, "snapshot_download", gated)
        page = "https://huggingface.co/meta-llama/llama-tiny is gated: accept its terms there"
        self.refused(copy, page, "hf auth login")

    def test_it_is_here_with_all_that_it_needs(self, folder):
        here = Preset(name="x", source=str(folder), needs=(str(folder.parent / "llama-tiny"),))
        gone = Preset(name="x", source=str(folder), needs=("meta-llama/gone",))
        found = [state(each, None)["weights"] for each in (here, gone)]
        assert found == ["on this machine", "not downloaded"]

    def test_none_is_named(self, copy):
        (copy / "config.json").write_text('{"model_type": "diva"}')
        self.refused(copy, "config.json does not name its reference_encoder")

    def test_another_whisper(self, copy):
        config = json.loads((copy.parent / "whisper-tiny" / "config.json").read_text())
        config["decoder_layers"] = 3
        (copy.parent / "whisper-tiny" / "config.json").write_text(json.dumps(config))
        self.refused(copy, "weights missing, as connector.layers.2.")

    def test_a_projection_of_another_width(self, copy):
        config = json.loads((copy.parent / "whisper-tiny" / "config.json").read_text())
        config["d_model"] = 48
        (copy.parent / "whisper-tiny" / "config.json").write_text(json.dumps(config))
        self.refused(copy, "a projection of 32 does not fit queries of 48")


def test_the_preset_states_the_published_model(capsys):
    """Without weights; the paper's protocol, and what is gated."""
    preset = load_preset("diva")
    shape = shape_of(preset)
    assert (shape.input_tokens, shape.encoder.window_tokens) == (448, 448)
    assert shape.encoder.own_input
    assert shape.audio_tokens(90) == 3 * 448
    for dtype, size in preset.weights_gb.items():
        counted = costs.weights_bytes(shape.decoder, shape.parameters, dtype) / 1e9
        assert size == pytest.approx(counted, abs=0.006), dtype
    assert "https://huggingface.co/meta-llama/Meta-Llama-3-8B-Instruct" in preset.licence
    assert Plan.resolve("spiral", model="diva", paper=True).rates == (0.15,)
    assert main(["profile", "diva", "--paper"]) == 0
    assert "381" in capsys.readouterr().out, "k of 448 at rate 0.15"
