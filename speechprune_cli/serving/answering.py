"""The model's thread: recordings are encoded once, prompts of one kind are answered together."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from speechprune_cli.methods import defaults_of
from speechprune_cli.report import remarks
from speechprune_cli.report.facts import describe_answer, describe_selection
from speechprune_cli.serving.limits import MEGABYTE
from speechprune_cli.serving.line import Begun, Done, Gone, Job
from speechprune_cli.serving.remembered import Heard, Remembered
from speechprune_cli.sources import stored

if TYPE_CHECKING:
    from speechprune_cli.flow import Answer, Prompt, Selection
    from speechprune_cli.methods import MethodSpec
    from speechprune_cli.pipeline import Session
    from speechprune_cli.serving.limits import Limits


@contextmanager
def telling(job: Job) -> Iterator[None]:
    """Whatever goes wrong is told to this job alone; of a mistake the server logs a line."""
    try:
        yield
    except Gone:
        pass
    except Exception as error:  # noqa: BLE001 - told, not hidden
        job.tell(error)


@dataclass(frozen=True)
class Asked:
    """A job whose prompt is ready."""

    job: Job
    heard: Heard
    spec: MethodSpec
    selection: Selection
    prompt: Prompt
    remarks: dict[str, list[tuple[str, str]]]

    def said(self, piece: str) -> None:
        """A piece of its answer. Raises Gone."""
        self.job.check()
        if self.job.request.stream:
            self.job.tell(piece)


class Answering:
    """A session, and the recordings that it remembers."""

    def __init__(self, session: Session, limits: Limits) -> None:
        self.session, self.limits = session, limits
        self.remembered = Remembered(limits.remembered_megabytes * MEGABYTE)

    def __call__(self, jobs: Sequence[Job]) -> None:
        """Answer jobs of one kind; each is told what becomes of it."""
        asked = [one for job in jobs if (one := self._prepared(job)) is not None]
        together = [one for one in asked if one.prompt.audio_tokens and not one.job.is_alone]
        if len(together) > 1:
            asked = [one for one in asked if one not in together] + self._batch(together)
        for one in asked:
            self._alone(one)

    def _prepared(self, job: Job) -> Asked | None:
        """Decode, encode, prune; None where that failed, or nobody waits any more."""
        with telling(job):
            job.check()
            asked = self._prepare(job)
            job.check()
            job.tell(Begun(asked.remarks))
            return asked
        return None

    def _prepare(self, job: Job) -> Asked:
        session, request = self.session, job.request
        preset, pruning = session.model.preset, request.pruning
        choices = session.check(request.question, request.choices)
        spec = pruning.spec(defaults_of(preset))
        spec.check(preset)
        heard = self._heard(job).called(request.name)
        selection = session.select(
            heard.tokens,
            request.question,
            spec,
            budget=pruning.budget,
            choices=choices,
            query=pruning.query,
        )
        prompt = session.build_prompt(
            heard.tokens,
            selection,
            request.question,
            choices=choices,
            position=request.position,
        )
        told = self._remarks(job, heard, spec, selection, prompt)
        return Asked(job, heard, spec, selection, prompt, told)

    def _heard(self, job: Job) -> Heard:
        """The recording's tokens, remembered or encoded now. Raises Gone."""
        request = job.request
        digest = hashlib.sha256(request.recording)
        digest.update(f"track {request.track}".encode())
        key = digest.hexdigest()
        with self.remembered.turn(key):
            if (known := self.remembered.get(key)) is not None:
                return known
            file = io.BytesIO(request.recording)
            audio = stored(file, request.name, request.track, self.limits.seconds, job.check)
            tokens = self.session.encode(audio, lambda _done, _total: job.check())
            return self.remembered.put(key, Heard(audio, tokens))

    def _remarks(
        self, job: Job, heard: Heard, spec: MethodSpec, selection: Selection, prompt: Prompt
    ) -> dict[str, list[tuple[str, str]]]:
        """All that `ask` says before an answer, in its order."""
        session, audio, told = self.session, heard.audio, job.request.pruning.keep
        on_recording = [
            *(remarks.Remark("warning", line) for line in audio.warnings),
            *(remarks.Remark("note", line) for line in session.decisions),
            *remarks.on_model(session.model.preset, audio),
            *remarks.on_recording(session, audio, heard.tokens, spec.amount if told else None),
        ]
        request = job.request
        on_question = [
            *remarks.on_question(session, request.question, request.choices),
            *remarks.on_selection(selection),
            *remarks.on_prompt(session, prompt),
        ]
        if request.earlier:
            left_out = "only the last question is read, nothing of what was said before it"
            on_question.append(remarks.Remark("warning", left_out))
        return {"recording": list(on_recording), "question": list(on_question)}

    def _batch(self, asked: Sequence[Asked]) -> list[Asked]:
        """Answer prompts together; what is too much or fails so is given back."""
        choices = [one.job.request.choices for one in asked]
        try:
            answers = self.session.respond_batch(
                [one.prompt for one in asked],
                choices=choices if any(choices) else None,
                max_new_tokens=asked[0].job.request.max_new_tokens,
            )
        except Exception:  # noqa: BLE001 - whose it is shows when each is asked alone
            return list(asked)
        for one, answer in zip(asked, answers, strict=True):
            with telling(one.job):
                one.job.tell(self._done(one, answer))
        return []

    def _alone(self, asked: Asked) -> None:
        request = asked.job.request
        with telling(asked.job):
            asked.job.check()
            answer = self.session.respond(
                asked.prompt,
                choices=request.choices,
                max_new_tokens=request.max_new_tokens,
                on_text=asked.said,
            )
            asked.job.tell(self._done(asked, answer))

    def _done(self, asked: Asked, answer: Answer) -> Done:
        request, heard, spec = asked.job.request, asked.heard, asked.spec
        settings = {
            **asdict(spec.pruner),
            "query": request.pruning.query or spec.pruner.query,
        }
        selection = describe_selection(
            self.session, heard.audio, heard.tokens, asked.selection, settings
        )
        fields: dict[str, Any] = {
            "question": request.question,
            "choices": list(request.choices),
            **describe_answer(asked.prompt, answer, selection),
        }
        return Done(fields, asked.remarks)
