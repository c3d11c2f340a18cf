"""Speech LLMs put together: a text model reads what modules of their own make of the sound.

transformers has no class for them, but it has the pieces. Each piece is loaded from the checkpoint
that holds it, by the names under which it is published; no code of a model folder is run.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from speechprune_cli.backends.base import SpeechLM
from speechprune_cli.backends.loading import built, weights_of
from speechprune_cli.backends.shape import Shape, read_decoder
from speechprune_cli.backends.windowed import WhisperShape, WindowedLM
from speechprune_cli.checkpoint import (
    UNREADABLE,
    Checkpoint,
    open_checkpoint,
    read_checkpoint,
    read_json,
)
from speechprune_cli.config import Preset
from speechprune_cli.errors import ModelError, UsageError, one_line
from speechprune_cli.flow import FirstLayer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from speechprune_cli.backends._chat import Chat
    from speechprune_cli.backends._reader import Reader
    from speechprune_cli.config import Decoder
    from speechprune_cli.device import Placement

Build = Callable[[], "nn.Module"]


class ReaderLM(SpeechLM):
    """A Speech LLM whose decoder is a text model with a checkpoint of its own."""

    def __init__(
        self,
        preset: Preset,
        shape: Shape,
        checkpoint: Checkpoint,
        placement: Placement,
        reader: Reader,
        chat: Chat | None = None,
    ) -> None:
        """Without `chat`, as with random weights, it reads no text: any is the same tokens."""
        super().__init__(preset, shape, checkpoint, placement)
        self.reader, self.reads_text = reader, chat is not None
        self.end_tokens: frozenset[int] = frozenset()
        if chat is not None:
            self.chat, self.end_tokens = chat, chat.end_tokens()
        self.attention_implementation = reader.attention

    @property
    def parameters(self) -> int:
        return self.shape.parameters

    def text_ids(self, text: str) -> list[int]:
        return self.chat.ids(text.strip()) if self.reads_text else list(range(8))

    def text_of(self, ids: Sequence[int]) -> str:
        return self.chat.text(ids)

    @property
    def word_embeddings(self) -> Tensor:
        return self.reader.word_embeddings

    def embed_rows(self, ids: Tensor) -> Tensor:
        return self.reader.embed_rows(ids)

    def new_cache(self) -> Any:
        return self.reader.new_cache()

    def fork_cache(self, cache: Any) -> Any:
        return self.reader.fork_cache(cache)

    def run_decoder(
        self, embeds: Tensor, positions: Tensor, mask: Tensor | None, cache: Any
    ) -> Tensor:
        return self.reader.run_decoder(embeds, positions, mask, cache)

    def head(self, hidden: Tensor) -> Tensor:
        return self.reader.head(hidden)

    def first_layer(self) -> FirstLayer:
        decoder = self.shape.decoder
        query, key = (weight.to(self.device) for weight in self.reader.projections())
        return FirstLayer(query, key, decoder.num_attention_heads, decoder.num_key_value_heads)


class ComposedLM(WindowedLM, ReaderLM):
    """Whisper's encoder and more in front of a text model, both named by the config.json.

    A name is a Hub id, of which the newest revision is taken, as no config.json pins one, or a
    path. A folder called like its last part is taken where it lies inside the model's folder or
    beside it. `revision` tells those of all parts.
    """

    encoder_key: ClassVar[str]  # of config.json: what names Whisper's checkpoint
    reader_key: ClassVar[str]  # the text model's
    own_tokenizer: ClassVar[bool] = False  # whether the model's folder has the one that is used
    unneeded: ClassVar[tuple[str, ...]] = ()  # beginnings of names of own weights nobody needs

    def __init__(
        self,
        preset: Preset,
        shape: Shape,
        checkpoint: Checkpoint,
        placement: Placement,
        reader: Reader,
        chat: Chat | None,
        sound: nn.Module,
    ) -> None:
        super().__init__(preset, shape, checkpoint, placement, reader, chat)
        self.sound: Any = sound
        self.extractor = self.random_extractor(shape)  # that of every Whisper

    @classmethod
    @abstractmethod
    def encoder_of(cls, folder: Path, config: Mapping[str, Any]) -> WhisperShape:
        """The shape of a model's modules, by its config.json and Whisper's. Raises ModelError."""

    @classmethod
    @abstractmethod
    def build(cls, encoder: Any, hidden_size: int) -> nn.Module:
        """Modules of the shape `encoder`, for a text model of that width."""

    @classmethod
    @abstractmethod
    def weights(cls, checkpoint: Checkpoint, whisper: Checkpoint) -> dict[str, Tensor]:
        """What goes into them, by their names."""

    @classmethod
    def parts(cls, checkpoint: Checkpoint) -> tuple[Checkpoint, ...]:
        """Whisper's and the text model's."""
        return tuple(open_part(checkpoint, key) for key in (cls.encoder_key, cls.reader_key))

    @classmethod
    def load(cls, preset: Preset, checkpoint: Checkpoint, placement: Placement) -> Self:
        from speechprune_cli.backends._chat import Chat
        from speechprune_cli.backends._reader import load_reader

        whisper, text = cls.parts(checkpoint)
        encoder = cls.encoder_of(checkpoint.folder, checkpoint.config)
        chat = Chat((checkpoint if cls.own_tokenizer else text).folder)
        reader = load_reader(text, placement)
        weights = cls.weights(checkpoint, whisper)
        sound = filled(
            lambda: cls.build(encoder, reader.shape.hidden_size), weights, checkpoint, placement
        )
        total = weights_of(sound) + text.parameters
        shape = Shape(preset.name, cls.family, reader.shape, encoder, total)
        made = cls(preset, shape, checkpoint, placement, reader, chat, sound)
        made.checkpoint = replace(checkpoint, parts=(whisper, text))
        parts = (checkpoint, whisper, text)
        made.revision = "+".join(dict.fromkeys(each.revision for each in parts))
        return made

    @classmethod
    def describe(cls, preset: Preset, folder: Path) -> Shape:
        config = read_json(folder / "config.json")
        encoder = cls.encoder_of(folder, config)
        text = part_config(folder, config, cls.reader_key)
        decoder, weights = reader_shape(preset.source, text)
        sound = built(lambda: cls.build(encoder, decoder.hidden_size))
        return Shape(preset.name, cls.family, decoder, encoder, weights + weights_of(sound))

    @classmethod
    def random(cls, preset: Preset, shape: Shape, placement: Placement) -> Self:
        import torch

        from speechprune_cli.backends._reader import random_reader

        if placement.quantize != "none":
            raise UsageError("--random-weights come unquantised: leave --quantize out")
        reader = random_reader(shape.decoder, placement)
        with torch.random.fork_rng(), placement.device:
            torch.manual_seed(0)
            sound = cls.build(shape.encoder, shape.decoder.hidden_size)
        ready(sound, placement)
        checkpoint = Checkpoint(Path(), preset.source, "random weights", {}, ())
        return cls(preset, shape, checkpoint, placement, reader, None, sound)


def open_part(model: Checkpoint, key: str) -> Checkpoint:
    """The checkpoint that a model's config.json names, fetched if need be.

    Raises ModelError, which says how to get it, for what is missing, gated, out of reach, pickled
    or damaged.
    """
    name = part_name(model.config, key, model.folder)
    folder = part_folder(model.folder, name)
    try:
        if folder is not None:
            return read_checkpoint(folder, "", source=name)
        instead = f"put its folder, {Path(name).name}, beside {model.folder}"
        return open_checkpoint(Preset(name=name, source=name), None, False, instead)
    except ModelError as error:
        raise ModelError(f"{model.source} is put together with {name}: {error}") from error


def part_name(config: Mapping[str, Any], key: str, folder: Path) -> str:
    """A path or a Hub id. Raises ModelError where there is none."""
    name = config.get(key)
    if not isinstance(name, str) or not name:
        raise ModelError(f"{folder / 'config.json'} does not name its {key}")
    return name


def part_folder(model: Path, name: str) -> Path | None:
    """Where it lies, inside the folder `model` or beside it; None for what is on the Hub."""
    here = (model / Path(name).expanduser(), model.parent / Path(name).name)
    return next((each for each in here if (each / "config.json").is_file()), None)


def part_config(model: Path, config: Mapping[str, Any], key: str) -> Any:
    """The configuration of a checkpoint that `config` names; no weights. Raises ModelError."""
    from speechprune_cli.backends.loading import read_config
    from speechprune_cli.hub import download

    name = part_name(config, key, model)
    folder = part_folder(model, name)
    if folder is None:
        instead = "profile a preset, which needs none"
        files = ("config.json",)
        folder = download(name, files, kind="model", revision=None, offline=False, instead=instead)
    return read_config(folder)


def reader_shape(source: str, config: Any) -> tuple[Decoder, int]:
    """Of a text model, and how many weights it has. Raises ModelError for one that is not read."""
    from speechprune_cli.backends.loading import check_decoder, stock

    decoder = read_decoder(source, config.get_text_config(decoder=True))
    causal = stock("AutoModelForCausalLM")
    try:
        model: Any = built(lambda: causal.from_config(config, trust_remote_code=False))
    except (*UNREADABLE, ImportError) as error:
        raise ModelError(f"{source}: {one_line(error)}") from error
    check_decoder(source, decoder, model.get_decoder().layers)
    return decoder, weights_of(model)


def ready(module: nn.Module, placement: Placement) -> nn.Module:
    """On its device, to run and not to learn."""
    return module.to(placement.device, placement.dtype).eval().requires_grad_(False)


def filled(
    build: Build, weights: Mapping[str, Tensor], checkpoint: Checkpoint, placement: Placement
) -> nn.Module:
    """The module with `weights` in it, by their names.

    Raises `ModelError` where one is missing, of another shape or of no use, `OutOfMemoryError`.
    """
    from speechprune_cli.device import memory_guard

    module = built(build)
    expected = module.state_dict()
    for name, each in expected.items():
        if name not in weights:
            raise ModelError(f"{checkpoint.folder}: weights missing, as {name}")
        if weights[name].shape != each.shape:
            stored, told = list(weights[name].shape), list(each.shape)
            raise ModelError(f"{checkpoint.folder}: {name} is {stored}, config.json says {told}")
    _check_rest(weights, set(expected), checkpoint)
    needed = weights_of(module) * placement.dtype.itemsize
    with memory_guard(f"loading {checkpoint.source}", needed, placement.device, "--device cpu"):
        module.load_state_dict({name: weights[name] for name in expected}, assign=True)
        return ready(module, placement)


def _check_rest(weights: Mapping[str, Tensor], used: Set[str], checkpoint: Checkpoint) -> None:
    """Raise ModelError for a weight that would change answers, were it not left out."""
    for name in sorted(weights.keys() - used):
        if ".lora_A." in name or (".lora_B." in name and not weights[name].any()):
            continue  # an adapter that was never trained adds nothing
        told = "one that nothing here reads: of another version, or another model"
        if ".lora_B." in name:
            told = "an adapter, which nothing here reads: merge it into its model first"
        raise ModelError(f"{checkpoint.folder}: its weight {name} is {told}")


def tensors(
    checkpoint: Checkpoint, names: Mapping[str, str], unneeded: tuple[str, ...] = ()
) -> dict[str, Tensor]:
    """Weights whose names begin as `names` says, as they were saved, under their new names.

    `{"model.encoder.": "encoder."}` reads `model.encoder.conv1.bias` as `encoder.conv1.bias`, and
    `{"": ""}` all, but those whose names begin as `unneeded` says.
    """
    from safetensors import safe_open

    found = {}
    for path in checkpoint.weights:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                for begins, becomes in names.items():
                    if name.startswith(begins) and not name.startswith(unneeded):
                        found[becomes + name.removeprefix(begins)] = file.get_tensor(name)
    return found
