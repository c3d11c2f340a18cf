"""What reading a recording costs, in closed form.

Two conventions. The paper's (SpeechPrune, arXiv 2412.12009, table I) counts the linear layers and
the output head at every position and nothing else; `paper_*` reproduce its columns. The other
functions give what a run really does: attention, the audio encoder, the pruning itself, and the
output head only where a token is predicted.

Every `decoder` is a `config.Decoder`, or a configuration that names its fields alike, as
transformers' do; what an audio encoder costs is told by its family (`backends/`). Operations are
counted as everybody does: a multiply-add is two, attention over all pairs of positions (the causal
half is not taken off), and element-wise work is left out. One TFLOP is 1e12 operations, one GB 1e9
bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

TERA = 1e12
GIGA = 1e9
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 2, "nf4": 2}
"""Of one value that is computed with, by dtype or quantisation: those compute in 16 bits."""
QUESTION_TOKENS = 16  # of a question, where each of them is compared with every audio token
QUANTISED_BYTES = {"int8": 1.0, "nf4": 0.5 + 4 / 64}
"""Of one weight of the decoder's linear layers, as bitsandbytes holds it: nf4 has a float32 for
every 64 weights. All else stays in 16 bits."""


def query_width(decoder: Any) -> int:
    """Of all heads together."""
    return decoder.num_attention_heads * _head_dim(decoder)


def key_width(decoder: Any) -> int:
    """Of all key heads together."""
    return decoder.num_key_value_heads * _head_dim(decoder)


def _head_dim(decoder: Any) -> int:
    explicit = getattr(decoder, "head_dim", None)
    return explicit or decoder.hidden_size // decoder.num_attention_heads


class Layers(NamedTuple):
    """Layers that are alike, as `config.LayerKind`."""

    layers: int
    weights: int
    query_width: int
    key_width: int
    window: int | None = None
    products: int = 0


def kinds(decoder: Any) -> tuple[Any, ...]:
    """Of its layers: one, of attention and a gated MLP, where it does not say that they differ."""
    told: tuple[Any, ...] = getattr(decoder, "kinds", ())
    if told:
        return told
    hidden, query, key = decoder.hidden_size, query_width(decoder), key_width(decoder)
    _, active = _experts(decoder)
    router = decoder.num_experts if is_sparse(decoder) else 0
    weights = hidden * (2 * query + 2 * key + router) + active * _mlp_parameters(decoder)
    return (Layers(decoder.num_hidden_layers, weights, query, key),)


def linear_parameters(decoder: Any) -> int:
    """Weights of the linear layers that a token passes, without the output head.

    Those of adapters too; of a mixture of experts the router, and those it sends a token to.
    """
    layers = sum(each.layers * each.weights for each in kinds(decoder))
    return layers + getattr(decoder, "weights_beside", 0) + adapter_parameters(decoder)


def held_parameters(decoder: Any) -> int:
    """Weights of all linear layers, every expert's too, without the output head."""
    experts, active = _experts(decoder)
    idle = decoder.num_hidden_layers * (experts - active) * _mlp_parameters(decoder)
    return linear_parameters(decoder) + idle


def attention_parameters(decoder: Any) -> int:
    """Weights of the attention of all layers."""
    width = query_width(decoder) + key_width(decoder)
    return decoder.num_hidden_layers * 2 * decoder.hidden_size * width


def is_sparse(decoder: Any) -> bool:
    """Whether its MLPs are mixtures of experts."""
    named = ("num_experts", "num_experts_per_tok")
    return all(getattr(decoder, name, None) for name in named)


def _experts(decoder: Any) -> tuple[int, int]:
    """How many there are in a layer, and how many of them a token passes."""
    return (decoder.num_experts, decoder.num_experts_per_tok) if is_sparse(decoder) else (1, 1)


def _mlp_width(decoder: Any) -> int:
    """Between up and down, of one expert where there are some."""
    expert = getattr(decoder, "moe_intermediate_size", None) if is_sparse(decoder) else None
    return expert or decoder.intermediate_size


def _mlp_parameters(decoder: Any) -> int:
    """Weights of one gated MLP: of one expert where there are some."""
    return decoder.hidden_size * 3 * _mlp_width(decoder)


def adapter_parameters(decoder: Any) -> int:
    """Weights of a low-rank adapter: two thin matrices beside each module that has one."""
    hidden, ffn = decoder.hidden_size, decoder.intermediate_size
    query, key = query_width(decoder), key_width(decoder)
    ends = {
        "q_proj": hidden + query,
        "k_proj": hidden + key,
        "v_proj": hidden + key,
        "qkv_proj": hidden + query + 2 * key,
        "o_proj": query + hidden,
        "gate_proj": hidden + ffn,
        "up_proj": hidden + ffn,
        "gate_up_proj": hidden + 2 * ffn,
        "down_proj": ffn + hidden,
    }
    widths = sum(ends[name] for name in getattr(decoder, "adapter_modules", ()))
    return decoder.num_hidden_layers * getattr(decoder, "adapter_rank", 0) * widths


def head_parameters(decoder: Any) -> int:
    """Weights of the output head."""
    return decoder.hidden_size * decoder.vocab_size


def paper_tflops(decoder: Any, n_tokens: int) -> float:
    """Table I's TF: TFLOPs of the linear layers and the head at each of `n_tokens` positions."""
    return 2 * (linear_parameters(decoder) + head_parameters(decoder)) * n_tokens / TERA


def paper_memory_gb(decoder: Any, n_tokens: int) -> float:
    """Table I's TM: decoder layers and KV cache in 16 bits; no embeddings, head, encoder."""
    weights = 2 * held_parameters(decoder)
    return (weights + kv_cache_bytes(decoder, n_tokens, 2)) / GIGA


