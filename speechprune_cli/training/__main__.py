"""Make nano from speech, step by step or with `all`.

Everything lives in one folder and can be interrupted and repeated: what is finished is not done
again. The model card says where the inputs come from.
"""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random
from typing import Annotated, Literal

import torch
import typer
from tokenizers import Tokenizer

from speechprune_cli.spiral.grammar import draw_fact, fillers, questions
from speechprune_cli.spiral.publish import publish
from speechprune_cli.training.align import label, train_letters
from speechprune_cli.training.enrichment import enrichment
from speechprune_cli.training.export import export, load_trainable
from speechprune_cli.training.features import (
    Piece,
    encode,
    load_pieces,
    save_pieces,
    spoken_pool,
    transcribed,
    vary,
)
from speechprune_cli.training.held_out import held_out_recordings
from speechprune_cli.training.learner import Learner
from speechprune_cli.training.natural import natural_recordings
from speechprune_cli.training.speak import speak as speak_pool
from speechprune_cli.training.text import load_tokenizer, normalise, train_tokenizer
from speechprune_cli.training.train import STAGES, Trainer, train
from speechprune_cli.training.whisper import load_tower

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
Work = Annotated[Path, typer.Option("--work", help="Folder for everything that is made.")]
Whisper = Annotated[Path, typer.Option("--whisper", help="whisper.cpp's ggml-base.en.bin.")]


@app.command()
def speak(
    split: Annotated[str, typer.Argument(help="`test...`: held-out voices, wordings.")],
    engine: Annotated[Literal["kokoro", "piper"], typer.Option()],
    model: Annotated[Path, typer.Option(help="The synthesizer's ONNX file.")],
    work: Work,
    voices: Annotated[Path | None, typer.Option(help="Kokoro's folder of voices.")] = None,
    count: int = 3000,
    part: int = 0,
    parts: int = 1,
) -> None:
    """Synthesize sentences of a split into WORK/pool/SPLIT."""
    from speechprune_cli.spiral.speech import Kokoro, Piper, Synthesizer

    if engine == "kokoro" and voices is None:
        raise typer.BadParameter("kokoro needs --voices")
    synthesizer: Synthesizer = Kokoro(model, voices) if voices else Piper(model)
    speak_pool(synthesizer, split, count, work / "pool" / split, part, parts)


@app.command("encode")
def encode_speech(
    source: Annotated[Path, typer.Argument(help="A split's folder, or a CSV of transcripts.")],
    work: Work,
    whisper: Whisper,
    voice: Annotated[bool, typer.Option("--voice", help="Also vary pitch and tempo.")] = False,
    seed: int = 0,
) -> None:
    """Encode speech with variations of loudness, noise and room into WORK/pieces."""
    name = source.parent.name if source.suffix == ".csv" else source.name
    kind = "open" if source.suffix == ".csv" else "stated"
    target = work / "pieces" / f"{kind}-{name}-{seed}.safetensors"
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    rng = Random(f"{name}/{seed}")
    sounds = list(transcribed(source) if source.suffix == ".csv" else spoken_pool(source))
    rng.shuffle(sounds)
    varied = (replace(s, samples=vary(s.samples, rng, voice=voice)) for s in sounds)
    save_pieces(target, encode(varied, load_tower(whisper), rng))


@app.command("label")
def label_speech(work: Work) -> None:
    """Align every encoded sentence with its words, and train the tokenizer."""
    open_speech = _pieces(work, "open")
    tokenizer = _tokenizer(work, open_speech)
    letters = train_letters(open_speech)
    for file in sorted((work / "pieces").glob("*.safetensors")):
        pieces = [piece for piece in load_pieces(file) if len(piece.text.split()) > 1]
        save_pieces(file, (replace(p, labels=label(p, letters, tokenizer)) for p in pieces))


