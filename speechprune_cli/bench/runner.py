"""Answers the samples of a benchmark under every condition; each recording is encoded once.

Samples come in jobs of a few recordings. For one condition, the prompts of a job have nearly the
same length, so they are read as one batch with hardly any padding.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from string import ascii_uppercase

import numpy as np

from speechprune_cli import costs
from speechprune_cli.bench.ahead import Ahead
from speechprune_cli.bench.conditions import Condition
from speechprune_cli.bench.estimate import Pace
from speechprune_cli.bench.jobs import RecordingJob, attempt
from speechprune_cli.bench.line import Given, Line, ranges
from speechprune_cli.bench.plan import Plan
from speechprune_cli.bench.sample import Sample
from speechprune_cli.bench.scoring import rotations
from speechprune_cli.bench.verdict import recall, said, verdict
from speechprune_cli.flow import (
    NOTHING_SAID,
    SAMPLE_RATE,
    Answer,
    Audio,
    AudioTokens,
    Prompt,
    Selection,
)
from speechprune_cli.named import parse_letter
from speechprune_cli.pipeline import Session
from speechprune_cli.question import by_letter

Order = tuple[int, ...]  # of options, by the sample's own numbers


@dataclass(frozen=True)
class Asked:
    """One sample under one condition, ready to be answered."""

    sample: Sample
    condition: Condition
    audio: Audio
    tokens: AudioTokens
    selection: Selection
    prompts: Mapping[Order, Prompt]  # one for each rotation in which the options are shown

    @property
    def wordless(self) -> bool:
        """Whether a recogniser found nothing to ask about; of silence it is asked all the same."""
        return not len(self.tokens) and not self.condition.silence


class Runner:
    """A loaded model and a plan. Raises UsageError where the model lacks what a method needs."""

    def __init__(self, session: Session, plan: Plan) -> None:
        for condition in plan.conditions:
            session.check_method(condition.spec)
        self.session, self.plan = session, plan
        self._silence: AudioTokens | None = None

    def answer(self, jobs: Iterable[Sequence[RecordingJob]]) -> Generator[Line]:
        """Lines of all jobs, as they are made."""
        if self.session.reader is not None:
            yield from Ahead(self.session, self.answer_job).answer(map(tuple, jobs))
            return
        for job in jobs:
            yield from self.answer_job(job)

    def doubts(self, samples: Sequence[Sample]) -> Sequence[str]:
        """By its tokens: options that are alike, letters that it has none for."""
        refused, lost, told = dict[str, str](), dict[str, str](), list[str]()
        for sample in (each for each in samples if each.answer):
            found = attempt(self.session.check, sample.question, sample.options)
            if isinstance(found, str):
                refused[sample.id] = found
            elif letters := self._unread(sample):
                lost[sample.id] = letters
        for name, reason in islice(refused.items(), 1):
            told.append(f"{len(refused):,} questions cannot be asked, as {name}: {reason}")
        for name, letters in islice(lost.items(), 1):
            told.append(f"{len(lost):,} questions are not read in full, as {name}: no {letters!r}")
        return told

    def _unread(self, sample: Sample) -> str:
        return self.session.unread(sample.question, sample.options)

    def expected_seconds(self, todo: Sequence[tuple[Sample, Condition]]) -> float | None:
        """By some prompts that are read for it; None where memory or a server do not let them."""
        import torch

        if self.session.reader is not None:
            return None
        model, plan = self.session.model, self.plan
        try:
            return Pace.of(model, plan.batch_size).seconds(plan, model.shape, todo)
        except torch.OutOfMemoryError:
            return None

    def answer_job(self, recordings: Sequence[RecordingJob]) -> Iterator[Line]:
        """A line for every sample and condition to do."""
        encoded: list[tuple[RecordingJob, Audio, AudioTokens]] = []
        for recording in recordings:
            audio = recording.audio
            found = audio if isinstance(audio, str) else attempt(self.session.encode, audio)
            if isinstance(audio, str) or isinstance(found, str):
                yield from recording.failures(self.plan.conditions, str(found))
            else:
                encoded.append((recording, audio, found))
        for condition in self.plan.conditions:
            asked: list[Asked] = []
            for recording, audio, tokens in encoded:
                for sample in recording.missing(condition):
                    ready = attempt(self._prepare, sample, condition, audio, tokens)
                    if isinstance(ready, str):
                        yield Line.failed(sample, condition, ready)
                    else:
                        asked.append(ready)
            yield from self._respond(asked)

    def _prepare(
        self, sample: Sample, condition: Condition, audio: Audio, tokens: AudioTokens
    ) -> Asked:
        plan, spec = self.plan, condition.spec
        if condition.silence and tokens.transcript is None:
            tokens = self._silent(tokens)
        if spec.draws:
            # a seed of each sample's own, so that equal lengths are not pruned alike
            both = f"{spec.settings.get('seed', plan.seed)}/{sample.id}"
            seed = int.from_bytes(hashlib.sha256(both.encode()).digest()[:7])
            spec = replace(spec, settings={**spec.settings, "seed": seed})
        if condition.silence and tokens.transcript is not None:
            budget = min(self.session.model.input_tokens, len(tokens))
            selection = Selection.none(spec.name, budget)  # of silence, no word is written
        else:
            selection = self.session.select(
                tokens,
                sample.question,
                spec,
                budget=plan.budget,
                choices=sample.options,
                query=plan.query,
            )
        orders = self._orders(sample)
        prompts = {order: self._prompt(sample, tokens, selection, order) for order in orders}
        return Asked(sample, condition, audio, tokens, selection, prompts)

    def _orders(self, sample: Sample) -> list[Order]:
        """Where the prompt does not show the options, their order cannot matter."""
        turned, reader = rotations(len(sample.options)), self.session.reader
        listed = self.plan.scoring != "likelihood" or (reader is not None and reader.by_letter)
        listed |= self.session.model.preset.defaults.list_choices
        return turned if self.plan.permute_options and listed else turned[:1]

    def _prompt(
        self, sample: Sample, tokens: AudioTokens, selection: Selection, order: Order
    ) -> Prompt:
        lettered = self.plan.scoring != "likelihood" and bool(sample.options)
        question = by_letter(sample.question) if lettered else sample.question
        return self.session.build_prompt(
            tokens,
            selection,
            question,
            choices=shown(sample, order),
            position=self.plan.position,
            list_choices=True if lettered else None,
            share=self.plan.permute_options and bool(sample.options),
        )

    def _respond(self, asked: Sequence[Asked]) -> Iterator[Line]:
        """Answer what shares a condition in batches.

        Of a span alone nothing is asked; of no words not the model.
        """
        questions = [one for one in asked if one.sample.answer]
        answers: dict[str, list[Answer | str]] = {one.sample.id: [] for one in asked}
        for one in questions:
            if one.wordless:
                answers[one.sample.id] = [NOTHING_SAID] * len(one.prompts)
        for batch in self._batches([one for one in questions if not one.wordless]):
            for (one, _), answer in zip(batch, self._answers(batch), strict=True):
                answers[one.sample.id].append(answer)
        for one in asked:
            rows = answers[one.sample.id]
            errors = [row for row in rows if isinstance(row, str)]
            if errors:
                yield Line.failed(one.sample, one.condition, errors[0])
            else:
                yield self._line(one, [row for row in rows if isinstance(row, Answer)])

    def _batches(self, asked: Sequence[Asked]) -> Iterator[list[tuple[Asked, Order]]]:
        """Every order of every sample; questions with and without options go apart."""
        for with_options in (True, False):
            alike = [one for one in asked if bool(one.sample.options) == with_options]
            flat = [(one, order) for one in alike for order in one.prompts]
            reader = self.session.reader
            size = self.plan.batch_size if reader is None else reader.at_once
            for start in range(0, len(flat), size):
                yield flat[start : start + size]

    def _answers(self, batch: Sequence[tuple[Asked, Order]]) -> list[Answer | str]:
        """Answers, or why there are none; a batch that is too much is halved."""
        found = attempt(self._batch, batch)
        if not isinstance(found, str):
            return list(found)
        if len(batch) == 1:
            return [found]
        half = len(batch) // 2
        return [*self._answers(batch[:half]), *self._answers(batch[half:])]

    def _batch(self, batch: Sequence[tuple[Asked, Order]]) -> list[Answer]:
        prompts = [one.prompts[order] for one, order in batch]
        choices = [self._choices(one.sample, order) for one, order in batch]
        scored, length = choices if any(choices) else None, self.plan.max_new_tokens
        return self.session.respond_batch(prompts, choices=scored, max_new_tokens=length)

    def _choices(self, sample: Sample, order: Order) -> list[str]:
        """What is scored by likelihood: the options' texts or letters; nothing: answer freely."""
        if self.plan.scoring == "generate":
            return []
        if self.plan.scoring == "letter":
            return list(ascii_uppercase[: len(order)])
        return shown(sample, order)

    def _line(self, asked: Asked, answers: Sequence[Answer]) -> Line:
        sample, condition = asked.sample, asked.condition
        tokens, kept = asked.tokens, asked.selection.kept
        given = tuple(
            self._given(sample, order, answer)
            for order, answer in zip(asked.prompts if answers else (), answers, strict=True)
        )
        prompt = next(iter(asked.prompts.values()))
        length = prompt.audio_tokens + prompt.text_tokens
        return Line(
            sample=sample.id,
            **condition.fields,
            status="ok",
            **verdict(sample, given),
            answers=given,
            audio_sha256=asked.audio.sha256,
            audio_seconds=asked.audio.seconds,
            total=len(tokens),
            budget=asked.selection.phase1_budget,
            kept=len(kept),
            share=len(kept) / max(len(tokens), 1),
            kept_ranges=ranges(kept.tolist()),
            recall=None if condition.silence else recall(sample.key_span, tokens.times, kept),
            nominal_times=tokens.nominal_times,
            prompt_tokens=length,
            beyond_context=length > self.session.model.shape.decoder.max_position_embeddings,
            tflops=costs.paper_tflops(self.session.model.shape.decoder, length),
            prune_seconds=asked.selection.seconds,
            prefill_seconds=sum(a.prefill_seconds for a in answers) / max(len(answers), 1),
            decode_seconds=sum(a.decode_seconds for a in answers) / max(len(answers), 1),
            ties=sum(answer.ties for answer in answers),
            notes=self.session.doubts(tokens),
            unread=self._unread(sample),
        )

    def _given(self, sample: Sample, order: Order, answer: Answer) -> Given:
        """One answer, options numbered as the sample has them."""
        probabilities = chosen = None
        if answer.probabilities is not None:
            by_option = dict(zip(order, answer.probabilities.values(), strict=True))
            probabilities = tuple(by_option[index] for index in range(len(order)))
            chosen = probabilities.index(max(probabilities))
        elif sample.options:
            letter = parse_letter(said(answer.text), shown(sample, order))
            chosen = None if letter is None else order[letter]
        return Given(order, answer.text, chosen, probabilities)

    def _silent(self, tokens: AudioTokens) -> AudioTokens:
        """As many tokens of silence: of whole input lengths, the last of them cut."""
        model, wanted = self.session.model, len(tokens)
        with model.lock:
            lengths = -(-wanted // model.input_tokens)
            while self._silence is None or len(self._silence) < wanted:
                samples = np.zeros(int(lengths * model.input_seconds * SAMPLE_RATE), np.float32)
                seconds = len(samples) / SAMPLE_RATE
                audio = Audio(samples, "silence", "", SAMPLE_RATE, 1, seconds)
                self._silence = model.encode(audio)
                lengths += 1
            silent = self._silence
        return replace(
            tokens,
            embeds=silent.embeds[:wanted],
            loudness=silent.loudness[:wanted],
            attention=None if silent.attention is None else silent.attention[:wanted],
        )


def shown(sample: Sample, order: Order) -> list[str]:
    """The options' texts in the order of a prompt."""
    return [sample.options[index] for index in order]
