"""Make nano from speech, step by step or with `all`.

Everything lives in one folder and can be interrupted and repeated: what is finished is not done
again. The model card says where the inputs come from.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Annotated, Literal

import torch
import typer
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

from speechprune_cli.atomic import atomic
from speechprune_cli.builder.grammar import draw_fact, fillers, questions
from speechprune_cli.builder.speakers.base import Synthesizer
from speechprune_cli.builder.speakers.kokoro import HELD_OUT, KokoroSynthesizer
from speechprune_cli.builder.speakers.piper import PiperSynthesizer
from speechprune_cli.errors import UsageError
from speechprune_cli.extras import need
from speechprune_cli.methods import parse_value
from speechprune_cli.training.align import label, train_letters
from speechprune_cli.training.encoder import STEPS as ENCODER_STEPS
from speechprune_cli.training.encoder import finetune, load_windows, save_windows, windows
from speechprune_cli.training.enrichment import enrichment, settings_recall
from speechprune_cli.training.export import export, load_trainable
from speechprune_cli.training.features import (
    Piece,
    Sound,
    encode,
    load_pieces,
    save_pieces,
    spoken_pool,
    transcribed,
    vary,
)
from speechprune_cli.training.held_out import held_out_recordings, long_recordings
from speechprune_cli.training.learner import Learner
from speechprune_cli.training.natural import natural_recordings
from speechprune_cli.training.publish import publish
from speechprune_cli.training.speak import speak as speak_pool
from speechprune_cli.training.spiral import speak_records
from speechprune_cli.training.splicing import SplicedRecording
from speechprune_cli.training.text import load_tokenizer, normalise, train_tokenizer
from speechprune_cli.training.train import STAGES, Trainer, train
from speechprune_cli.training.whisper import load_tower

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)
Work = Annotated[Path, typer.Option("--work", help="Folder for everything that is made.")]
Whisper = Annotated[
    Path, typer.Option("--whisper", exists=True, help="whisper.cpp's ggml-base.en.bin.")
]


@app.command()
def speak(
    split: Annotated[str, typer.Argument(help="`test...`: held-out voices, wordings.")],
    engine: Annotated[Literal["kokoro", "piper"], typer.Option()],
    model: Annotated[Path, typer.Option(exists=True, help="The synthesizer's ONNX file.")],
    work: Work,
    voices: Annotated[
        Path | None, typer.Option(exists=True, help="Kokoro's folder of voices.")
    ] = None,
    count: int = 3000,
    part: int = 0,
    parts: int = 1,
) -> None:
    """Synthesize sentences of a split into WORK/pool/SPLIT."""
    synthesizer = _synthesizer(engine, model, voices)
    speak_pool(synthesizer, split, count, work / "pool" / split, part, parts)


@app.command("speak-spiral")
def speak_spiral(
    index: Annotated[
        Path, typer.Argument(exists=True, help="Records in SPIRAL's format, JSON lines.")
    ],
    folder: Annotated[Path, typer.Argument(help="For `speechprune eval spiral --data`.")],
    engine: Annotated[Literal["kokoro", "piper"], typer.Option()],
    model: Annotated[Path, typer.Option(exists=True, help="The synthesizer's ONNX file.")],
    voices: Annotated[
        Path | None, typer.Option(exists=True, help="Kokoro's folder of voices.")
    ] = None,
) -> None:
    """Speak SPIRAL's records with the voices that training never heard."""
    synthesizer = _synthesizer(engine, model, voices)
    held_out = [voice for voice in synthesizer.voices if voice in HELD_OUT]
    count = speak_records(index, synthesizer, held_out or synthesizer.voices, folder)
    typer.echo(f"{count} records in {folder}")


@app.command("encoder")
def teach_encoder(
    sources: Annotated[
        list[Path],
        typer.Argument(exists=True, help="Splits' folders and CSVs of transcripts, a CSV first."),
    ],
    work: Work,
    whisper: Whisper,
    steps: int = ENCODER_STEPS,
) -> None:
    """Teach the encoder's last layers to name words: WORK/encoder.safetensors."""
    target, tower = work / "encoder.safetensors", load_tower(whisper)
    if target.exists():
        return
    rng = Random("encoder")
    aligned = encode(list(_sounds(sources[0])), tower, rng)
    letters = train_letters([piece for piece in aligned if len(piece.text.split()) > 1])
    tokenizer = _tokenizer(work, sources)
    made = []
    for source in sources:
        path = work / "windows" / f"{_name(source)}.safetensors"
        if not path.exists():
            rng = Random(f"encoder/{_name(source)}")
            path.parent.mkdir(parents=True, exist_ok=True)
            save_windows(path, list(windows(_varied(source, rng), tower, letters, tokenizer, rng)))
        made += load_windows(path)
    finetune(tower, made, work, steps)
    with atomic(target) as partial:
        save_file(tower.state_dict(), partial)


