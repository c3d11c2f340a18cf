"""Transcript files: `.json`, `.srt`, `.vtt`, and `.txt` for reading with one's eyes.

Our JSON loses nothing; times are in seconds of the recording, and a word has the blank before it
(`sure`: of the language; `seconds`: that recognising took):

    {"language": "en", "sure": 0.99, "seconds": 5.2, "origin": "Whisper base ...", "notes": ["..."],
     "sentences": [{"start": 0.31, "end": 1.2, "text": "Good morning.",
                    "words": [{"text": " Good", "start": 0.31, "end": 0.6},
                              {"text": " morning.", "start": 0.6, "end": 1.2}]}]}

Read are also the JSON of openai-whisper, faster-whisper and WhisperX (`segments`), and subtitles.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from speechprune_cli.atomic import atomic
from speechprune_cli.errors import UsageError
from speechprune_cli.escaping import json_text
from speechprune_cli.flow import Transcript
from speechprune_cli.transcripts.jsons import as_json, read_json
from speechprune_cli.transcripts.subtitles import read_subtitles, write_srt, write_vtt

READERS = {".srt": read_subtitles, ".vtt": read_subtitles, ".json": read_json}
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def read_transcript(path: str | Path) -> Transcript:
    """What a `.srt`, `.vtt` or `.json` file says.

    A `.srt` that is no UTF-8 is read as Windows-1252, which a note says. Raises UsageError, one
    line that names the file and the line or key in it, for what is missing, empty, of another
    kind, no transcript, or holds times that run backwards.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: cannot read {path.suffix!r}, only {', '.join(READERS)}")
    text, notes = _decoded(path)
    if not text.strip():
        raise UsageError(f"{path}: is empty")
    found = reader(text, str(path), f"the file {path.name}")
    return replace(found, notes=(*notes, *found.notes), seconds=0.0)


def write_transcript(path: str | Path, transcript: Transcript) -> None:
    """Write a transcript, the format told by the extension; complete or not at all.

    Subtitles have a cue a sentence, or several of at most 84 characters; `.txt` a line a sentence.
    Raises UsageError for another extension or a folder that does not exist, SpeechPruneError where
    writing fails.
    """
    path = Path(path)
    writer = WRITERS.get(path.suffix.lower())
    if writer is None:
        raise UsageError(f"{path}: cannot write {path.suffix!r}, only {', '.join(WRITERS)}")
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}")
    with atomic(path) as temporary:
        temporary.write_text(writer(transcript), encoding="utf-8")


def _decoded(path: Path) -> tuple[str, list[str]]:
    """The file's text, and what has to be said about it."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    other = f"{path}: not UTF-8: save it as UTF-8 text"
    if content.startswith(UTF16_MARKS) or b"\0" in content:
        raise UsageError(other)
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        if path.suffix.lower() != ".srt":
            raise UsageError(other) from error
    try:
        return content.decode("cp1252"), [f"{path.name} is not UTF-8: read as Windows-1252"]
    except UnicodeDecodeError as error:
        raise UsageError(other) from error


def _text(transcript: Transcript) -> str:
    return "".join(f"{sentence.text}\n" for sentence in transcript.sentences)


def _json(transcript: Transcript) -> str:
    return json_text(as_json(transcript), indent=1) + "\n"


WRITERS = {".srt": write_srt, ".vtt": write_vtt, ".txt": _text, ".json": _json}
