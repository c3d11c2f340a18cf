"""Data sets on the Hugging Face Hub."""

from __future__ import annotations

import os
from pathlib import Path

from speechprune_cli.checkpoint import one_line
from speechprune_cli.errors import ModelError


def dataset_folder(hub_id: str, pattern: str, offline: bool) -> Path:
    """A folder, named like the commit, with the files of a data set that match `pattern`.

    `offline` holds for the process from here on, as in `open_checkpoint`. Raises ModelError for
    what is missing, gated or out of reach.
    """
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    page = f"https://huggingface.co/datasets/{hub_id}"
    why = "--offline is on" if offline else "the Hub cannot be reached"
    absent = ModelError(
        f"{hub_id} is not on this machine and {why}: `hf download --repo-type dataset {hub_id}` "
        f"where there is a network (see {page}), or give its files with --data"
    )
    try:
        folder = Path(
            snapshot_download(
                hub_id, repo_type="dataset", allow_patterns=[pattern], local_files_only=offline
            )
        )
    except GatedRepoError as error:
        raise ModelError(
            f"{page} is gated: accept its terms there, then `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"{page} does not exist, or is private: `hf auth login`") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise absent from error
    except (HfHubHTTPError, OSError) as error:
        raise ModelError(f"cannot download {page}: {one_line(error)}") from error
    if not any(folder.glob(pattern)):
        raise absent
    return folder
