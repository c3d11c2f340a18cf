"""Granite Speech Plus: the Q-Former sees the encoder's earlier layers too, beside the last."""

from __future__ import annotations

from speechprune_cli.backends.granite_speech import GraniteSpeech, GraniteSpeechShape


class GraniteSpeechPlusShape(GraniteSpeechShape):
    """That of Granite Speech, with the numbers of the layers that the Q-Former sees."""

    cat_hidden_layers: list[int] | None = None


class GraniteSpeechPlus(GraniteSpeech):
    """A `GraniteSpeechPlusForConditionalGeneration`, stock."""

    family = "granite_speech_plus"
    model_types = ("granite_speech_plus",)
    code_version = "granite_speech_plus/1"
    encoder_shape = GraniteSpeechPlusShape
    model_class = "GraniteSpeechPlusForConditionalGeneration"