@app.command("encode")
def encode_speech(
    source: Annotated[
        Path, typer.Argument(exists=True, help="A split's folder, or a CSV of transcripts.")
    ],
    work: Work,
    whisper: Whisper,
    seed: int = 0,
) -> None:
    """Encode speech with variations of loudness, noise and room into WORK/pieces."""
    kind = "open" if source.suffix == ".csv" else "stated"
    target = work / "pieces" / f"{kind}-{_name(source)}-{seed}.safetensors"
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    rng = Random(f"{_name(source)}/{seed}")
    save_pieces(target, encode(_varied(source, rng), _tower(work, whisper), rng))


@app.command("label")
def label_speech(work: Work) -> None:
    """Align every encoded sentence with its words."""
    open_speech = _pieces(work, "open")
    tokenizer = load_tokenizer(work / "tokenizer.json")
    letters = train_letters(open_speech)
    for file in sorted((work / "pieces").glob("*.safetensors")):
        pieces = [piece for piece in load_pieces(file) if len(piece.text.split()) > 1]
        save_pieces(file, (replace(p, labels=label(p, letters, tokenizer)) for p in pieces))


@app.command("train")
def train_nano(
    work: Work,
    minutes: Annotated[float, typer.Option(help="Stop after so long; call again to go on.")] = 1e9,
    start_from: Annotated[
        Path | None, typer.Option(exists=True, help="A model folder, such as nano.")
    ] = None,
    first_stage: Annotated[str, typer.Option(help="Leave out the stages before it.")] = "words",
    device: str = "cpu",
    seed: int = 0,
) -> None:
    """Train on WORK/pieces; checkpoints and losses go to WORK."""
    names = [stage.name for stage in STAGES]
    if first_stage not in names:
        raise UsageError(f"--first-stage {first_stage}: one of {', '.join(names)}")
    torch.manual_seed(seed)
    stated, open_speech = _pieces(work, "stated"), _pieces(work, "open")
    if any(piece.labels is None for piece in stated + open_speech):
        raise UsageError(f"{work / 'pieces'} holds speech without labels: run `label`")
    if start_from:
        learner = load_trainable(start_from)
    else:
        learner = Learner(load_tokenizer(work / "tokenizer.json"))
    trainer = Trainer(learner.to(device), stated, open_speech)
    stages = STAGES[names.index(first_stage) :]
    done = train(trainer, work, stages, until=time.monotonic() + 60 * minutes)
    typer.echo("complete" if done else "stopped; call again to go on")


@app.command("export")
def export_nano(work: Work, whisper: Whisper, folder: Path) -> None:
    """Write the checkpoint as a model folder for plain transformers."""
    tokenizer = load_tokenizer(work / "tokenizer.json")
    learner = Learner(tokenizer)
    checkpoint = work / "checkpoint.pt"
    if not checkpoint.exists():
        raise UsageError(f"{checkpoint} is missing: run `train`")
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    learner.load_state_dict(state["learner"])
    export(learner, _tower(work, whisper), tokenizer, folder)


@app.command("benchmark")
def make_benchmark(
    kind: Annotated[
        Literal["held-out", "long", "spiral-nano", "natural"], typer.Argument(help="Which to make.")
    ],
    source: Annotated[
        Path, typer.Argument(exists=True, help="Folder of a test split; natural: a CSV.")
    ],
    folder: Annotated[Path, typer.Argument(help="Where it goes: index.jsonl and sound files.")],
    count: Annotated[int, typer.Option(help="Recordings.")] = 200,
    minutes: Annotated[float, typer.Option(help="Of each long recording.")] = 3,
    filler: Annotated[
        Path | None,
        typer.Option(exists=True, help="CSV of the speech that long recordings consist of."),
    ] = None,
    asked: Annotated[
        int | None, typer.Option(help="Questions on each; default 1, of spiral-nano 2.")
    ] = None,
) -> None:
    """Make a benchmark for `speechprune eval jsonl --data FOLDER/index.jsonl`."""
    if kind == "natural":
        recordings: Iterator[SplicedRecording] = islice(natural_recordings(source), count)
    elif kind == "long":
        if filler is None:
            raise UsageError("long recordings need --filler")
        recordings = long_recordings(source, filler, minutes, count)
    else:
        asked = asked or (2 if kind == "spiral-nano" else 1)
        recordings = held_out_recordings(kind, source, count, asked)
    typer.echo(f"{publish(recordings, folder, opus=kind == 'spiral-nano')} questions")


@app.command("enrichment")
def enrichment_of_scores(
    index: Annotated[Path, typer.Argument(exists=True, help="A benchmark's index.jsonl.")],
    model: str = "nano",
    count: int = 200,
) -> None:
    """How well several scores find the answering sentence of a benchmark's recordings."""
    from speechprune_cli.bench.tasks import load_task
    from speechprune_cli.pipeline import load

    samples = load_task("jsonl", index, offline=True).samples[:count]
    typer.echo(enrichment(load(model), samples, (300, 750)))


