"""A tiny Voxtral with random weights, saved as it is published."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_models import AUDIO, QUESTION, TEXT, _save_random

if TYPE_CHECKING:
    from speechprune_cli.flow import Audio

TEKKEN_WORDS = 300
TEKKEN_SPECIALS = 40


def make_tiny_voxtral(folder: Path) -> Path:
    """Save a stock Voxtral with random weights, a small tekken.json and its feature extractor."""
    from transformers import (
        LlamaConfig,
        VoxtralConfig,
        VoxtralEncoderConfig,
        VoxtralForConditionalGeneration,
        WhisperFeatureExtractor,
    )

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tekken.json").write_text(json.dumps(_tekken()))
    audio = {**AUDIO, "encoder_ffn_dim": 128, "num_mel_bins": 80}
    config = VoxtralConfig(
        audio_config=VoxtralEncoderConfig(**audio),
        text_config=LlamaConfig(
            vocab_size=TEKKEN_WORDS + TEKKEN_SPECIALS, eos_token_id=2, head_dim=16, **TEXT
        ).to_dict(),
        audio_token_id=24,
    )
    _save_random(VoxtralForConditionalGeneration, config, folder, 2)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    return folder


def _tekken() -> dict[str, Any]:
    """Mistral's own file cut to its first words, with the audio part that Voxtral's has."""
    import mistral_common

    data = Path(mistral_common.__file__).parent / "data" / "tekken_240911.json"
    tekken = json.loads(data.read_text(encoding="utf-8"))
    names = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]"]
    names += ["[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]"]
    names += ["<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]", "[SUFFIX]"]
    names += ["[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]"]
    names += [f"<SPECIAL_{number}>" for number in range(len(names), 24)] + [
        "[AUDIO]",
        "[BEGIN_AUDIO]",
    ]
    names += [f"<SPECIAL_{number}>" for number in range(len(names), TEKKEN_SPECIALS)]
    names[34] = "[TRANSCRIBE]"
    return {
        "config": {
            **tekken["config"],
            "num_vocab_tokens": TEKKEN_WORDS,
            "default_vocab_size": TEKKEN_WORDS + TEKKEN_SPECIALS,
            "default_num_special_tokens": TEKKEN_SPECIALS,
            "version": "v7",
        },
        "vocab": tekken["vocab"][:TEKKEN_WORDS],
        "special_tokens": [
            {"rank": rank, "token_str": name, "is_control": True} for rank, name in enumerate(names)
        ],
        "audio": {
            "sampling_rate": 16000,
            "frame_rate": 12.5,
            "audio_encoding_config": {"num_mel_bins": 80, "hop_length": 160, "window_size": 400},
            "chunk_length_s": 30.0,
        },
    }


def conversation(audio: Audio) -> list[dict[str, Any]]:
    """As the model's page has it: the recording, then the question."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, audio.samples, 16_000, format="WAV", subtype="FLOAT")
    sound = base64.b64encode(file.getvalue()).decode()
    content = [{"type": "audio", "base64": sound}, {"type": "text", "text": QUESTION}]
    return [{"role": "user", "content": content}]


def stock_inputs(lm: Any, audio: Audio) -> Any:
    """What the stock model takes."""
    return lm.processor.apply_chat_template(conversation(audio))
