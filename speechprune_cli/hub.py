"""Downloads from the Hugging Face Hub, and one clear line for each way they fail."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from speechprune_cli.errors import ModelError, one_line

OFFLINE = "HF_HUB_OFFLINE"
PAGES = {"model": "https://huggingface.co/", "dataset": "https://huggingface.co/datasets/"}


def download(
    hub_id: str,
    patterns: Sequence[str],
    *,
    kind: Literal["model", "dataset"],
    revision: str | None,
    offline: bool,
    instead: str,
    unwanted: Sequence[str] = (),
) -> Path:
    """A folder, named like the commit, with the files that match `patterns` and none `unwanted`.

    `instead` is what can be done where there is no network. Raises ModelError for what is missing,
    gated or out of reach. `offline` holds for the process from here on, whoever asks next.
    """
    if offline:
        os.environ[OFFLINE] = "1"  # which the Hub's library reads once, on import
    from huggingface_hub import snapshot_download

    page = PAGES[kind] + hub_id
    why = "--offline is on" if offline else "the Hub cannot be reached"
    why = f"{OFFLINE} is set" if is_set(OFFLINE) and not offline else why
    command = f"hf download {'--repo-type dataset ' if kind == 'dataset' else ''}{hub_id}"
    absent = ModelError(
        f"{hub_id} is not on this machine and {why}: `{command}` where there is a network "
        f"(see {page}), or {instead}"
    )
    with _explained(page, revision, absent):
        path = snapshot_download(
            hub_id,
            repo_type=kind,
            revision=revision,
            local_files_only=is_set(OFFLINE),
            allow_patterns=list(patterns),
            ignore_patterns=list(unwanted),
        )
    folder = Path(path)
    if not any(found for pattern in patterns for found in folder.glob(pattern)):
        raise absent
    return folder


@contextmanager
def _explained(page: str, revision: str | None, absent: ModelError) -> Iterator[None]:
    """ModelError for all that the Hub's library raises: `absent` where it is out of reach."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        cure = "accept its terms there, then `hf auth login`"
        raise ModelError(f"{page} is gated: {cure}") from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"{page} has no revision {revision}") from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(f"{page} does not exist, or is private: `hf auth login`") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise absent from error
    except (*_transport_errors(), OSError, ValueError) as error:
        raise ModelError(f"cannot download {page}: {one_line(error)}") from error


def _transport_errors() -> tuple[Any, ...]:
    """Those of addresses and proxies that cannot work too; the library differs by version."""
    from huggingface_hub.errors import HfHubHTTPError

    library = import_module(HfHubHTTPError.__bases__[0].__module__.partition(".")[0])
    return library.HTTPError, library.InvalidURL


def is_set(variable: str) -> bool:
    """Whether a switch of the environment is on."""
    return os.environ.get(variable, "").lower() not in {"", "0", "false", "no", "off"}
