"""What a run's numbers depend on beside its plan."""

from __future__ import annotations

import platform
from typing import Any

from speechprune_cli.bench.runner import LETTER_ONLY
from speechprune_cli.pipeline import Session
from speechprune_cli.provenance import describe_model, processor, versions

QUESTION, CHOICES = "When is it?", ("on Monday", "on Friday")


def describe_environment(session: Session) -> dict[str, Any]:
    """Machine, versions, model and the prompt as this model is given it."""
    import torch

    model = session.model
    return {
        "model": describe_model(model),
        "quantize": model.quantize,
        "attention": _attention(session),
        "decisions": list(model.decisions),
        "prompt": _prompt(session, QUESTION),
        "prompt_with_options": _prompt(session, QUESTION, CHOICES),
        "prompt_by_letter": _prompt(session, f"{QUESTION}\n{LETTER_ONLY}", CHOICES),
        "lists_options": model.preset.defaults.list_choices,
        "defaults": model.preset.defaults.model_dump(),
        "machine": platform.platform(),
        "processor": processor(),
        "gpu": torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **versions()},
    }


def _prompt(session: Session, question: str, choices: tuple[str, ...] = ()) -> str:
    return session.model.render(question, choices)


def _attention(session: Session) -> str:
    return str(session.model.model.config._attn_implementation)
