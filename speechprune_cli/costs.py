"""What reading a prompt costs, in closed form.

The paper (arXiv 2412.12009, table I) counts the linear layers and the output head at every
position and nothing else; `prefill_tflops` reproduces its TF column. The other functions give what
that convention leaves out: attention, the audio encoder and the pruning itself. Every
`text_config` is the language model's configuration as transformers names its fields, and one
TFLOP is 1e12 operations, a multiply-add being two.
"""

from __future__ import annotations

from typing import Any

TERA = 1e12


def _head_dim(text_config: Any) -> int:
    explicit = getattr(text_config, "head_dim", None)
    return explicit or text_config.hidden_size // text_config.num_attention_heads


def _query_width(text_config: Any) -> int:
    return text_config.num_attention_heads * _head_dim(text_config)


def _key_width(text_config: Any) -> int:
    return text_config.num_key_value_heads * _head_dim(text_config)


def linear_parameters(text_config: Any) -> int:
    """Weights of the decoder's linear layers and its output head."""
    hidden = text_config.hidden_size
    attention = 2 * hidden * (_query_width(text_config) + _key_width(text_config))
    mlp = 3 * hidden * text_config.intermediate_size
    layers = text_config.num_hidden_layers * (attention + mlp)
    return layers + hidden * text_config.vocab_size


def prefill_tflops(text_config: Any, n_tokens: int) -> float:
    """TFLOPs to read `n_tokens` in the paper's convention: 2 (linears + head) n."""
    return 2 * linear_parameters(text_config) * n_tokens / TERA


def prefill_attention_tflops(text_config: Any, n_tokens: int) -> float:
    """TFLOPs of the two attention products, which the paper leaves out: 4 n^2 width layers."""
    width = _query_width(text_config)
    return 4 * n_tokens**2 * width * text_config.num_hidden_layers / TERA


def phase2_tflops(text_config: Any, n_tokens: int) -> float:
    """TFLOPs of the binarised first-layer attention over `n_tokens` (eq. 10-12)."""
    query, key = _query_width(text_config), _key_width(text_config)
    projections = 2 * n_tokens * text_config.hidden_size * (query + key)
    return (projections + 2 * n_tokens**2 * query) / TERA


def encoder_tflops(audio_config: Any, text_config: Any, windows: int) -> float:
    """TFLOPs of the audio encoder and the projector over 30 s `windows`; pruning saves none."""
    width, ffn = audio_config.d_model, audio_config.encoder_ffn_dim
    steps = audio_config.max_source_positions
    convolutions = 2 * 2 * steps * 3 * audio_config.num_mel_bins * width + 2 * steps * 3 * width**2
    linears = 2 * steps * (4 * width**2 + 2 * width * ffn)
    attention = 4 * steps**2 * width
    projector = 2 * (steps // 2) * width * text_config.hidden_size
    layers = audio_config.encoder_layers * (linears + attention)
    return windows * (convolutions + layers + projector) / TERA


def kv_cache_bytes(text_config: Any, n_tokens: int, bytes_per_value: int) -> int:
    """Keys and values of `n_tokens` in every layer."""
    per_token = 2 * text_config.num_hidden_layers * _key_width(text_config)
    return per_token * n_tokens * bytes_per_value


def prefill_bytes(text_config: Any, n_tokens: int, bytes_per_value: int) -> int:
    """Memory to read a prompt beside the weights: the KV cache and one layer's activations."""
    hidden, ffn = text_config.hidden_size, text_config.intermediate_size
    activations = n_tokens * (6 * hidden + 3 * ffn) * bytes_per_value
    return kv_cache_bytes(text_config, n_tokens, bytes_per_value) + activations
