"""What `--json` gives, and the same on one line for people.

Fields of one object (`ask` gives all of them, `prune` those without a prompt and an answer):

    question, choices      as asked
    answer                 text of the answer; of a multiple-choice question, the likeliest option
    probabilities          per option, or null
    finished               false where --max-new-tokens cut the answer short
    audio                  source, sha256, source_rate, channels, source_seconds (as given),
                           encoded_seconds (as encoded), warnings
    model                  name, source, revision, device, dtype
    pruning                method, settings, reason, warning (or null), merged (whether tokens
                           were averaged), tokens (N), budget (B1; where nobody says, at
                           least k), budget_default (what B1 is then otherwise), kept (k),
                           share_kept (k/N), rate_of_budget (1 - k/B1, or null where k is more),
                           rate_of_recording (1 - k/N)
    timeline               times (exact, or nominal where the model only guesses when a token was
                           said), and per second of the recording: tokens, kept, scores (mean of
                           its tokens)
    passages               start, end and text of every run of retained words; empty where a model
                           hears by itself
    language               of a transcript, or null
    best_seconds           the seconds that keep most tokens, best first
    kept                   (`prune`) indices of the retained tokens
    prompt                 text as rendered, audio_tokens, text_tokens
    seconds                encode (as measured when it was done), encode_cached, prune, prefill,
                           decode
    new_tokens             tokens generated
    tflops_saved           of the prefill, in the paper's convention (linear layers alone)
    peak_memory_bytes      of the device
    files                  (`prune`) what was written
    versions               of speechprune, torch and transformers
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from speechprune_cli.costs import paper_tflops
from speechprune_cli.provenance import describe_model, versions
from speechprune_cli.report.passages import passages
from speechprune_cli.report.timeline import Timeline
from speechprune_cli.units import duration, quantity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from speechprune_cli.flow import Answer, Audio, AudioTokens, Prompt, Selection
    from speechprune_cli.pipeline import Session


def describe_selection(
    session: Session,
    audio: Audio,
    tokens: AudioTokens,
    selection: Selection,
    settings: dict[str, Any],
) -> dict[str, Any]:
    """The JSON fields that do not need an answer."""
    timeline, decoder = Timeline.of(tokens, selection), session.model.shape.decoder
    given = ("source", "sha256", "source_rate", "channels", "source_seconds")
    return {
        "audio": {
            **{name: getattr(audio, name) for name in given},
            "encoded_seconds": tokens.seconds,
            "warnings": list(audio.warnings),
        },
        "model": describe_model(session.model),
        "pruning": {
            **describe_pruning(tokens, selection, settings),
            "budget_default": session.model.shape.budget_reason,
        },
        "timeline": {
            "times": "nominal" if tokens.nominal_times else "exact",
            "tokens": timeline.tokens.tolist(),
            "kept": timeline.kept.tolist(),
            "scores": [round(score, 6) for score in timeline.scores.tolist()],
        },
        "passages": [asdict(each) for each in passages(session.model, tokens, selection)],
        "language": tokens.transcript.language if tokens.transcript else None,
        "best_seconds": timeline.best(),
        "seconds": {
            "encode": tokens.encode_seconds,
            "encode_cached": tokens.from_cache,
            "prune": selection.seconds,
        },
        "tflops_saved": paper_tflops(decoder, len(tokens))
        - paper_tflops(decoder, len(selection.kept)),
        "versions": versions(),
    }


def describe_pruning(
    tokens: AudioTokens, selection: Selection, settings: dict[str, Any]
) -> dict[str, Any]:
    """Fields of `pruning`."""
    kept, budget = len(selection.kept), selection.phase1_budget
    return {
        "method": selection.method,
        "settings": settings,
        "reason": selection.reason,
        "warning": selection.warning or None,
        "merged": selection.merge is not None,
        "tokens": len(tokens),
        "budget": budget,
        "kept": kept,
        "share_kept": round(kept / max(len(tokens), 1), 6),
        "rate_of_budget": round(1 - kept / budget, 6) if 0 < kept <= budget else None,
        "rate_of_recording": round(1 - kept / max(len(tokens), 1), 6),
    }


def describe_answer(prompt: Prompt, answer: Answer, selection: dict[str, Any]) -> dict[str, Any]:
    """The JSON fields of an answer, before those of its `selection`."""
    return {
        "answer": answer.text,
        "probabilities": answer.probabilities,
        "finished": answer.finished,
        "new_tokens": answer.new_tokens,
        "prompt": {
            "text": prompt.text,
            "audio_tokens": prompt.audio_tokens,
            "text_tokens": prompt.text_tokens,
        },
        "peak_memory_bytes": answer.peak_memory_bytes,
        **selection,
        "seconds": {
            **selection["seconds"],
            "prefill": answer.prefill_seconds,
            "decode": answer.decode_seconds,
        },
    }


def facts(fields: dict[str, Any]) -> list[str]:
    """The facts of one question, each a short phrase, from its JSON fields."""
    pruning, seconds = fields["pruning"], fields["seconds"]
    encode = "cached" if seconds["encode_cached"] else duration(seconds["encode"])
    steps = [step for step in ("prune", "prefill", "decode") if step in seconds]
    phrases = [
        tokens_phrase(pruning),
        rates_phrase(pruning),
        bar_phrase(fields["timeline"]),
        f"encode {encode}",
        *(f"{step} {duration(seconds[step])}" for step in steps),
        f"{quantity(fields['tflops_saved'])} TFLOPs saved",
    ]
    if "peak_memory_bytes" in fields:
        phrases.append(f"peak {fields['peak_memory_bytes'] / 2**30:.2f} GiB")
    if fields["timeline"]["times"] == "nominal":
        phrases.append("times are nominal")
    if not fields.get("finished", True):
        phrases.append(f"answer cut at {fields['new_tokens']} tokens")
    return phrases


def bar_phrase(timeline: dict[str, Any]) -> str:
    """What a full bar of the drawn timeline stands for."""
    pairs = zip(timeline["kept"], timeline["tokens"], strict=True)
    peak = max((kept / total for kept, total in pairs if total), default=0.0)
    return f"█ = {peak:.0%} of a second"


def tokens_phrase(pruning: dict[str, Any]) -> str:
    """`N 2,250, B1 750, k 600 tokens`."""
    total, budget, kept = pruning["tokens"], pruning["budget"], pruning["kept"]
    return f"N {total:,}, B1 {budget:,}, k {kept:,} tokens"


def rates_phrase(pruning: dict[str, Any]) -> str:
    """`27% of the recording kept, 20% of B1 pruned`; a rate is said where it is one."""
    if pruning["kept"] == pruning["tokens"]:
        return "nothing pruned"
    kept = f"{pruning['share_kept']:.0%} of the recording kept"
    if pruning["kept"] >= pruning["budget"]:
        return kept
    return f"{kept}, {pruning['rate_of_budget']:.0%} of B1 pruned"


def facts_text(phrases: Sequence[str], width: int) -> Text:
    """Phrases joined by dots, broken into lines only between phrases."""
    from rich.text import Text

    lines = [phrases[0]]
    for phrase in phrases[1:]:
        joined = f"{lines[-1]} · {phrase}"
        if len(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(phrase)
    return Text("\n".join(lines), "dim", no_wrap=True)


def choices_text(probabilities: dict[str, float], width: int) -> Text:
    """One line an option: its probability as a number and as a bar; the likeliest stands out."""
    from rich.text import Text

    best = max(probabilities, key=probabilities.__getitem__)
    longest = max(len(option) for option in probabilities)
    room = width - longest - len("  100%  ")
    text = Text()
    for option, probability in probabilities.items():
        bar = "█" * round(probability * min(max(room, 0), 40))
        text.append(f"{option:{longest}}  {probability:4.0%}  ", "bold" if option == best else "")
        text.append(f"{bar}\n", "cyan" if option == best else "dim")
    text.rstrip()
    return text
