"""How a run asks: who is encoded, drawn, rotated, halved; and what it keeps on disk."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, replace

import pytest
from bench_data import answers, read_lines, write_benchmark
from test_backend import load

from speechprune_cli.bench.jobs import answer_missing, jobs
from speechprune_cli.bench.line import Given, Line, indices, ranges
from speechprune_cli.bench.plan import Plan, draw, long_enough
from speechprune_cli.bench.run import OpenRun
from speechprune_cli.bench.runner import Runner
from speechprune_cli.bench.sample import Benchmark
from speechprune_cli.bench.store import Run
from speechprune_cli.bench.tasks import load_task
from speechprune_cli.bench.verdict import judge
from speechprune_cli.errors import ModelError, OutOfMemoryError, UsageError
from speechprune_cli.flow import Answer
from speechprune_cli.pipeline import Session
from speechprune_cli.question import LETTER_ONLY


def make_plan(**changes) -> Plan:
    chosen = {
        **{"benchmark": "jsonl", "model": "tiny", "device": "cpu", "dtype": "float32"},
        **{"methods": ("speechprune",), "rates": (0.4,), "max_new_tokens": 3},
        **changes,
    }
    return Plan(**chosen)


class Watched(Session):
    """A session that remembers what it encoded and what it pruned to."""

    def __init__(self, model):
        super().__init__(model)
        self.encoded, self.selected = [], []

    def encode(self, audio, on_progress=None):
        self.encoded.append(audio.source)
        return super().encode(audio, on_progress)

    def select(self, tokens, question, spec, **how):
        selection = super().select(tokens, question, spec, **how)
        self.selected.append((spec.name, selection.kept.tolist()))
        return selection

    def kept_by(self, method):
        return [set(kept) for name, kept in self.selected if name == method]


@pytest.fixture(scope="module")
def lm(tiny_model_folder):
    return load(tiny_model_folder)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    index = write_benchmark(tmp_path_factory.mktemp("runner"))
    return load_task("jsonl", index, offline=True).samples


@pytest.fixture(scope="module")
def by_id(samples):
    return {sample.id: sample for sample in samples}


def by_key(lines):
    return {(line.sample, line.condition): line for line in lines}


def lines_of(session, plan, samples):
    return list(Runner(session, plan).answer(jobs(samples, plan, set())))


def test_every_sample_is_in_one_table_whatever_it_asks(samples, tmp_path):
    """Options without an answer, as another package may bring them, ask nothing."""
    unanswered = replace(samples[0], id="unanswered", answer="")
    span = replace(unanswered, id="span", options=())
    benchmark = Benchmark("mixed", (*samples, unanswered, span), "here", "")
    run = OpenRun(Run(tmp_path), make_plan(), benchmark, benchmark.samples, limited=False)
    lines = [Line.failed(each, run.plan.conditions[0], "no model") for each in benchmark.samples]
    results = run._results(benchmark.samples, lines, "mixed")
    assert {result.title: result.n_samples for result in results} == {
        "mixed, questions with options": 4,
        "mixed, open questions": 1,
        "mixed, spans": 2,
    }
    assert [result.n_samples for result in results if result.controls] == [4]


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 2])
def test_each_recording_is_encoded_once_for_all_questions_and_conditions(
    lm, samples, batch_size, tmp_path
):
    plan = make_plan(methods=("speechprune", "crop"), rates=(0.2, 0.4, 0.8), batch_size=batch_size)
    session, run, seen = Watched(lm), Run(tmp_path), []
    answer_missing(run, plan, samples, Runner(session, plan), seen.append)
    assert len(session.encoded) == len({sample.audio for sample in samples}) == 3
    assert len(set(session.encoded)) == 3
    assert seen == run.lines()
    assert len(answers(read_lines(tmp_path))) == len(samples) * 9
    answer_missing(run, plan, samples, Runner(session, plan), seen.append)
    assert len(session.encoded) == 3, "all is answered"
    assert len(read_lines(tmp_path)) == len(seen) == len(samples) * 9


@pytest.mark.slow
def test_what_is_drawn_is_drawn_for_each_sample(lm, by_id):
    pair = [by_id["long"], by_id["as long"]]

    def kept(**changes):
        session = Watched(lm)
        lines_of(session, make_plan(methods=("random", "crop"), rates=(0.4, 0.8), **changes), pair)
        return {method: session.kept_by(method) for method in ("random", "crop")}

    drawn = kept()
    for sets in drawn.values():
        assert sets[0] != sets[2], "recordings of one length are pruned in their own ways"
    gentle, hard = drawn["random"][0::2], drawn["random"][1::2]
    assert all(few < many for few, many in zip(hard, gentle, strict=True))
    assert kept() == drawn != kept(seed=1)
    assert kept(settings={"seed": 1}) == kept(seed=1)


@pytest.mark.slow
def test_rotations_are_asked_and_read_back_as_the_sample_has_them(lm, by_id):
    sample, session = by_id["long"], Watched(lm)
    tokens = session.encode(load_audio(sample))
    for scoring in ("likelihood", "letter"):
        plan = make_plan(methods=("full",), scoring=scoring, permute_options=True)
        lines = {line.condition: line for line in lines_of(session, plan, [sample])}
        read = lines["full"].answers
        assert [list(row.order) for row in read] == [
            [0, 1, 2, 3],
            [1, 2, 3, 0],
            [2, 3, 0, 1],
            [3, 0, 1, 2],
        ]
        selection = session.prune(tokens, sample.question, method="full", rate=None)
        for row in read:
            shown = [sample.options[index] for index in list(row.order)]
            question = sample.question + (f"\n{LETTER_ONLY}" if scoring == "letter" else "")
            prompt = session.build_prompt(tokens, selection, question, choices=shown)
            choices = list("ABCD") if scoring == "letter" else shown
            answer = session.respond(prompt, choices=choices)
            named = dict(zip(shown, (answer.probabilities[c] for c in choices), strict=True))
            assert row.text == answer.text
            assert row.probabilities == pytest.approx([named[o] for o in sample.options])
            assert sample.options[row.chosen] == shown[choices.index(answer.text)]
        chosen = [row.chosen for row in read]
        assert lines["full"].correct == chosen.count(2) / 4
        mean = [sum(row.probabilities[index] for row in read) for index in range(4)]
        assert lines["full"].right == (mean.index(max(mean)) == 2)


def load_audio(sample):
    from speechprune_cli.audio import load_audio

    return load_audio(sample.audio)


def test_letters_of_free_answers_mean_what_was_shown(lm, by_id):
    runner = Runner(Session(lm), make_plan(scoring="generate", permute_options=True))
    sample = by_id["long"]

    def read(order, text):
        return runner._given(sample, order, Answer(text, None, 1, True, 0.0, 0.0, None)).chosen

    assert read((0, 1, 2, 3), "B") == 1
    assert read((2, 3, 0, 1), "B.") == 3
    assert read((3, 0, 1, 2), "The answer is A.") == 3
    assert read((3, 0, 1, 2), "on Friday") == 0
    assert read((0, 1, 2, 3), "Who knows?") is None


def test_a_verdict_over_rotations(by_id):
    sample = by_id["two"]

    def verdict(*chosen, probabilities=None):
        shares = probabilities or [None] * len(chosen)
        rows = [Given((), "", c, p) for c, p in zip(chosen, shares, strict=True)]
        return judge(sample, rows)

    assert verdict(1, 1) == {"correct": 1.0, "right": True, "unparsed": 0}
    assert verdict(1, None) == {"correct": 0.5, "right": True, "unparsed": 1}
    assert verdict(1, 0) == {"correct": 0.5, "right": False, "unparsed": 0}
    assert verdict(None, None) == {"correct": 0.0, "right": False, "unparsed": 2}
    unsure = [[0.4, 0.6], [0.9, 0.1]]
    assert verdict(1, 0, probabilities=unsure)["right"] is False
    assert verdict(1, 0, probabilities=[[0.1, 0.9], [0.6, 0.4]])["right"] is True


def test_options_that_are_not_shown_are_asked_once(lm, by_id, monkeypatch):
    defaults = lm.preset.defaults.model_copy(update={"list_choices": False})
    monkeypatch.setattr(lm, "preset", lm.preset.model_copy(update={"defaults": defaults}))
    plan = make_plan(permute_options=True)
    lines = lines_of(Session(lm), plan, [by_id["two"]])
    assert all([list(row.order) for row in line.answers] == [[0, 1]] for line in lines)
    lines = lines_of(Session(lm), replace(plan, scoring="letter"), [by_id["two"]])
    assert all(len(line.answers) == 2 for line in lines)


class Small(Session):
    """A device with room for two prompts, and for none about houses."""

    def respond_batch(self, prompts, **arguments):
        if len(prompts) > 2 or any("house?" in prompt.text for prompt in prompts):
            raise OutOfMemoryError("too much: try a lower --batch-size")
        return super().respond_batch(prompts, **arguments)


def test_a_batch_that_is_too_much_is_halved_and_a_sample_that_is_too_much_is_an_error(lm, samples):
    plan = make_plan(batch_size=4)
    usual = by_key(lines_of(Session(lm), make_plan(), samples))
    changed = [replace(s, question="Whose house?") if s.id == "as long" else s for s in samples]
    small = by_key(lines_of(Small(lm), plan, changed))
    assert small.keys() == usual.keys()
    for key, line in small.items():
        if key[0] == "as long":
            assert (line.status, line.error) == (
                "error",
                "too much: try a lower --batch-size",
            )
        else:
            assert (line.status, line.right) == ("ok", usual[key].right)


def test_a_question_that_cannot_be_asked_is_an_error_line_of_its_own(lm, by_id):
    bad = replace(by_id["two"], id="bad", question="What is <|AUDIO|>?")
    lines = lines_of(Session(lm), make_plan(), [bad, by_id["two"]])
    assert {line.sample for line in lines if line.status == "error"} == {"bad"}
    assert len(lines) == 8


class Gone(Session):
    """A model that is not there any more."""

    def respond_batch(self, prompts, **arguments):
        raise ModelError("the model is gone")


def test_a_model_that_is_gone_ends_the_run(lm, by_id, tmp_path):
    plan = make_plan()
    with pytest.raises(ModelError):
        answer_missing(Run(tmp_path), plan, [by_id["two"]], Runner(Gone(lm), plan), print)
    assert (tmp_path / "lines.jsonl").read_bytes() == b""


def test_likelihoods_that_are_not_numbers_are_errors(tiny_model_folder, by_id):
    broken = load(tiny_model_folder)
    broken.model.lm_head.weight.data.fill_(float("nan"))
    lines = lines_of(Session(broken), make_plan(), [by_id["two"]])
    assert {line.status for line in lines} == {"error"}
    assert all("the output of its last layer is NaN" in line.error for line in lines)


def settings_of(plan):
    return {condition.spec.method: condition.spec.settings for condition in plan.conditions}


def test_a_method_may_carry_settings_of_its_own():
    plan = make_plan(methods=("cue:reach=0,longest=5", "cue"), settings={"reach": 0.5})
    names = [condition.name for condition in plan.conditions if condition.spec.amount]
    assert names == ["cue:reach=0,longest=5 0.4", "cue 0.4"]
    settings = settings_of(plan)
    assert settings["cue:reach=0,longest=5"] == {"reach": 0, "longest": 5}
    assert settings["cue"] == {"reach": 0.5}


@pytest.mark.parametrize("method", ["cue:reach", "cue:reach=2", "cue:heads=max", "clue:reach=0"])
def test_wrong_settings_of_a_method_are_refused(method):
    with pytest.raises(UsageError, match=r"reach|heads|clue"):
        make_plan(methods=(method,))


def names_of(plan):
    return [condition.name for condition in plan.conditions]


def test_conditions_of_one_name_are_one():
    plan = make_plan(methods=("random", "full"), rates=(0.4, 0.4, 0.40000001))
    assert names_of(plan) == ["full", "original", "silence", "random 0.4"]


def test_amounts_of_every_kind_stand_side_by_side(lm, by_id):
    plan = make_plan(methods=("uniform", "full"), rates=(0.4,), keeps=("20%", "150"))
    assert names_of(plan)[3:] == ["uniform 0.4", "uniform 20%", "uniform 150 tokens"]
    lines = by_key(lines_of(Session(lm), plan, [by_id["long"]]))
    kept = {name: lines["long", name].kept for name in names_of(plan)[3:]}
    assert list(kept.values()) == [450, 170, 150]
    share, tokens = (lines["long", f"uniform {what}"] for what in ("20%", "150 tokens"))
    assert (share.method, share.rate, share.share_asked) == ("uniform", None, 0.2)
    assert (tokens.amount.tokens, tokens.rate, tokens.share_asked) == (150, None, None)
    assert lines["long", "full"].amount is None


def test_what_is_left_out_is_as_the_models_preset_has_it():
    plan = Plan.resolve("spiral-nano")
    assert (plan.methods, plan.rates, plan.keeps) == (("cue",), (0.8,), ())
    assert Plan.resolve("spiral-nano", methods=["random"]).rates == (0.8,)
    plan = Plan.resolve("spiral-nano", keep=["10%", 30])
    assert (plan.methods, plan.rates, plan.keeps) == (("cue",), (), ("10%", "30"))
    plan = Plan.resolve("spiral-nano", paper=True)
    assert len(plan.conditions) == 3 + 5 * 4
    for given in ({"methods": ["cue"]}, {"rates": [0.2]}, {"keep": ["10%"]}):
        with pytest.raises(UsageError, match="--paper"):
            Plan.resolve("spiral-nano", paper=True, **given)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"rates": (1.0,)}, {"keeps": ("0%",)}, {"keeps": ("some",)}, {"query": "answer"}),
        *({"budget": 0}, {"limit": 0}, {"batch_size": 0}, {"scoring": "guess"}),
        *({"settings": {"query": "question+choices"}}, {"settings": {"temperature": 0}}),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(UsageError):
        make_plan(**wrong)


def test_a_method_that_the_model_cannot_serve_is_refused_before_anything_is_asked(lm):
    class Deaf(type(lm)):
        """The same model without its encoder's attention."""

        provides = frozenset()

    session = Session(lm)
    session.model = object.__new__(Deaf)
    with pytest.raises(UsageError, match=r"omnizip needs .*attention"):
        Runner(session, make_plan(methods=("uniform", "omnizip")))
    Runner(session, make_plan(methods=("uniform",)))


