"""Folders of the two models that a transcript reader is put together from.

What is not in the form that is loaded (a GGUF, a Whisper of transformers) is converted once into
`<cache>/models`. Pickled weights are refused.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from speechprune_cli.checkpoint import INSTEAD, WANTED, open_checkpoint, read_json
from speechprune_cli.config import HUB_ID, STORED, Part, Preset, list_presets, load_preset
from speechprune_cli.errors import ModelError
from speechprune_cli.extras import need
from speechprune_cli.folders import cache_folder
from speechprune_cli.hub import download
from speechprune_cli.weights.converting import convert_gguf, convert_whisper
from speechprune_cli.weights.stored import find, made_once, stored_folder

Found = tuple[Path, str]
GGUF = ".gguf"
WHISPER = (*WANTED, "model.bin", "vocabulary.*")
MARK = b"WhisperSpec"  # near the beginning of a Whisper of CTranslate2


def reader_folder(part: Part, offline: bool) -> Found:
    """A folder with config.json, safetensors and tokenizer.json, and its revision.

    `part.source` is `stored:NAME`, a folder, a GGUF file or a folder that holds one, a Hub id, or
    `org/model/file.gguf` on the Hub. Raises ModelError for what is missing, out of reach, pickled,
    damaged or without a tokenizer.
    """
    if part.stored is not None:
        return _stored(part.stored)
    if gguf := _gguf(part, offline):
        return _converted_gguf(gguf)
    checkpoint = open_checkpoint(_preset(part), None, offline)
    if not (checkpoint.folder / "tokenizer.json").is_file():
        raise ModelError(f"{checkpoint.folder} has no tokenizer.json, which the reader needs")
    return checkpoint.folder, checkpoint.revision


def recogniser_folder(part: Part, offline: bool) -> Found:
    """A folder with a Whisper in CTranslate2's format, and its revision.

    `part.source` is `stored:NAME`, a folder or Hub id of such a Whisper or of one of transformers,
    or a size that faster-whisper knows (`base`, `small.en`, `large-v3`). Raises ModelError for
    what is missing, out of reach, pickled or no Whisper.
    """
    if part.stored is not None:
        return _stored(part.stored)
    folder = Path(part.source).expanduser()
    if folder.is_dir():
        return _whisper(folder.resolve(), "")
    hub_id = _hub_id_of_size(part.source)
    folder = download(
        hub_id, WHISPER, kind="model", revision=part.revision, offline=offline, instead=INSTEAD
    )
    return _whisper(folder, folder.name)


def _stored(name: str) -> Found:
    found = find(stored_folder(name))
    if found and not found.damage:
        return found.folder, found.revision
    presets = map(load_preset, list_presets())
    having = [p.name for p in presets if name in {part.stored for part in p.stored_parts}]
    if not having:
        raise ModelError(f"{STORED}{name}: no preset has such a part")
    command = f"speechprune models get {' or '.join(having)}"
    if found is None:
        raise ModelError(f"{name} is not on this machine: {command}")
    raise ModelError(f"{found.folder / found.damage} is damaged: {command} fetches it anew")


def _preset(part: Part) -> Preset:
    source = str(Path(part.source).expanduser())
    return Preset(name=part.source, source=source, revision=part.revision)


def _gguf(part: Part, offline: bool) -> Path | None:
    """The GGUF that is meant; None where it is something else."""
    path = Path(part.source).expanduser()
    if path.suffix == GGUF:
        owner, _, rest = part.source.partition("/")
        model, _, file = rest.partition("/")
        if path.is_file():
            return path.resolve()
        if not file or not HUB_ID.fullmatch(f"{owner}/{model}"):
            raise ModelError(f"no file {part.source}")
        folder = download(
            f"{owner}/{model}",
            (file,),
            kind="model",
            revision=part.revision,
            offline=offline,
            instead=INSTEAD,
        )
        return (folder / file).resolve()
    if not path.is_dir() or any(path.glob("*.safetensors")):
        return None
    files = sorted(path.glob(f"*{GGUF}"))
    if len(files) > 1:
        raise ModelError(f"{path} holds {len(files)} GGUF files: name one of them")
    return files[0].resolve() if files else None


def _converted_gguf(gguf: Path) -> Found:
    """The revision is the content's; a file at the same place that was not changed is the same."""
    stat = gguf.stat()

    def convert(folder: Path) -> str:
        convert_gguf(gguf, folder)
        with gguf.open("rb") as file:
            return f"gguf-{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"

    key = _key(str(gguf), stat.st_size, stat.st_mtime_ns)
    found = made_once(cache_folder("models") / key, convert)
    return found.folder, found.revision


def _whisper(folder: Path, commit: str) -> Found:
    """The folder itself where it is in CTranslate2's format, else what it was converted into."""
    read_json(folder / "config.json")
    model = folder / "model.bin"
    if model.is_file():
        with model.open("rb") as file:
            if MARK not in file.read(64):
                raise ModelError(f"{model} is no Whisper in CTranslate2's format")
        stat = model.stat()
        return folder, commit or f"local-{_key(stat.st_size, stat.st_mtime_ns)}"
    checkpoint = open_checkpoint(Preset(name=folder.name, source=str(folder)), None, offline=False)
    if checkpoint.config.get("model_type") != "whisper":
        raise ModelError(f"{folder} is no Whisper: its config.json says otherwise")
    revision = commit or checkpoint.revision

    def convert(target: Path) -> str:
        convert_whisper(folder, target)
        return revision

    found = made_once(cache_folder("models") / _key(str(folder), revision), convert)
    return found.folder, found.revision


def _hub_id_of_size(source: str) -> str:
    """Of a size that faster-whisper knows, its repository; a Hub id is one already."""
    if HUB_ID.fullmatch(source):
        return source
    need("faster_whisper", "the recogniser", "mini")
    from faster_whisper.utils import _MODELS

    if source in _MODELS:
        return _MODELS[source]
    raise ModelError(
        f"no recogniser '{source}': give a folder, a Hub id, {STORED}NAME or one of "
        f"{', '.join(_MODELS)}"
    )


def _key(*facts: str | int) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