def paper_activations_gb(decoder: Any, n_tokens: int) -> float:
    """Table I's SA: one layer's activations in 16 bits, the attention matrix `[H, n, n]` held."""
    _, active = _experts(decoder)
    values = 9 * decoder.hidden_size + 2 * active * _mlp_width(decoder)
    pairs = 2 * decoder.num_attention_heads * n_tokens
    return 2 * n_tokens * (values + pairs) / GIGA


def layers_flops(decoder: Any, n_tokens: int) -> int:
    """Linear layers over `n_tokens`, and what is multiplied beside them."""
    beside = sum(each.layers * each.products for each in kinds(decoder))
    return 2 * (linear_parameters(decoder) + beside) * n_tokens


def attention_flops(decoder: Any, queries: int, keys: int) -> int:
    """The two attention products of all layers: `queries` positions that look at `keys`.

    A prompt is read so where layers attend to a window alone: what is outside of it is masked.
    """
    return 4 * queries * keys * sum(each.layers * each.query_width for each in kinds(decoder))


def head_flops(decoder: Any) -> int:
    """The output head at one position."""
    return 2 * head_parameters(decoder)


def prefill_flops(decoder: Any, n_tokens: int) -> int:
    """Reading a prompt up to the logits of the first new token."""
    attention = attention_flops(decoder, n_tokens, n_tokens)
    return layers_flops(decoder, n_tokens) + attention + head_flops(decoder)


def causal_prefill_flops(decoder: Any, n_tokens: int) -> int:
    """The same with attention over the causal half of the pairs alone, which kernels compute."""
    attention = attention_flops(decoder, n_tokens, n_tokens + 1) // 2
    return layers_flops(decoder, n_tokens) + attention + head_flops(decoder)


def decode_flops(decoder: Any, n_tokens: int, new_tokens: int) -> int:
    """Writing `new_tokens` after a prompt of `n_tokens`; the first comes with the prefill."""
    steps, attention = new_tokens - 1, 0
    for kind in kinds(decoder):
        keys_seen = _keys_seen(n_tokens, steps, kind.window or n_tokens + steps)
        attention += 4 * keys_seen * kind.layers * kind.query_width
    return steps * (layers_flops(decoder, 1) + head_flops(decoder)) + attention


def _keys_seen(n_tokens: int, steps: int, window: int) -> int:
    """Of all `steps` tokens that are written after a prompt, at most `window` of each."""
    growing = min(steps, max(0, window - n_tokens))
    return growing * n_tokens + growing * (growing + 1) // 2 + (steps - growing) * window


def similarity_flops(decoder: Any, n_tokens: int) -> int:
    """Phase 1's score of every token: its norm, and one product with the question's direction."""
    return 4 * n_tokens * decoder.hidden_size


def received_attention_flops(decoder: Any, n_tokens: int) -> int:
    """Phase 2's binarised first-layer attention over `n_tokens` (eq. 10-12)."""
    query, key = query_width(decoder), key_width(decoder)
    projections = 2 * n_tokens * decoder.hidden_size * (query + key)
    return projections + 2 * n_tokens**2 * query


def received_attention_bytes(decoder: Any, n_tokens: int) -> int:
    """What that holds in float32, about: signs, queries and keys of all tokens, one weight."""
    query, key = query_width(decoder), key_width(decoder)
    hidden = decoder.hidden_size
    return 4 * (n_tokens * (2 * hidden + query + key) + 2 * hidden * query)


@dataclass(frozen=True)
class PruningSize:
    """How much a method has to choose from, and how much it keeps, in audio tokens."""

    total: int  # N
    budget: int  # B1, what phase 1 leaves
    kept: int  # k
    first: int  # tokens of the model's own input length; at most N


def weights_bytes(decoder: Any, parameters: int, dtype: str) -> float:
    """All `parameters` of a model: embeddings, head and encoder too.

    `dtype` is one of `BYTES`; a quantisation packs the decoder's linear layers alone, leaves
    adapters as they are, and experts: bitsandbytes keeps those in 16 bits.
    """
    packed = 0
    if dtype in QUANTISED_BYTES:
        dense = linear_parameters(decoder) - adapter_parameters(decoder)
        packed = attention_parameters(decoder) if is_sparse(decoder) else dense
    return packed * QUANTISED_BYTES.get(dtype, 0) + (parameters - packed) * BYTES[dtype]


def kv_cache_bytes(decoder: Any, n_tokens: int, bytes_per_value: int) -> int:
    """Keys and values of `n_tokens` in every layer; one with a window holds what the next sees."""
    values = sum(
        2
        * each.layers
        * each.key_width
        * min(n_tokens, each.window - 1 if each.window else n_tokens)
        for each in kinds(decoder)
    )
    return values * bytes_per_value


def activation_bytes(decoder: Any, n_tokens: int, bytes_per_value: int) -> int:
    """One layer's activations over `n_tokens`, about: attention that builds no n x n matrix."""
    _, active = _experts(decoder)
    copies = 2 * active if is_sparse(decoder) else 0  # of what goes to experts and comes from them
    shared = 2 * getattr(decoder, "weights_beside", 0) // decoder.hidden_size  # by all layers
    values = (6 + copies) * decoder.hidden_size + 3 * active * _mlp_width(decoder) + shared
    return n_tokens * values * bytes_per_value


def prefill_bytes(decoder: Any, n_tokens: int, bytes_per_value: int) -> int:
    """Memory to read a prompt beside the weights: the KV cache and one layer's activations."""
    cache = kv_cache_bytes(decoder, n_tokens, bytes_per_value)
    return cache + activation_bytes(decoder, n_tokens, bytes_per_value)
