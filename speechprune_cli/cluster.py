"""Ray: joining a cluster or starting one here, and sharing out its processors."""

from __future__ import annotations

import logging
import os
import socket
from math import floor
from typing import Any

from speechprune_cli.errors import UsageError
from speechprune_cli.extras import need

RAY_SETTINGS = {  # read when Ray is imported and when it is started
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # otherwise a worker's death is reported on stdout
    "RAY_worker_niceness": "0",  # otherwise workers give way to all else on the machine
}
PASSED_ON = ("HF_HUB_OFFLINE", "SPEECHPRUNE_CACHE_DIR", "TRANSFORMERS_VERBOSITY")  # to workers


def connect(address: str | None) -> None:
    """Join the cluster at `address`, or start one here. Raises UsageError."""
    need("ray", "--workers and --ray", "ray")
    os.environ.update({name: os.environ.get(name, value) for name, value in RAY_SETTINGS.items()})
    import ray

    passed_on = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    try:
        host, _, port = (address or "").rpartition(":")
        if port.isdecimal() and "/" not in host:  # Ray itself would try for minutes
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        ray.init(
            address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            runtime_env={"env_vars": passed_on},
        )
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        what = f"--ray {address}: cannot join" if address else "--workers: Ray does not start"
        raise UsageError(f"{what}: {error}") from error


def share(workers: int, gpus: float | None, device: str) -> tuple[dict[str, Any], int]:
    """What Ray is to reserve for each worker, and its threads. Raises UsageError."""
    import ray

    have = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, total = ([node.get(kind, 0) for node in have] for kind in ("CPU", "GPU"))
    each = min(max(cpus), sum(cpus) / workers)
    if gpus is None:
        gpus = 1 if sum(total) and device != "cpu" else 0
    if workers * gpus > sum(total) or (gpus > 1 and gpus % 1):
        raise UsageError(
            f"{workers} workers on {gpus:g} GPUs each do not fit on {sum(total):g}: "
            "lower --workers or --gpus (a whole number, or less than 1)"
        )
    return {"num_cpus": min(1, floor(1000 * each) / 1000), "num_gpus": gpus}, max(1, int(each))