def test_the_seed_decides_who_is_drawn(samples):
    draws = {tuple(s.id for s in draw(samples, 2, seed)) for seed in range(20)}
    assert len(draws) > 3
    assert draw(samples, 2, 5) == draw(samples, 2, 5)
    assert all(list(samples).index(a) < list(samples).index(b) for a, b in [draw(samples, 2, 5)])
    assert draw(samples, 9, 5) == draw(samples, None, 5) == list(samples)
    assert [s.id for s in long_enough(samples, 30)] == ["long", "as long"]


def test_a_plan_survives_its_file_and_another_versions_does_not():
    plan = make_plan(settings={"temperature": 0.5}, methods=("phase1", "full"), budget="all")
    saved = json.loads(json.dumps(asdict(plan)))
    assert Plan.from_json(saved) == plan
    with pytest.raises(UsageError, match=r"another version .*: colour"):
        Plan.from_json({**saved, "colour": "red"})


def test_settings_go_to_the_methods_that_know_them():
    plan = make_plan(methods=("phase1", "random"), settings={"temperature": 0.5, "seed": 3})
    assert settings_of(plan) == {
        **{"phase1": {"temperature": 0.5}, "random": {"seed": 3}},
        **{"full": {}, "original": {}},
    }


def test_kept_tokens_are_written_in_few_words():
    for kept, text in (([], ""), ([4], "4"), ([0, 1, 2, 15, 17, 18], "0-2,15,17-18")):
        assert ranges(kept) == text
        assert indices(text) == kept


