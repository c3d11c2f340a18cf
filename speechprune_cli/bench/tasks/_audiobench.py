"""AudioBench's sets of multiple-choice questions, as parquet files with the sound inside.

Recordings are written once, under their SHA-256, to `benchmarks` in the cache folder; they stay
there until somebody removes them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from speechprune_cli.atomic import atomic
from speechprune_cli.bench.sample import Benchmark, Sample
from speechprune_cli.bench.tasks._checks import check_options, check_samples
from speechprune_cli.bench.tasks.base import Task
from speechprune_cli.errors import SpeechPruneError, UsageError, one_line
from speechprune_cli.extras import need
from speechprune_cli.folders import cache_folder
from speechprune_cli.hub import download

COLUMNS = ("context", "instruction", "choices", "answer")
TEST_SPLIT = "data/test-*.parquet"
MIN_SECONDS = 60.0  # the paper asks only about longer recordings
OPTION = re.compile(r"\(([A-Z])\)\s*(.*)", re.DOTALL)
BATCH_ROWS = 16


class AudioBench(Task):
    """The test split of a set, from the parquet file or folder `data`, otherwise from the Hub."""

    name: ClassVar[str]
    hub_id: ClassVar[str]

    def load(self, data: Path | None, *, offline: bool) -> Benchmark:
        """Raises UsageError for a missing package, bad files or rows, ModelError for the Hub."""
        need("pyarrow", self.name, "parquet")
        if data is None:
            folder = download(
                self.hub_id,
                [TEST_SPLIT],
                kind="dataset",
                revision=None,
                offline=offline,
                instead="give its files with --data",
            )
            files, source = sorted(folder.glob(TEST_SPLIT)), f"{self.hub_id}@{folder.name}"
        else:
            files, source = _local_files(data), str(data)
        rows = enumerate(row for path in files for row in _rows(path))
        placed = [
            (place := f"{source}, row {number}", _sample(f"{self.name}-{number:05d}", row, place))
            for number, row in rows
        ]
        samples = check_samples(source, placed, "run it again")
        fingerprint = _fingerprint(files)
        return Benchmark(self.name, samples, source, fingerprint, MIN_SECONDS, self.published)


def _local_files(data: Path) -> list[Path]:
    if data.is_file():
        return [data]
    for pattern in (TEST_SPLIT, "test-*.parquet", "data/*.parquet", "*.parquet"):
        if files := sorted(data.glob(pattern)):
            return files
    raise UsageError(f"{data}: there is no parquet file, nor a folder that holds one")


def _fingerprint(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """A few at a time: the sound of all is much."""
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            if missing := [name for name in COLUMNS if name not in file.schema_arrow.names]:
                raise UsageError(f"{path}: the column '{missing[0]}' is missing")
            for batch in file.iter_batches(BATCH_ROWS, columns=COLUMNS):
                yield from batch.to_pylist()
    except (ArrowException, OSError) as error:
        raise UsageError(f"{path}: not a sound parquet file: {one_line(error)}") from error


def _sample(name: str, row: dict[str, Any], place: str) -> Sample:
    for column in COLUMNS[1:]:
        if not isinstance(row[column], str) or not row[column].strip():
            raise UsageError(f"{place}: '{column}' holds no text")
    options = _options(row["choices"], place)
    answer = OPTION.fullmatch(row["answer"].strip())
    if not answer or _plain(options.get(answer[1], "")) != _plain(answer[2]):
        raise UsageError(f"{place}: the answer {row['answer']!r} is none of the options")
    texts = tuple(options.values())
    check_options(place, texts, options[answer[1]])
    return Sample(
        id=name,
        audio=_store(row["context"], place),
        question=row["instruction"].strip(),
        options=texts,
        answer=options[answer[1]],
    )


def _options(choices: str, place: str) -> dict[str, str]:
    """Texts by letter. An option may run over several lines."""
    parts = [
        OPTION.fullmatch(part.strip()) for part in re.split(r"\n\s*(?=\([A-Z]\))", choices.strip())
    ]
    options = {part[1]: part[2] for part in parts if part}
    if len(options) < len(parts):
        raise UsageError(f"{place}: the choices are not like '(A) ...', a line each: {choices!r}")
    return options


def _plain(text: str) -> str:
    return " ".join(text.split())


def _store(context: Any, place: str) -> Path:
    """Where the bytes of a recording lie as a file."""
    content = context.get("bytes") if isinstance(context, dict) else None
    if not content:
        raise UsageError(f"{place}: 'context' holds no bytes of a recording")
    folder = cache_folder("benchmarks")
    ending = re.search(r"\.[a-z0-9]{1,5}$", context.get("path") or "")
    path = folder / f"{hashlib.sha256(content).hexdigest()}{ending[0] if ending else '.audio'}"
    if path.is_file():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpeechPruneError(f"cannot make {folder}: {error.strerror or error}") from error
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    return path
