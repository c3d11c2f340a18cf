"""DiVA against a forward written out from its paper (arXiv 2410.02678) and configuration."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
from conftest import make_audio
from parity import ComposedParity, composed_preset_is_the_model, flops_of
from safetensors.torch import load_file, save_file
from tiny_diva import make_tiny_diva
from tiny_families import TINY
from tiny_models import add_weight

from speechprune_cli import costs, load
from speechprune_cli.bench.plan import Plan
from speechprune_cli.commands.models import state
from speechprune_cli.config import Preset, load_preset, resolve_model
from speechprune_cli.errors import ModelError, NumericError
from speechprune_cli.main import main
from speechprune_cli.profiler.architecture import shape_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """As published: 448 queries."""
    return make_tiny_diva(tmp_path_factory.mktemp("models") / "diva", queries=448)


@pytest.fixture(scope="module")
def lm(folder):
    return load(str(folder), device="cpu", cache=False).model


class TestParity(ComposedParity):
    tiny = TINY["diva"]
    parts = {"encoder", "connector", "projection"}  # noqa: RUF012


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


def test_torch_counts_the_same_encoder(lm):
    found = flops_of(lambda: lm.project(torch.zeros(2, 80, 3000)))
    assert found == lm.encoder.flops(60, lm.hidden_size)


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

    def test_offline_holds_for_the_parts_too(self, copy, monkeypatch):
        """Where the Hub's library was imported before, it has not read the variable."""
        import huggingface_hub
        from huggingface_hub.errors import LocalEntryNotFoundError

        asked = []

        def absent(name, *, local_files_only, **_):
            asked.append((name, local_files_only))
            raise LocalEntryNotFoundError("nothing here")

        shutil.rmtree(copy.parent / "llama-tiny")
        monkeypatch.setattr(huggingface_hub, "snapshot_download", absent)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        with pytest.raises(ModelError, match="put together with meta-llama/llama-tiny"):
            load(str(copy), device="cpu", cache=False, offline=True)
        assert asked == [("meta-llama/llama-tiny", True)]

    def test_a_damaged_part_names_its_file(self, copy):
        file = copy.parent / "whisper-tiny" / "model.safetensors"
        weights = load_file(file)
        weights["model.encoder.layers.0.fc1.weight"][0] = torch.nan
        save_file(weights, file, {"format": "pt"})
        session = load(str(copy), device="cpu", cache=False)
        told = f"{file}: the weight model.encoder.layers.0.fc1.weight holds NaN"
        with pytest.raises(NumericError, match=re.escape(told)):
            session.encode(make_audio(1.0))

    def test_a_weight_that_nothing_reads_is_refused(self, copy):
        """But not of what is frozen, which is the references'."""
        add_weight(copy, "encoder.conv1.bias", torch.ones(2))
        assert load(str(copy), device="cpu", cache=False)
        add_weight(copy, "gate.weight", torch.ones(2))
        self.refused(copy, "its weight gate.weight is one that nothing here reads")

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


def test_the_preset_is_counted_as_it_is_built():
    composed_preset_is_the_model("diva")


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