LINES = [
    Line(
        sample="a",
        condition="cue:reach=0 20%",
        method="cue:reach=0",
        share_asked=0.2,
        status="ok",
        correct=0.5,
        answers=(Given((1, 0), "x\u2028y\x85z\r\n", 1, (0.25, 0.75)), Given((0,), "", None, None)),
        audio_sha256="ab" * 32,
        kept_ranges="0-12,15",
    ),
    Line(sample="ö\u2028", condition="full", method="full", status="ok", f1=0.5, kept_ranges="0"),
    Line(sample="c", condition="full", method="full", status="error", error="日"),
]


def write_lines(run, lines=LINES):
    with run.appending() as file:
        for line in lines:
            file.write(line)
    return run.lines_path.read_bytes()


def test_lines_survive_their_file(tmp_path):
    run = Run(tmp_path)
    write_lines(run)
    assert run.lines() == LINES
    assert run.lines()[0].kept_indices == [*range(13), 15]


def test_every_damaged_byte_is_noticed(tmp_path):
    run = Run(tmp_path)
    whole = write_lines(run)
    for place in range(0, len(whole), 7):
        run.lines_path.write_bytes(whole[:place] + b"7" + whole[place + 1 :])
        if whole[place : place + 1] in (b"7", b"\n"):
            continue
        with pytest.raises(UsageError) as refused:
            run.lines()
        number = whole[:place].count(b"\n") + 1
        assert str(refused.value).startswith(f"{run.lines_path}:{number}: ")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"correct": None}, "the key 'correct' is missing"),
        ({"audio_sha256": None}, "the key 'audio_sha256' is missing"),
        ({"sample": None}, "the key 'sample' is missing"),
        ({"right": "yes"}, "right is 'yes'"),
        ({"colour": "red"}, "unknown key 'colour'"),
    ],
)
def test_a_field_that_is_missing_or_of_another_type_is_named(changes, complaint, tmp_path):
    """Of a line whose check is sound, as another program may have written it."""
    content = json.loads(LINES[0].to_json()) | changes
    body = json.dumps({k: v for k, v in content.items() if v is not None and k != "check"})
    check = hashlib.sha256(body.encode()).hexdigest()[:16]
    (tmp_path / "lines.jsonl").write_text(f'{body[:-1]}, "check": "{check}"}}\n')
    with pytest.raises(UsageError, match=complaint) as refused:
        Run(tmp_path).lines()
    assert str(refused.value).startswith(f"{tmp_path / 'lines.jsonl'}:1: ")


