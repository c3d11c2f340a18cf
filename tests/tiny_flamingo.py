"""Tiny Audio Flamingo 3 and Music Flamingo with random weights, saved as they are published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiny_models import AUDIO, QUESTION, TEXT, _save_random, _save_tokenizer

if TYPE_CHECKING:
    from speechprune_cli.flow import Audio


TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% for c in m['content'] if c['type'] == 'audio' %}<sound>{% endfor %}"
    "{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] }}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""What the published templates write for one recording and one text, whatever their order."""
MARKERS = ("<sound>", "<|sound_bos|>", "<|sound_eos|>")


def make_tiny_flamingo(folder: Path, kind: str = "AudioFlamingo3") -> Path:
    """Save a stock `AudioFlamingo3` or `MusicFlamingo` with its processor."""
    import transformers

    tokenizer = _save_tokenizer(folder, *MARKERS)
    end = tokenizer.token_to_id("<|im_end|>")
    names = ("audio_token_id", "audio_bos_token_id", "audio_eos_token_id")
    marks = dict(zip(names, map(tokenizer.token_to_id, MARKERS), strict=True))
    told: dict[str, Any] = marks if kind == "MusicFlamingo" else {names[0]: marks[names[0]]}
    config = getattr(transformers, f"{kind}Config")(
        audio_config=transformers.AudioFlamingo3EncoderConfig(**AUDIO),
        text_config=transformers.Qwen2Config(
            vocab_size=tokenizer.get_vocab_size(), eos_token_id=end, pad_token_id=end, **TEXT
        ),
        **told,
    )
    model = getattr(transformers, f"{kind}ForConditionalGeneration")
    _save_random(model, config, folder, end)
    extractor = transformers.WhisperFeatureExtractor(feature_size=80, return_attention_mask=True)
    described = json.loads((folder / "tokenizer_config.json").read_text())
    described["processor_class"] = f"{kind}Processor"
    (folder / "tokenizer_config.json").write_text(json.dumps(described))
    words = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    processor = getattr(transformers, f"{kind}Processor")
    processor(extractor, words, chat_template=TEMPLATE).save_pretrained(folder)
    return folder


def stock_inputs(lm: Any, audio: Audio) -> Any:
    """What the stock model takes; Music Flamingo's fails at a last window without a token."""
    empty = lm.family == "music_flamingo" and 480_000 < len(audio.samples) < 480_640
    return asked(lm, audio.samples[:480_000] if empty else audio.samples)


def asked(lm: Any, samples: Any) -> Any:
    """As the models' pages have it: the question, then the recording, which the template turns."""
    content = [{"type": "text", "text": QUESTION}, {"type": "audio", "audio": samples}]
    return lm.processor.apply_chat_template(
        [{"role": "user", "content": content}],
        tokenize=True,
        add_generation_prompt=True,
        return_dict=True,
    )