@app.command("settings")
def recall_of_settings(
    index: Annotated[Path, typer.Argument(exists=True, help="A benchmark's index.jsonl.")],
    vary: Annotated[list[str], typer.Option(help="SETTING=VALUE,VALUE,... Repeatable.")],
    model: str = "nano",
    count: int = 200,
) -> None:
    """Key-sentence recall of speechprune under its settings, one changed at a time."""
    from speechprune_cli.bench.tasks import load_task
    from speechprune_cli.pipeline import load

    pairs = (pair.partition("=") for pair in vary)
    variants: list[dict] = [{}]
    variants += [{key: parse_value(v)} for key, _, values in pairs for v in values.split(",")]
    samples = load_task("jsonl", index, offline=True).samples[:count]
    typer.echo(settings_recall(load(model), samples, variants, (0.2, 0.4, 0.6, 0.8)))


@app.command("all")
def everything(
    work: Work,
    whisper: Whisper,
    kokoro: Annotated[Path, typer.Option(exists=True, help="Kokoro-82M's ONNX file, float32.")],
    voices: Annotated[Path, typer.Option(exists=True, help="Kokoro's folder of voices.")],
    piper: Annotated[Path, typer.Option(exists=True, help="A Piper voice's ONNX file.")],
    transcripts: Annotated[
        list[Path], typer.Option(exists=True, help="CSVs of transcribed speech; repeatable.")
    ],
    folder: Annotated[Path, typer.Option(help="Where the model goes.")],
    piper_sentences: int = 3564,
    kokoro_sentences: int = 510,
    test_sentences: int = 376,
    device: str = "cpu",
) -> None:
    """All steps in order; what is finished is not done again."""
    speak("train-piper", "piper", piper, work, count=piper_sentences)
    speak("train-kokoro", "kokoro", kokoro, work, voices, count=kokoro_sentences)
    speak("test", "kokoro", kokoro, work, voices, count=test_sentences)
    spoken = [work / "pool" / split for split in ("train-piper", "train-kokoro")]
    teach_encoder([*transcripts, *spoken], work, whisper)
    for source in (*transcripts, *spoken):
        encode_speech(source, work, whisper)
    label_speech(work)
    train_nano(work, device=device)
    export_nano(work, whisper, folder)
    make_benchmark("held-out", work / "pool" / "test", work / "held-out")


def _pieces(work: Path, kind: str) -> list[Piece]:
    files = sorted((work / "pieces").glob(f"{kind}-*.safetensors"))
    if not files:
        raise UsageError(f"{work / 'pieces'} holds no {kind}-*.safetensors: encode first")
    return [piece for file in files for piece in load_pieces(file) if len(piece.text.split()) > 1]


def _synthesizer(engine: str, model: Path, voices: Path | None) -> Synthesizer:
    if engine == "piper":
        need("piper", "--engine piper", "piper")
        return PiperSynthesizer([model])
    need("kokoro_onnx", "--engine kokoro", "build")
    if voices is None:
        raise UsageError("kokoro needs --voices")
    return KokoroSynthesizer(model, voices)


def _name(source: Path) -> str:
    return source.parent.name if source.suffix == ".csv" else source.name


def _sounds(source: Path) -> Iterator[Sound]:
    return transcribed(source) if source.suffix == ".csv" else spoken_pool(source)


def _varied(source: Path, rng: Random) -> Iterator[Sound]:
    """In random order, loudness, noise and room varied; of a single voice also pitch and tempo."""
    sounds = list(_sounds(source))
    rng.shuffle(sounds)
    alone = len({sound.voice for sound in sounds}) == 1
    return (replace(s, samples=vary(s.samples, rng, voice=alone)) for s in sounds)


def _tower(work: Path, whisper: Path) -> Qwen2AudioEncoder:
    tower = load_tower(whisper)
    if not (work / "encoder.safetensors").exists():
        raise UsageError(f"{work / 'encoder.safetensors'} is missing: run `encoder`")
    tower.load_state_dict(load_file(work / "encoder.safetensors"))
    return tower


def _tokenizer(work: Path, sources: Sequence[Path]) -> Tokenizer:
    path = work / "tokenizer.json"
    if not path.exists():
        rng = Random(0)
        facts = [draw_fact(rng) for _ in range(15000)]
        texts = [normalise(f.statement) for f in facts] + [rng.choice(questions(f)) for f in facts]
        spoken = [s for source in sources if source.suffix == ".csv" for s in transcribed(source)]
        texts += [normalise(sound.text) for sound in spoken] * 8 + fillers()
        train_tokenizer(texts).save(str(path))
    return load_tokenizer(path)