def test_half_a_line_is_cut_wherever_it_ends(tmp_path):
    run = Run(tmp_path)
    whole = write_lines(run, LINES[:2])
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        os.truncate(run.lines_path, end)
        assert run.lines() == LINES[:1]
        with run.appending() as file:
            assert run.lines_path.read_bytes() == whole[:first]
            file.write(LINES[1])
        assert run.lines_path.read_bytes() == whole


def test_prompts_beyond_the_context_are_marked(tiny_model_folder, by_id, tmp_path):
    from speechprune_cli.bench.metrics import summarise

    lm = load(tiny_model_folder)
    before = lines_of(Session(lm), make_plan(), [by_id["two"]])
    prompts = {line.condition: line.prompt_tokens for line in before}
    longest = max(prompts, key=prompts.__getitem__)
    decoder = lm.shape.decoder.model_copy(update={"max_position_embeddings": prompts[longest] - 1})
    lm.shape = replace(lm.shape, decoder=decoder)
    lines = lines_of(Session(lm), make_plan(), [by_id["two"]])
    assert {line.condition: line.beyond_context for line in lines} == {
        name: length == prompts[longest] for name, length in prompts.items()
    }
    run = Run(tmp_path)
    write_lines(run, lines)
    assert run.lines() == lines
    assert {row.beyond_context for row in summarise(lines)} == {0, 1}
