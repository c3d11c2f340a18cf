"""The encoder's last layers learn to name words; the others stay as they were."""

from copy import deepcopy
from random import Random

import pytest
import torch
from transformers import Qwen2AudioEncoderConfig
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

from speechprune_cli.training import encoder
from speechprune_cli.training.encoder import FROZEN, Window, finetune, lower, naming_loss, upper
from speechprune_cli.training.text import VOCABULARY


@pytest.fixture
def tower():
    torch.manual_seed(0)
    config = Qwen2AudioEncoderConfig(
        d_model=32,
        encoder_layers=FROZEN + 1,
        encoder_attention_heads=2,
        encoder_ffn_dim=64,
        num_mel_bins=80,
    )
    return Qwen2AudioEncoder(config).eval()


@pytest.fixture
def made():
    """Windows whose hidden states tell one of four words, 0.6 s each."""
    generator = torch.Generator().manual_seed(0)
    said = torch.randn(4, 32, generator=generator)
    words = torch.randint(0, 4, (6, 50), generator=generator)
    return [
        Window(
            said[row].repeat_interleave(30, 0).half(),
            (row + 7).repeat_interleave(15).short(),
        )
        for row in words
    ]


def test_both_halves_together_are_the_stock_encoder(tower):
    mel = torch.randn(1, 80, 3000)
    with torch.no_grad():
        torch.testing.assert_close(upper(tower, lower(tower, mel)), tower(mel).last_hidden_state)


def test_words_are_learned_and_the_frozen_layers_stay(tower, made, tmp_path, monkeypatch):
    monkeypatch.setattr(encoder, "LEARNING_RATE", 3e-3)
    monkeypatch.setattr(encoder, "WARMUP", 1)
    before = deepcopy(tower.state_dict())
    naming = torch.nn.Linear(32, VOCABULARY)
    first = naming_loss(tower, naming, made, Random(0)).item()
    finetune(tower, made, tmp_path, steps=15)
    trained = torch.load(tmp_path / "encoder.pt")["trained"]
    naming.load_state_dict({key: trained[f"naming.{key}"] for key in ("weight", "bias")})
    assert naming_loss(tower, naming, made, Random(0)).item() < first - 1
    changed = {key for key, value in tower.state_dict().items() if not before[key].equal(value)}
    assert changed
    assert all(key.startswith((f"layers.{FROZEN}.", "layer_norm.")) for key in changed)


def test_an_interrupted_run_goes_on_to_the_same_weights(tower, made, tmp_path, monkeypatch):
    monkeypatch.setattr(encoder, "CHECKPOINT_EVERY", 2)
    folders = [tmp_path / "whole", tmp_path / "halves"]
    towers = [deepcopy(tower), deepcopy(tower)]
    for folder in folders:
        folder.mkdir()
    torch.manual_seed(1)
    finetune(towers[0], made, folders[0], steps=4)
    torch.manual_seed(1)
    with monkeypatch.context() as patch:
        patch.setattr(encoder, "naming_loss", _interrupted_at(3))
        with pytest.raises(KeyboardInterrupt):
            finetune(towers[1], made, folders[1], steps=4)
    finetune(towers[1], made, folders[1], steps=4)
    for one, other in zip(*(tower.state_dict().values() for tower in towers), strict=True):
        assert one.equal(other)


def _interrupted_at(call: int):
    calls = iter(range(1, call + 1))

    def loss(*arguments):
        if next(calls) == call:
            raise KeyboardInterrupt
        return naming_loss(*arguments)

    return loss
