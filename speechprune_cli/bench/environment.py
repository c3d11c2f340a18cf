"""What a run's numbers depend on beside its plan."""

from __future__ import annotations

import platform
from typing import Any

from speechprune_cli.pipeline import Session
from speechprune_cli.provenance import describe_model, processor, versions
from speechprune_cli.question import LETTER_ONLY

QUESTION, CHOICES = "When is it?", ("on Monday", "on Friday")


def describe_environment(session: Session) -> dict[str, Any]:
    """Machine, versions, model and the prompt as this model is given it."""
    import torch

    model = session.model
    return {
        "model": describe_model(model),
        "quantize": model.quantize,
        "recogniser": model.writes,
        "attention": model.attention_implementation,
        "decisions": list(session.decisions),
        "by_letter": bool(session.reader and session.reader.by_letter),
        "server": session.reader.describe() if session.reader else None,
        "prompt": model.prompt_ids(QUESTION).text,
        "prompt_with_options": model.prompt_ids(QUESTION, CHOICES).text,
        "prompt_by_letter": model.prompt_ids(f"{QUESTION}\n{LETTER_ONLY}", CHOICES).text,
        "lists_options": model.preset.defaults.list_choices,
        "defaults": model.preset.defaults.model_dump(),
        "machine": platform.platform(),
        "processor": processor(),
        "gpu": torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **versions()},
    }
