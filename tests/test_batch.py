"""Prompts read side by side are answered as each would be alone."""

from __future__ import annotations

import re
import sys
from dataclasses import replace

import pytest
import torch
from conftest import make_audio
from test_backend import keep, load

from speechprune_cli.backends.decoding import read_prompts, score_batch
from speechprune_cli.errors import OutOfMemoryError, UsageError
from speechprune_cli.pipeline import Session

QUESTIONS = (
    "When is the report due?",
    "Who lives in the red house?",
    "Why?",
    "Is the report due on Friday, on Monday, or when the red house is sold?",
)
CHOICES = (
    ["on Friday", "in the red house", "w"],
    ["a", "b"],
    ["The report is due on Friday.", "no", "in the red house", "maybe", "never"],
    ["red", "blue house", "it is not said at all"],
)


@pytest.fixture(scope="module", params=["tiny_model_folder", "tiny_qwen2_folder"])
def lm(request):
    return load(request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
def llama(tiny_model_folder):
    return load(tiny_model_folder)


def make_prompts(lm, position="repacked"):
    """Two recordings, four questions: other numbers of audio tokens and of text tokens each."""
    long, short = lm.encode(make_audio(33.0)), lm.encode(make_audio(3.0))
    picked = [(long, 1), (long, 9), (short, 1), (short, 30)]
    prompts = [
        lm.build_prompt(tokens, keep(tokens, range(0, len(tokens), step)), question, position)
        for (tokens, step), question in zip(picked, QUESTIONS, strict=True)
    ]
    assert len({prompt.position_ids.shape[1] for prompt in prompts}) == 4
    return prompts


def said(answers):
    return [(answer.text, answer.new_tokens, answer.finished) for answer in answers]


def assert_same_choices(batch, alone):
    assert [answer.text for answer in batch] == [answer.text for answer in alone]
    for ours, expected in zip(batch, alone, strict=True):
        assert ours.probabilities == pytest.approx(expected.probabilities, abs=1e-5)


@pytest.fixture
def masks(monkeypatch):
    """Collects the masks that a model's decoder is given."""
    seen, hooks = [], []

    def watch(lm):
        def note(module, args, kwargs):
            seen.append(kwargs["attention_mask"])

        hooks.append(lm.decoder.register_forward_pre_hook(note, with_kwargs=True))
        return seen

    yield watch
    for hook in hooks:
        hook.remove()


@pytest.mark.slow
@pytest.mark.parametrize("position", ["repacked", "original"])
def test_a_batch_generates_what_its_prompts_do_alone(lm, position):
    prompts = make_prompts(lm, position)
    alone = [lm.generate(prompt, max_new_tokens=12) for prompt in prompts]
    assert said(lm.generate_batch(prompts, max_new_tokens=12)) == said(alone)
    assert len({answer.text for answer in alone}) == 4


@pytest.mark.parametrize("position", ["repacked", "original"])
def test_a_batch_chooses_what_its_prompts_do_alone(lm, position):
    prompts = make_prompts(lm, position)
    alone = [lm.choose(*question) for question in zip(prompts, CHOICES, strict=True)]
    batch = lm.choose_batch(prompts, CHOICES)
    assert_same_choices(batch, alone)
    assert [list(answer.probabilities) for answer in batch] == list(CHOICES)


def test_options_of_one_token_each(lm):
    prompts, choices = make_prompts(lm), [["a", "b"], ["c", "d", "e"], ["x", "y"], ["q", "a"]]
    alone = [lm.choose(*question) for question in zip(prompts, choices, strict=True)]
    assert_same_choices(lm.choose_batch(prompts, choices), alone)


def test_padded_logits_are_those_of_the_prompt_alone(lm):
    prompts = make_prompts(lm, "original")
    heads = []
    hook = lm.model.lm_head.register_forward_hook(lambda *call: heads.append(call[-1]))
    lm.generate_batch(prompts, max_new_tokens=1)
    hook.remove()
    alone = torch.stack([lm.prefill(prompt)[1] for prompt in prompts])
    torch.testing.assert_close(heads[0], alone, rtol=1e-4, atol=1e-4)


def test_rows_that_end_early_leave_the_others_alone(lm, monkeypatch):
    prompts = make_prompts(lm)
    first, second = (
        lm.model.generate(
            inputs_embeds=prompt.inputs_embeds,
            attention_mask=torch.ones(prompt.inputs_embeds.shape[:2]),
            do_sample=False,
            max_new_tokens=6,
        )[0].tolist()
        for prompt in prompts[:2]
    )
    monkeypatch.setattr(lm, "end_tokens", frozenset([first[0], second[4]]))
    alone = [lm.generate(prompt, max_new_tokens=12) for prompt in prompts]
    batch = lm.generate_batch(prompts, max_new_tokens=12)
    assert said(batch) == said(alone)
    assert said(batch)[0] == ("", 0, True)
    assert len({answer.new_tokens for answer in batch}) > 2
    assert {answer.finished for answer in batch} == {True, False}


@pytest.mark.parametrize("position", ["repacked", "original"])
def test_a_batch_of_one_is_the_prompt_alone_to_the_bit(lm, masks, position):
    prompt, seen = make_prompts(lm, position)[1], masks(lm)
    assert said(lm.generate_batch([prompt], 8)) == said([lm.generate(prompt, 8)])
    chosen = lm.choose(prompt, CHOICES[0])
    batch = lm.choose_batch([prompt], CHOICES[:1])
    assert [answer.probabilities for answer in batch] == [chosen.probabilities]
    options = [lm.tokenizer(choice, add_special_tokens=False).input_ids for choice in CHOICES[0]]
    with torch.no_grad():
        (scores,) = score_batch(*read_prompts(lm, [prompt]), [options])
    assert scores.softmax(0).tolist() == list(chosen.probabilities.values())
    assert seen
    assert all(mask is None for mask in seen)


def test_only_padding_brings_a_mask(llama, masks):
    prompts, seen = make_prompts(llama), masks(llama)
    alone = llama.choose(prompts[0], CHOICES[0])
    assert_same_choices(llama.choose_batch([prompts[0]] * 3, [CHOICES[0]] * 3), [alone] * 3)
    assert said(llama.generate_batch([prompts[0]] * 2, 8)) == said(
        [llama.generate(prompts[0], 8)] * 2
    )
    assert all(mask is None for mask in seen)
    llama.generate_batch(prompts[:2], 1)
    assert seen[-1].sum(1).tolist() == [prompt.position_ids.shape[1] + 1 for prompt in prompts[:2]]


def test_answers_share_the_seconds_of_their_batch(llama):
    prompts = make_prompts(llama)
    for answers in (llama.generate_batch(prompts, 4), llama.choose_batch(prompts, CHOICES)):
        for what in ("prefill_seconds", "decode_seconds", "peak_memory_bytes"):
            assert len({getattr(answer, what) for answer in answers}) == 1
            assert getattr(answers[0], what) > 0


def test_half_precision_batches_run(tiny_model_folder):
    half = load(tiny_model_folder, dtype="bfloat16")
    prompts = make_prompts(half)
    assert len(half.generate_batch(prompts, max_new_tokens=3)) == 4
    for answer in half.choose_batch(prompts, CHOICES):
        assert sum(answer.probabilities.values()) == pytest.approx(1)


def test_no_prompts_no_answers(llama):
    assert llama.generate_batch([]) == []
    assert llama.choose_batch([], []) == []


def test_what_a_batch_refuses(llama):
    prompts = make_prompts(llama)[:2]
    with pytest.raises(UsageError, match="max_new_tokens is 0"):
        llama.generate_batch(prompts, max_new_tokens=0)
    with pytest.raises(UsageError, match="2 prompts, but choices for 3"):
        llama.choose_batch(prompts, CHOICES[:3])
    for wrong in ([], ["only one"], ["same", "same"], ["a", " "]):
        with pytest.raises(UsageError, match=r"at least two options|an option is empty"):
            llama.choose_batch(prompts, [["a", "b"], wrong])


@pytest.mark.skipif(sys.platform != "linux", reason="free memory is known on Linux only")
def test_a_batch_that_cannot_fit_is_refused_before_it_is_read(llama):
    start, n = make_prompts(llama)[0], 2**36

    def refused(*lengths, choices=None):
        prompts = [
            replace(start, inputs_embeds=start.inputs_embeds[:, :1].expand(1, length, -1))
            for length in lengths
        ]
        with pytest.raises(OutOfMemoryError) as error:
            Session(llama).respond_batch(prompts, choices=choices)
        return str(error.value)

    def gib(message):
        return float(re.search(r"needs about ([\d.]+) GiB", message)[1])

    one, three = refused(n), refused(n, n, n)
    assert "--batch-size" not in one
    assert "reading 3 prompts of up to 68,719,476,736 tokens" in three
    assert "try a lower --batch-size, a higher --rate" in three
    assert gib(three) == pytest.approx(3 * gib(one))
    assert gib(refused(n, n - 1)) > 2 * gib(one), "a mask costs memory of its own"
    assert gib(refused(n, n, n, choices=CHOICES[:3])) > gib(three)


# Through the session


@pytest.fixture(scope="module")
def session(llama):
    return Session(llama)


def test_a_session_answers_batches(session):
    prompts = make_prompts(session.model)
    free = session.respond_batch(prompts, max_new_tokens=6)
    assert said(free) == said(session.respond(p, max_new_tokens=6) for p in prompts)
    chosen = session.respond_batch(prompts, choices=CHOICES)
    alone = [session.respond(p, choices=c) for p, c in zip(prompts, CHOICES, strict=True)]
    assert_same_choices(chosen, alone)
    assert session.respond_batch([]) == session.respond_batch([], choices=[]) == []


@pytest.mark.parametrize("default", [True, False])
def test_a_call_may_overrule_whether_choices_are_listed(tiny_model_folder, default):
    session = Session(load(tiny_model_folder))
    preset = session.model.preset
    defaults = preset.defaults.model_copy(update={"list_choices": default})
    session.model.preset = preset.model_copy(update={"defaults": defaults})
    tokens = session.model.encode(make_audio(3.0))

    def listed(**options):
        prompt = session.build_prompt(
            tokens, keep(tokens), "When?", choices=("noon", "dusk"), **options
        )
        return "A. noon" in prompt.text

    assert listed() == listed(list_choices=None) == default
    assert listed(list_choices=True)
    assert not listed(list_choices=False)