@app.command("train")
def train_nano(
    work: Work,
    minutes: Annotated[float, typer.Option(help="Stop after so long; call again to go on.")] = 1e9,
    start_from: Annotated[Path | None, typer.Option(help="A model folder, such as nano.")] = None,
    first_stage: Annotated[str, typer.Option(help="Leave out the stages before it.")] = "words",
    device: str = "cpu",
    seed: int = 0,
) -> None:
    """Train on WORK/pieces; checkpoints and losses go to WORK."""
    names = [stage.name for stage in STAGES]
    if first_stage not in names:
        raise typer.BadParameter(f"--first-stage {first_stage}: one of {', '.join(names)}")
    torch.manual_seed(seed)
    stated, open_speech = _pieces(work, "stated"), _pieces(work, "open")
    if any(piece.labels is None for piece in stated + open_speech):
        raise typer.BadParameter(f"{work / 'pieces'} holds speech without labels: run `label`")
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
    state = torch.load(work / "checkpoint.pt", weights_only=True, map_location="cpu")
    learner.load_state_dict(state["learner"])
    export(learner, load_tower(whisper), tokenizer, folder)


@app.command("benchmark")
def make_benchmark(
    kind: Annotated[
        Literal["held-out", "spiral-nano", "natural"], typer.Argument(help="Which to make.")
    ],
    source: Annotated[Path, typer.Argument(help="Folder of a test split; natural: a CSV.")],
    folder: Annotated[Path, typer.Argument(help="Where it goes: index.jsonl and sound files.")],
    count: Annotated[int, typer.Option(help="Recordings.")] = 200,
) -> None:
    """Make a benchmark for `speechprune eval jsonl --data FOLDER/index.jsonl`."""
    if kind == "natural":
        recordings = islice(natural_recordings(source), count)
    else:
        asked = 2 if kind == "spiral-nano" else 1
        recordings = held_out_recordings(kind, source, count, asked)
    typer.echo(f"{publish(recordings, folder, opus=kind == 'spiral-nano')} questions")


@app.command("enrichment")
def enrichment_of_scores(
    index: Annotated[Path, typer.Argument(help="A benchmark's index.jsonl.")],
    model: str = "nano",
    count: int = 200,
) -> None:
    """How well several scores find the answering sentence of a benchmark's recordings."""
    from speechprune_cli.bench.tasks import load_task
    from speechprune_cli.pipeline import load

    samples = load_task("jsonl", index, offline=True).samples[:count]
    typer.echo(enrichment(load(model), samples, (300, 750)))


@app.command("all")
def everything(
    work: Work,
    whisper: Whisper,
    kokoro: Annotated[Path, typer.Option(help="Kokoro-82M's ONNX file, float32.")],
    voices: Annotated[Path, typer.Option(help="Kokoro's folder of voices.")],
    piper: Annotated[Path, typer.Option(help="A Piper voice's ONNX file.")],
    transcripts: Annotated[
        list[Path], typer.Option(help="CSVs of transcribed speech; repeatable.")
    ],
    folder: Annotated[Path, typer.Option(help="Where the model goes.")],
    sentences: int = 3564,
    test_sentences: int = 360,
    device: str = "cpu",
) -> None:
    """All steps in order; what is finished is not done again."""
    speak("train-piper", "piper", piper, work, count=sentences)
    speak("test", "kokoro", kokoro, work, voices, count=test_sentences)
    encode_speech(work / "pool" / "train-piper", work, whisper, voice=True)
    for index in transcripts:
        encode_speech(index, work, whisper)
    label_speech(work)
    train_nano(work, device=device)
    export_nano(work, whisper, folder)
    make_benchmark("held-out", work / "pool" / "test", work / "held-out")


def _pieces(work: Path, kind: str) -> list[Piece]:
    files = sorted((work / "pieces").glob(f"{kind}-*.safetensors"))
    if not files:
        raise typer.BadParameter(f"{work / 'pieces'} holds no {kind}-*.safetensors: encode first")
    return [piece for file in files for piece in load_pieces(file) if len(piece.text.split()) > 1]


def _tokenizer(work: Path, open_speech: list[Piece]) -> Tokenizer:
    path = work / "tokenizer.json"
    if not path.exists():
        rng = Random(0)
        facts = [draw_fact(rng) for _ in range(15000)]
        texts = [normalise(f.statement) for f in facts] + [rng.choice(questions(f)) for f in facts]
        texts += [piece.text for piece in open_speech] * 8 + fillers()
        train_tokenizer(texts).save(str(path))
    return load_tokenizer(path)


if __name__ == "__main__":
    app()
