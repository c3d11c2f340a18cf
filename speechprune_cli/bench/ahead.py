"""Jobs answered side by side while a server reads: encoding goes ahead of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

from speechprune_cli.bench.jobs import Job
from speechprune_cli.bench.line import Line
from speechprune_cli.flow import Audio
from speechprune_cli.pipeline import Session

MOST_BYTES = 2 * 2**30  # of all recordings that are under way, their samples and their tokens


class Ahead:
    """Hands jobs to threads, as many at once as the server takes prompts.

    Threads take turns at the model here; those that wait for the server let others go on.
    """

    def __init__(self, session: Session, answer_job: Callable[[Job], Iterator[Line]]) -> None:
        self.session, self._answer_job = session, answer_job
        self._done: SimpleQueue[Line | Future[None]] = SimpleQueue()
        self._running: dict[Future[None], int] = {}  # and about how many bytes each holds

    def answer(self, jobs: Iterable[Job]) -> Iterator[Line]:
        """Lines of all jobs, as they are made. Raises what answering one raises."""
        reader = self.session.reader
        at_once = reader.at_once if reader else 1
        with ThreadPoolExecutor(at_once, "job") as pool:
            try:
                for job in jobs:
                    size = self._size(job)
                    while not self._done.empty():  # what ended while the job was decoded
                        yield from self._next()
                    while self._running and not self._room(size, at_once):
                        yield from self._next()
                    begun = pool.submit(self._work, job)
                    self._running[begun] = size
                    begun.add_done_callback(self._done.put)
                while self._running:
                    yield from self._next()
            finally:
                if self._running and reader:
                    reader.close()  # else threads would wait for answers that nobody takes
                pool.shutdown(wait=False, cancel_futures=True)

    def _room(self, size: int, at_once: int) -> bool:
        held = sum(self._running.values())
        return len(self._running) < at_once and held + size <= MOST_BYTES

    def _work(self, job: Job) -> None:
        for line in self._answer_job(job):
            self._done.put(line)

    def _next(self) -> Iterator[Line]:
        """Wait for a line, or for the end of a job."""
        found = self._done.get()
        if isinstance(found, Line):
            yield found
        else:
            del self._running[found]
            found.result()

    def _size(self, job: Job) -> int:
        """Bytes of the samples and tokens of a job's recordings, about."""
        model = self.session.model
        audios = [each.audio for each in job if isinstance(each.audio, Audio)]
        tokens = model.shape.audio_tokens(sum(audio.seconds for audio in audios))
        samples = sum(audio.samples.nbytes for audio in audios)
        return samples + tokens * model.hidden_size * model.dtype.itemsize
