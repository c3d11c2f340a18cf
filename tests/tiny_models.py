"""Tiny Speech LLMs with random weights, saved as their families publish them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechprune_cli.flow import Audio

SPECIALS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|AUDIO|>",
    "<|audio_bos|>",
    "<|audio_eos|>",
]
QUESTION = "When is the report due?"
SENTENCES = [QUESTION, "The report is due on Friday.", "in the red house"]
TEXT = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "initializer_range": 0.5,
    "max_position_embeddings": 8192,
}
AUDIO = {
    "d_model": 32,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "num_mel_bins": 80,
    "initializer_range": 0.2,
}


def head_dim() -> int:
    """Of the decoders of `TEXT`."""
    return TEXT["hidden_size"] // TEXT["num_attention_heads"]


def make_tiny_model(folder: Path, text_family: str, **told: Any) -> Path:
    """Save a stock Qwen2-Audio with random weights, its tokenizer and its feature extractor.

    `told` is what its decoder has otherwise than `TEXT`.
    """
    from transformers import (
        AutoConfig,
        Qwen2AudioConfig,
        Qwen2AudioEncoderConfig,
        Qwen2AudioForConditionalGeneration,
        Qwen2AudioProcessor,
        WhisperFeatureExtractor,
    )

    tokenizer = _save_tokenizer(folder)
    ends = {name: tokenizer.token_to_id("<|im_end|>") for name in ("eos_token_id", "pad_token_id")}
    config = Qwen2AudioConfig(
        audio_config=Qwen2AudioEncoderConfig(**AUDIO),
        text_config=AutoConfig.for_model(
            text_family,
            **{"vocab_size": tokenizer.get_vocab_size(), "bos_token_id": None, **ends}
            | TEXT
            | told,
        ),
        audio_token_index=tokenizer.token_to_id("<|AUDIO|>"),
    )
    _save_random(Qwen2AudioForConditionalGeneration, config, folder, ends["eos_token_id"])
    WhisperFeatureExtractor(feature_size=80, return_attention_mask=True).save_pretrained(folder)
    template = Qwen2AudioProcessor.default_chat_template.fget(None)
    (folder / "chat_template.jinja").write_text(template)
    return folder


def stock_inputs(lm: Any, audio: Audio) -> Any:
    """What the stock Qwen2-Audio takes: the recording's windows between one pair of markers."""
    size = 480_000
    windows = [audio.samples[at : at + size] for at in range(0, len(audio.samples), size)]
    marker = lm.processor.audio_token
    text = lm.prompt_ids(QUESTION).text.replace(marker, marker * len(windows))
    return lm.processor(text=text, audio=windows, sampling_rate=16_000, return_tensors="pt")


def whole_ids(lm: Any, audio: Audio, marker: int) -> Any:
    """Token ids `[1, n]` of the whole prompt, `marker` standing for each token of the recording."""
    import torch

    ids, count = lm.prompt_ids(QUESTION), lm.shape.audio_tokens(audio.seconds)
    return torch.tensor([[*ids.before, *[marker] * count, *ids.after]])


def stored(folder: Path) -> dict[str, Any]:
    """The tensors of a model's own files."""
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        found |= load_file(path)
    return found


def save_sharded(folder: Path, tensors: dict[str, Any], count: int = 2) -> None:
    """In so many files, and the index that says which tensor is where."""
    from safetensors.torch import save_file

    names, where = sorted(tensors), {}
    for number in range(count):
        file = f"model-{number + 1:05}-of-{count:05}.safetensors"
        part = {name: tensors[name].clone().contiguous() for name in names[number::count]}
        save_file(part, folder / file, {"format": "pt"})
        where |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def add_weight(folder: Path, name: str, weight: Any) -> None:
    """To what `save_sharded` wrote, or in the place of one of that name."""
    save_sharded(folder, {**stored(folder), name: weight})


