"""Prints what a model that reads transcripts takes, read whole and pruned by its default.

python tests/benchmarks/reader.py RECORDING ... [--model mini] [--no-cache] [--server URL]

Of every recording: transcription (or that it was kept), choosing, prefill up to the first token, a
short answer, and the process's peak memory meanwhile. With `--server` the reader is one that is
served. Nothing else should run beside it.
"""

from __future__ import annotations

import argparse
import time

import torch

from speechprune_cli import load, load_audio
from speechprune_cli.device import PeakMemory
from speechprune_cli.flow import AudioTokens
from speechprune_cli.methods import FULL, MethodSpec, default_amount
from speechprune_cli.pipeline import Session
from speechprune_cli.provenance import processor
from speechprune_cli.units import duration, length

QUESTION = "What happened in the end?"
NEW_TOKENS = 20  # of a short answer


def main() -> None:
    """Measure every recording."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recordings", nargs="+")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--no-cache", action="store_true", help="transcribe anew")
    parser.add_argument("--server", help="where the reader is served")
    told = parser.parse_args()
    begun = time.perf_counter()
    session = load(told.model, cache=not told.no_cache, server=told.server)
    print(f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{told.model} in {session.model.dtype}: loaded in {time.perf_counter() - begun:.2f} s")
    for decision in session.decisions:
        print(decision)
    if not told.server:
        warm(session)
    for recording in told.recordings:
        measure(session, recording)


def warm(session: Session) -> None:
    """Read something: the first matrix products are slower, and weights come from the disk."""
    ids = torch.arange(300, 800, device=session.model.device)
    with torch.no_grad():
        embeds = session.model.embed_rows(ids)[None]
        session.model.run_decoder(embeds, torch.arange(500)[None], None, session.model.new_cache())
    _ = session.model.vocabulary_mean


def measure(session: Session, recording: str) -> None:
    """One recording, read whole and pruned."""
    peak, begun = PeakMemory(session.model.device), time.perf_counter()
    audio = load_audio(recording)
    decoded = time.perf_counter()
    tokens = session.encode(audio)
    encoded = time.perf_counter()
    print(f"\n{recording}: {length(audio.seconds)}, {len(tokens):,} tokens")
    origin = "kept transcript" if tokens.from_cache else "transcription"
    print(f"  decoding {decoded - begun:.1f} s, {origin} {encoded - decoded:.1f} s", end="")
    print(f", peak {peak.bytes() / 1e9:.2f} GB")
    defaults = session.model.preset.defaults
    specs = (FULL, MethodSpec.parse(defaults.method, default_amount(defaults)))
    for spec in specs:
        row(session, tokens, spec)


def row(session: Session, tokens: AudioTokens, spec: MethodSpec) -> None:
    """One condition: choosing, the first token, the whole of a short answer."""
    model = session.model
    context = model.shape.decoder.max_position_embeddings
    model.kept_prefix = None
    begun = time.perf_counter()
    selection = session.select(tokens, QUESTION, spec)
    prompt = session.build_prompt(tokens, selection, QUESTION)
    chosen = time.perf_counter() - begun
    count = prompt.audio_tokens + prompt.text_tokens
    if count > context:
        print(f"  {spec.label}: a prompt of {count:,} tokens is beyond the context of {context:,}")
        return
    peak = PeakMemory(model.device)
    answer = session.respond(prompt, max_new_tokens=NEW_TOKENS)
    first = chosen + answer.prefill_seconds
    each = answer.decode_seconds / max(answer.new_tokens, 1)
    print(
        f"  {spec.label}: {len(selection.kept):,} kept, prompt {count:,}; "
        f"choose {duration(chosen)}, prefill {duration(answer.prefill_seconds)}, "
        f"first token {duration(first)}, further tokens {duration(each)} each, "
        f"{answer.new_tokens} tokens in {duration(first + answer.decode_seconds)}, "
        f"peak {peak.bytes() / 1e9:.2f} GB"
    )


if __name__ == "__main__":
    main()
