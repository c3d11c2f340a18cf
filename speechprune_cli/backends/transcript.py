"""Any recogniser and any text model as a Speech LLM: the one writes, the other reads.

Audio tokens are the reader's own tokens of what was said, each with the time at which it was said
and with the loudness of the sound there; their embeddings are the reader's word embeddings. So
everything works on them but what needs an encoder's attention, and a Speech LLM can be compared
with what its simplest rival does. What no transcript holds (who speaks, in which tone, what else
sounds) this family cannot answer.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import PositiveInt

from speechprune_cli.backends._prompts import with_options
from speechprune_cli.backends.base import TOKEN_IDS, ProgressCallback
from speechprune_cli.backends.composed import ReaderLM
from speechprune_cli.backends.shape import Shape
from speechprune_cli.backends.windowed import WhisperShape
from speechprune_cli.errors import ModelError, UsageError
from speechprune_cli.flow import (
    SAMPLE_RATE,
    TRANSCRIPT,
    Audio,
    AudioTokens,
    PromptIds,
)
from speechprune_cli.transcripts.header import Shapes, read_shapes

if TYPE_CHECKING:
    from pathlib import Path

    from speechprune_cli.backends._chat import Chat
    from speechprune_cli.backends._reader import Reader
    from speechprune_cli.cache import TokenCache
    from speechprune_cli.checkpoint import Checkpoint
    from speechprune_cli.config import Decoder, Part, Preset
    from speechprune_cli.device import Placement
    from speechprune_cli.flow import Transcript
    from speechprune_cli.transcripts.recogniser import Recogniser

TOKENS_PER_SECOND = 3.0  # of fluent English in a vocabulary of 150,000; what is said decides
SENTENCE_WORDS = 15  # where nothing is said
INTRODUCTION = "Transcript of a recording:\n\n"
INSTRUCTION = "Answer from the transcript, in as few words as possible."


class TranscriptShape(WhisperShape):
    """A whole Whisper, encoder and decoder; how many tokens come out can only be guessed."""

    exact: ClassVar[bool] = False
    decoder_layers: PositiveInt
    vocab_size: PositiveInt

    @classmethod
    def of_tensors(cls, shapes: Shapes) -> Self:
        """Of a Whisper in CTranslate2's format. Raises ModelError where a tensor is missing."""
        try:
            width, bins, _ = shapes["encoder/conv1/weight"]
            return cls(
                d_model=width,
                encoder_layers=_layers(shapes, "encoder"),
                encoder_attention_heads=max(1, width // 64),
                encoder_ffn_dim=shapes["encoder/layer_0/ffn/linear_0/weight"][0],
                num_mel_bins=bins,
                max_source_positions=shapes["encoder/position_encodings/encodings"][0],
                decoder_layers=_layers(shapes, "decoder"),
                vocab_size=shapes["decoder/embeddings/weight"][0],
            )
        except (KeyError, ValueError) as error:
            raise ModelError(f"the recogniser is no whole Whisper: {error}") from error

    def tokens(self, samples: int) -> int:
        """Of somebody who speaks without pause."""
        return round(samples / SAMPLE_RATE * TOKENS_PER_SECOND)

    def projector_flops(self, hidden_size: int) -> int:
        """What writes the words of one window, greedily, as many as are guessed to be there."""
        width, steps, layers = self.d_model, self.max_source_positions, self.decoder_layers
        words = round(30 * TOKENS_PER_SECOND)
        looking = layers * (2 * steps * 2 * width**2 + words * 4 * steps * width)
        linears = layers * words * 2 * (6 * width**2 + 2 * width * self.encoder_ffn_dim)
        return looking + linears + words * 2 * width * self.vocab_size


class TranscriptLM(ReaderLM):
    """A recogniser and a reader."""

    family = "transcript"
    model_types = ()
    code_version = "transcript/1"
    encoder_shape = TranscriptShape
    provides = frozenset({TRANSCRIPT})
    served = TOKEN_IDS

    def __init__(
        self,
        preset: Preset,
        shape: Shape,
        checkpoint: Checkpoint,
        placement: Placement,
        reader: Reader,
        chat: Chat | None = None,
        recogniser: Recogniser | None = None,
    ) -> None:
        super().__init__(preset, shape, checkpoint, placement, reader, chat)
        self.recogniser = recogniser
        if recogniser is not None:
            self.writes = recogniser.origin
            self.revision = f"{recogniser.revision}+{checkpoint.revision}"
        self.language: str | None = None  # of what is said, where somebody told

    @classmethod
    def open(
        cls, preset: Preset, revision: str | None, offline: bool, placement: Placement
    ) -> Self:
        """The reader's files, wherever the preset says they are; `load` finds the recogniser's."""
        from speechprune_cli.checkpoint import read_checkpoint
        from speechprune_cli.weights.finding import reader_folder

        if offline:  # for both: the Hub's library reads it once, on import
            os.environ["HF_HUB_OFFLINE"] = "1"
        _, reader = parts(preset, revision)
        checkpoint = read_checkpoint(*reader_folder(reader, offline), source=reader.source)
        return cls.load(preset, checkpoint, placement)

    @classmethod
    def load(cls, preset: Preset, checkpoint: Checkpoint, placement: Placement) -> Self:
        """`checkpoint` is the reader's."""
        from speechprune_cli.backends._chat import Chat
        from speechprune_cli.backends._reader import load_reader
        from speechprune_cli.transcripts.recogniser import Recogniser
        from speechprune_cli.weights.finding import recogniser_folder

        recogniser, _ = parts(preset)
        heard, revision = recogniser_folder(recogniser, offline=False)
        chat, reader = Chat(checkpoint.folder), load_reader(checkpoint, placement)
        shape = _shape(preset, reader.shape, checkpoint.parameters, heard)
        writer = Recogniser(heard, revision, str(placement.device), threads())
        return cls(preset, shape, checkpoint, placement, reader, chat, writer)

    @classmethod
    def describe(cls, preset: Preset, folder: Path) -> Shape:
        """From the reader's `config.json` and the tensors' names and shapes of both models."""
        from speechprune_cli.backends.loading import read_config
        from speechprune_cli.backends.shape import read_decoder
        from speechprune_cli.checkpoint import read_checkpoint
        from speechprune_cli.weights.finding import recogniser_folder

        recogniser, reader = parts(preset)
        heard, _ = recogniser_folder(recogniser, offline=False)
        decoder = read_decoder(reader.source, read_config(folder).get_text_config(decoder=True))
        checkpoint = read_checkpoint(folder, "", source=reader.source)
        return _shape(preset, decoder, checkpoint.parameters, heard)

    @classmethod
    def random(cls, preset: Preset, shape: Shape, placement: Placement) -> Self:
        """Words without meaning at the rate of speech, for a reader of that shape."""
        from pathlib import Path

        from speechprune_cli.backends._reader import random_reader
        from speechprune_cli.checkpoint import Checkpoint

        if placement.quantize != "none":
            raise UsageError("--random-weights come unquantised: leave --quantize out")
        reader = random_reader(shape.decoder, placement)
        checkpoint = Checkpoint(Path(), preset.source, "random weights", {}, ())
        return cls(preset, shape, checkpoint, placement, reader)

    def hear(self, language: str) -> None:
        from speechprune_cli.transcripts.languages import language_code

        self.language = language_code(language)

    def encode(
        self,
        audio: Audio,
        batch_size: int | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> AudioTokens:
        return self.encode_once(audio, None, on_progress)

    def encode_once(
        self, audio: Audio, cache: TokenCache | None, on_progress: ProgressCallback | None = None
    ) -> AudioTokens:
        """Transcripts are kept as they are written: a run that was killed goes on where it was."""
        from speechprune_cli.transcripts.store import transcribed

        if self.recogniser is None:
            return self.rehearse(audio)
        folder = None if cache is None else cache.folder.with_name("transcripts")
        total = round(audio.seconds)

        def on_seconds(done: float) -> None:
            if on_progress is not None:
                on_progress(min(round(done), total), total)

        transcript = transcribed(audio, self.recogniser, self.language, folder, on_seconds)
        return self.read_transcript(audio, transcript)

    def read_transcript(self, audio: Audio, transcript: Transcript) -> AudioTokens:
        """Tokens of what was said; none where nothing was. Raises NumericError too."""
        import torch

        from speechprune_cli.backends._finite import check_tokens
        from speechprune_cli.backends._spoken import spoken_tokens
        from speechprune_cli.backends.listening import loudness

        late = sum(word.start >= audio.seconds + 1 for word in transcript.words)
        if late:
            told = f"{late} words of {transcript.origin} come after the end of the recording"
            transcript = replace(transcript, notes=(*transcript.notes, told))
        if transcript.language is None:
            transcript = replace(transcript, language=self.language)
        spoken = spoken_tokens(transcript, self.chat.encode, audio.seconds)
        ids = torch.tensor(spoken.ids, dtype=torch.int64)
        times = torch.tensor(spoken.times, dtype=torch.float32).reshape(-1, 2)
        tokens = AudioTokens(
            embeds=self.embed(spoken.ids),
            times=times,
            per_second=max(len(ids), 1) / max(audio.seconds, 1e-3),
            seconds=audio.seconds,
            encode_seconds=transcript.seconds,
            from_cache=transcript.kept,
            loudness=loudness(audio.samples, times, SAMPLE_RATE),
            sentences=torch.tensor(spoken.sentences, dtype=torch.int64),
            words=torch.tensor(spoken.words, dtype=torch.int64),
            ids=ids,
            transcript=transcript,
        )
        return check_tokens(self, audio, tokens)

    def rehearse(self, audio: Audio) -> AudioTokens:
        """Random words, one after the other, in sentences of the same length."""
        import torch

        from speechprune_cli.backends._spoken import words_in_a_row
        from speechprune_cli.backends.listening import loudness

        count = self.shape.audio_tokens(audio.seconds)
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(len(self.word_embeddings), (count,), generator=generator)
        edges = torch.linspace(0, audio.seconds, count + 1)
        times = torch.stack([edges[:-1], edges[1:]], 1)
        return AudioTokens(
            embeds=self.embed(ids.tolist()),
            times=times,
            per_second=TOKENS_PER_SECOND,
            seconds=audio.seconds,
            encode_seconds=0.0,
            loudness=loudness(audio.samples, times, SAMPLE_RATE),
            sentences=torch.arange(count) // SENTENCE_WORDS,
            words=torch.arange(count),
            ids=ids,
            transcript=words_in_a_row(times.tolist(), SENTENCE_WORDS),
        )

    def prompt_ids(self, question: str, choices: Sequence[str] = ()) -> PromptIds:
        """The reader's own chat template around the transcript, the question and the options."""
        return self.chat.prompt(
            INTRODUCTION, f"\n\n{INSTRUCTION}\n{with_options(question, choices)}"
        )

    @staticmethod
    def chat_text(heard: str, asked: str) -> str:
        """What a user says, for who has a chat template of their own."""
        return f"{INTRODUCTION}{heard}\n\n{INSTRUCTION}\n{asked}"


def threads() -> int:
    """Of torch, for the recogniser too: a worker among several has a share of the processor."""
    import torch

    return torch.get_num_threads()


def parts(preset: Preset, revision: str | None = None) -> tuple[Part, Part]:
    """Recogniser and reader. Raises UsageError where one is missing, or a revision is told."""
    if preset.recogniser is None or preset.reader is None:
        raise UsageError(f"preset {preset.name}: a transcript needs a recogniser and a reader")
    if revision is not None:
        raise UsageError(f"{preset.name} takes no --revision: its parts have theirs")
    return preset.recogniser, preset.reader


def _shape(preset: Preset, decoder: Decoder, parameters: int, folder: Path) -> Shape:
    """Of both models, the recogniser's from its folder."""
    shapes = read_shapes(folder / "model.bin")
    encoder = TranscriptShape.of_tensors(shapes)
    total = parameters + sum(math.prod(shape) for shape in shapes.values())
    return Shape(preset.name, TranscriptLM.family, decoder, encoder, total)


def _layers(shapes: Shapes, part: str) -> int:
    return len(
        {name.split("/")[1] for name in shapes if name.startswith(f"{part}/layer_")}
        - {"layer_norm"}
    )