def _save_random(kind: Any, config: Any, folder: Path, end: int | None = None) -> None:
    import torch

    torch.manual_seed(0)
    model = kind(config)
    norms = (m for m in model.modules() if "Norm" in type(m).__name__)
    for norm in (each for each in norms if getattr(each, "weight", None) is not None):
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    if end is not None:
        model.generation_config.eos_token_id = end
    model.save_pretrained(folder)


def _save_tokenizer(folder: Path, *more: str):
    """A byte-level BPE of some 300 tokens; no chat template is with it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300 + len(more),
        special_tokens=[*SPECIALS, *more],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "processor_class": "Qwen2AudioProcessor",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return tokenizer


def forget(folder: Path, letters: str) -> None:
    """Take the tokens of letters out of a tokenizer, which drops them from then on."""
    from tokenizers import pre_tokenizers

    path = folder / "tokenizer.json"
    told = json.loads(path.read_text())
    for written, _ in pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(letters):
        for each in written:
            told["model"]["vocab"].pop(each, None)
    path.write_text(json.dumps(told))


CHAT_TEMPLATE = (
    "{% for each in messages %}<|im_start|>{{ each.role }}\n{{ each.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WHISPER_TENSORS = {
    "decoder/embeddings/weight": (51865, 32),
    "decoder/layer_0/ffn/linear_0/weight": (64, 32),
    "decoder/layer_norm/gamma": (32,),
    "encoder/conv1/weight": (32, 80, 3),
    "encoder/layer_0/ffn/linear_0/weight": (64, 32),
    "encoder/layer_norm/gamma": (32,),
    "encoder/position_encodings/encodings": (1500, 32),
}


def make_tiny_reader(folder: Path, text_family: str = "qwen2", **told: Any) -> Path:
    """Save a causal text model with random weights, its tokenizer and a chat template."""
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = _save_tokenizer(folder)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    ends = {name: tokenizer.token_to_id("<|im_end|>") for name in ("eos_token_id", "pad_token_id")}
    config = AutoConfig.for_model(
        text_family,
        **{"vocab_size": tokenizer.get_vocab_size(), "bos_token_id": None, **ends, **TEXT, **told},
    )
    _save_random(AutoModelForCausalLM.from_config, config, folder, ends["eos_token_id"])
    return folder


def make_tiny_minilm(folder: Path) -> Path:
    """Save a sentence encoder with random weights and a tokenizer of letters."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    marks = ["[PAD]", "[CLS]", "[SEP]"]
    letters = {each: number for number, each in enumerate([*marks, *map(chr, range(32, 127))])}
    tokenizer = Tokenizer(models.WordLevel(letters))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = BertConfig(
        vocab_size=len(letters),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.5,
    )
    _save_random(BertModel, config, folder)
    return folder


def make_tiny_transcriber(folder: Path, **told: Any) -> Path:
    """Save a preset of a reader and of a recogniser that has names and shapes, but no weights."""
    reader, recogniser = make_tiny_reader(folder / "reader", **told), folder / "recogniser"
    recogniser.mkdir()
    (recogniser / "model.bin").write_bytes(whisper_header(WHISPER_TENSORS))
    for name in ("config.json", "tokenizer.json"):
        (recogniser / name).write_text("{}")
    preset = folder / "tiny-transcript.yaml"
    preset.write_text(
        "name: tiny-transcript\n"
        f"recogniser: {{source: {recogniser}}}\n"
        f"reader: {{source: {reader}}}\n"
        "defaults: {keep: 20%}\n"
    )
    return preset


def whisper_header(tensors: dict[str, tuple[int, ...]]) -> bytes:
    """A Whisper in CTranslate2's format whose tensors take no bytes."""

    def text(told: str) -> bytes:
        return struct.pack("<H", len(told) + 1) + told.encode() + b"\0"

    parts = [struct.pack("<I", 6), text("WhisperSpec"), struct.pack("<II", 3, len(tensors))]
    for name, shape in tensors.items():
        parts += [text(name), struct.pack(f"<B{len(shape)}IBI", len(shape), *shape, 4, 0)]
    return b"".join(parts)
