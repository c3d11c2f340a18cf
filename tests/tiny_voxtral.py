"""A tiny Voxtral with random weights, saved as it is published."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_models import AUDIO, QUESTION, TEXT, _save_random, head_dim, stored

if TYPE_CHECKING:
    from torch import Tensor

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
            vocab_size=TEKKEN_WORDS + TEKKEN_SPECIALS, eos_token_id=2, head_dim=head_dim(), **TEXT
        ).to_dict(),
        audio_token_id=24,
    )
    _save_random(VoxtralForConditionalGeneration, config, folder, 2)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    return folder


def write_for_vllm(folder: Path) -> Path:
    """The same model beside `folder`, in the other format of the published repository.

    `consolidated.safetensors` and `params.json`, with the names of mistralai/Voxtral-Mini-3B-2507.
    """
    from safetensors.torch import save_file

    config = json.loads((folder / "config.json").read_text())
    text, audio = config["text_config"], config["audio_config"]
    tensors = {}
    for name, tensor in stored(folder).items():
        turned = re.fullmatch(r"language_model.*\.([qk])_proj\.weight", name)
        heads = {"q": text["num_attention_heads"], "k": text["num_key_value_heads"]}
        told = _paired(tensor, heads[turned[1]]) if turned else tensor
        tensors[_mistral_name(name)] = told
    del tensors[f"{ENCODER}.embed_positions.weight"]  # computed
    written = folder.parent / "for-vllm"
    written.mkdir()
    save_file(tensors, written / "consolidated.safetensors")
    (written / "params.json").write_text(json.dumps(_params(text, audio)))
    shutil.copy(folder / "tekken.json", written)
    return written


ENCODER = "mm_whisper_embeddings.whisper_encoder"
MISTRAL_NAMES = [
    (r"audio_tower\.", f"{ENCODER}."),
    (rf"({ENCODER})\.conv1", r"\1.conv_layers.0"),
    (rf"({ENCODER})\.conv2", r"\1.conv_layers.1"),
    (rf"({ENCODER})\.layers", r"\1.transformer.layers"),
    (rf"({ENCODER})\.layer_norm", r"\1.transformer.norm"),
    (r"self_attn\.out_proj", "attention.wo"),
    (r"self_attn\.([qkvo])_proj", r"attention.w\1"),
    (r"self_attn_layer_norm|input_layernorm", "attention_norm"),
    (r"final_layer_norm|post_attention_layernorm", "ffn_norm"),
    (r"fc1|mlp\.gate_proj", "feed_forward.w1"),
    (r"fc2|mlp\.down_proj", "feed_forward.w2"),
    (r"mlp\.up_proj", "feed_forward.w3"),
    (r"language_model\.(model\.)?", ""),
    (r"^lm_head", "output"),
    (r"^embed_tokens", "mm_whisper_embeddings.tok_embeddings"),
    (r"multi_modal_projector\.linear_1", "mm_whisper_embeddings.audio_language_projection.0"),
    (r"multi_modal_projector\.linear_2", "mm_whisper_embeddings.audio_language_projection.2"),
]


def _paired(tensor: Tensor, heads: int) -> Tensor:
    """Rows of queries or keys, those that are turned together side by side in each head."""
    halves = tensor.view(heads, 2, -1, tensor.shape[1])
    return halves.transpose(1, 2).reshape(tensor.shape).contiguous()


def _mistral_name(name: str) -> str:
    for pattern, instead in MISTRAL_NAMES:
        name = re.sub(pattern, instead, name)
    return name


def _params(text: dict[str, Any], audio: dict[str, Any]) -> dict[str, Any]:
    heard = {"sampling_rate": 16000, "num_mel_bins": 80, "hop_length": 160, "window_size": 400}
    encoder = {
        "audio_encoding_args": heard,
        "dim": audio["hidden_size"],
        "n_layers": audio["num_hidden_layers"],
        "head_dim": audio["hidden_size"] // audio["num_attention_heads"],
        "hidden_dim": audio["intermediate_size"],
        "n_heads": audio["num_attention_heads"],
        "vocab_size": 51866,
        "max_source_positions": 1500,
    }
    parts = {"encoder_args": encoder, "downsample_args": {"downsample_factor": 4}}
    return {
        "dim": text["hidden_size"],
        "n_layers": text["num_hidden_layers"],
        "head_dim": text["head_dim"],
        "hidden_dim": text["intermediate_size"],
        "n_heads": text["num_attention_heads"],
        "n_kv_heads": text["num_key_value_heads"],
        "rope_theta": text["rope_parameters"]["rope_theta"],
        "norm_eps": text["rms_norm_eps"],
        "vocab_size": text["vocab_size"],
        "max_position_embeddings": text["max_position_embeddings"],
        "max_seq_len": text["max_position_embeddings"],
        "multimodal": {"whisper_model_args": parts},
    }


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
