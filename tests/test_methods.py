"""Which method, which settings, how much: parsed once, the same in every command."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from speechprune_cli.bench.plan import Plan
from speechprune_cli.config import Defaults
from speechprune_cli.errors import UsageError
from speechprune_cli.main import main
from speechprune_cli.methods import (
    FULL,
    Amount,
    MethodSpec,
    amount_of,
    default_amount,
    grid,
    parse_settings,
    pruning_size,
)
from speechprune_cli.options import GridOptions, PruningOptions

RATE = Amount(rate=0.2)


@given(
    total=st.integers(1, 100_000),
    own=st.integers(1, 5000),
    budget=st.one_of(st.none(), st.just("all"), st.integers(1, 10_000)),
    amount=st.one_of(
        st.floats(0, 0.999).map(lambda rate: Amount(rate=rate)),
        st.floats(0.001, 1).map(lambda share: Amount(share=share)),
    ),
)
def test_sizes_fit_into_each_other(total, own, budget, amount):
    """1 <= k <= N and 1 <= B1 <= N; k <= B1 unless somebody set B1."""
    size = pruning_size(total, own, budget, amount)
    assert 1 <= size.kept <= size.total == total
    assert 1 <= size.budget <= total
    assert size.first == min(own, total)
    if budget is None or amount.share is None:
        assert size.kept <= size.budget


@pytest.mark.parametrize(
    ("what", "label"),
    [("20%", "20%"), ("2.5 %", "2.5%"), ("100%", "100%"), ("150", "150 tokens"), (7, "7 tokens")],
)
def test_what_is_kept(what, label):
    assert Amount.keeping(what).label == label


@pytest.mark.parametrize(
    "what", ["", "20", "0%", "-5", "0", "1e3", "20%%", "%", "half", "101%", "9" * 5000]
)
def test_what_cannot_be_kept(what):
    if what == "20":
        assert Amount.keeping(what) == Amount(tokens=20)
    else:
        with pytest.raises(UsageError, match="keep"):
            Amount.keeping(what)


def test_one_place_says_the_default():
    assert default_amount(Defaults(rate=0.4)) == Amount(rate=0.4)
    assert default_amount(Defaults(rate=0.4, keep="20%")) == Amount(share=0.2)
    defaults = Defaults(method="uniform", rate=0.4)
    for spec in (PruningOptions().spec(defaults), *GridOptions().specs(defaults)):
        assert (spec.label, spec.amount) == ("uniform 0.4", Amount(rate=0.4))


def test_settings_beside_a_name_are_its_own():
    spec = MethodSpec.parse("cue:reach=0,choices=false", RATE, {"longest": 5, "seed": 3})
    assert spec.settings == {"longest": 5, "reach": 0, "choices": False}
    assert (spec.name, spec.label) == ("cue", "cue:reach=0,choices=false 0.2")
    assert (spec.pruner.reach, spec.pruner.longest) == (0, 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"Cue": {"longest": 5}}, "unknown pruning method 'Cue' (do you mean cue?): choose from "),
        ({"cue": {"longst": 5}}, "pruning method 'cue': unknown key 'longst': the known ones are"),
        ({"uniform": {}, "random": {"seed": -1}}, "pruning method 'random': seed is -1: "),
    ],
)
def test_a_preset_s_settings_are_checked_also_of_methods_that_are_not_used(
    tmp_path, capfd, settings, message
):
    path = tmp_path / "mine.yaml"
    preset = {"name": "mine", "source": "nobody/nothing", "defaults": {"settings": settings}}
    path.write_text(yaml.safe_dump(preset), encoding="utf-8")
    for arguments in (["ask", "any.wav", "When?", "-m"], ["profile"], ["eval", "jsonl", "-m"]):
        assert main([*arguments, str(path), "--method", "uniform"]) == 2
        err = capfd.readouterr().err
        assert err.startswith(f"error: the preset mine: defaults.settings: {message}")
        assert err.count("\n") == 1


def test_a_preset_s_settings_give_way_to_those_of_the_command_line():
    preset = {"cue": {"longest": 4.4, "choices": False}}
    spec = MethodSpec.parse("cue", RATE, preset=preset)
    assert (spec.label, spec.pruner.longest, spec.pruner.query) == ("cue 0.2", 4.4, "question")
    assert MethodSpec.parse("cue", RATE, {"longest": 6}, preset).pruner.longest == 6
    assert MethodSpec.parse("cue:longest=7", RATE, {"longest": 6}, preset).pruner.longest == 7
    assert MethodSpec.parse("uniform", RATE, preset=preset).settings == {}
    defaults = Defaults(settings=preset)
    for spec in (PruningOptions().spec(defaults), *GridOptions().specs(defaults)):
        assert spec.settings == preset["cue"]
    with pytest.raises(UsageError, match="unknown key 'colour'"):
        MethodSpec.parse("cue", RATE, preset={"cue": {"colour": "red"}})


def test_a_method_that_settles_it_by_itself_has_no_amount():
    assert MethodSpec.parse("original", RATE) == MethodSpec("original")
    assert FULL.label == "full"


def test_seeds_go_where_something_is_drawn():
    assert MethodSpec("random").seeded(3).settings == {"seed": 3}
    assert MethodSpec.parse("random:seed=5").seeded(3).settings == {"seed": 5}
    assert MethodSpec("uniform").seeded(3).settings == {}


def test_a_grid_has_everything_once_in_the_order_given():
    amounts = [Amount(rate=0.8), Amount(share=0.2)]
    labels = [spec.label for spec in grid(["uniform", "full", "cue", "uniform"], amounts)]
    assert labels == ["uniform 0.8", "uniform 20%", "full", "cue 0.8", "cue 20%"]


@pytest.mark.parametrize("command", [["profile", "nano"], ["eval", "jsonl", "--data", "nowhere"]])
def test_paper_does_not_mind_the_environment(command, monkeypatch, capfd):
    for name, value in {"KEEP": "20%", "RATE": "0.4", "METHOD": "uniform"}.items():
        monkeypatch.setenv(f"SPEECHPRUNE_{name}", value)
    main([*command, "--paper"])
    assert "--paper" not in capfd.readouterr().err
    assert main([*command, "--paper", "--keep", "10%"]) == 2
    assert "--paper says methods and rates" in capfd.readouterr().err


def test_a_setting_beside_paper_is_checked(capfd):
    assert main(["profile", "nano", "--paper", "--set", "nonsense=1"]) == 2
    assert "--set nonsense: no method of this run" in capfd.readouterr().err


def test_paper_s_rates_are_those_it_has_for_the_model(tmp_path):
    """DiVA is pruned at 0.15 there, Qwen2-Audio at four rates."""
    preset = tmp_path / "other.yaml"
    preset.write_text("name: other\nsource: a/b\ndefaults: {paper_rates: [0.15]}\n")
    plan = Plan.resolve("toy", model=str(preset), paper=True)
    assert (plan.methods, plan.rates) == (Plan.resolve("toy", paper=True).methods, (0.15,))
    specs = GridOptions(paper=True).specs(Defaults(paper_rates=(0.15,)))
    assert [spec.label for spec in specs] == ["speechprune 0", "speechprune 0.15"]


def test_paper_says_methods_and_rates():
    specs = GridOptions(paper=True).specs(Defaults())
    assert [spec.label for spec in specs] == [f"speechprune {r}" for r in (0, 0.2, 0.4, 0.6, 0.8)]
    plan = Plan.resolve("toy", paper=True)
    assert plan.methods == ("random", "crop", "phase1", "phase2", "speechprune")
    assert (plan.rates, plan.keeps) == ((0.2, 0.4, 0.6, 0.8), ())
    for ask in (
        lambda: GridOptions(paper=True, keep=["20%"]).specs(Defaults()),
        lambda: Plan.resolve("toy", paper=True, keep=["20%"]),
    ):
        with pytest.raises(UsageError, match="--paper says methods and rates"):
            ask()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda: MethodSpec.parse("magic"), "unknown pruning method 'magic'"),
        (lambda: MethodSpec.parse("cue:reach"), "write key=value"),
        (lambda: MethodSpec.parse("cue:colour=red"), "unknown key 'colour'"),
        (lambda: MethodSpec.parse("cue:reach=7"), "reach is 7"),
        (lambda: MethodSpec("uniform").told({"heat": 1}), "unknown key 'heat': there is none"),
        (lambda: grid(["cue"], [RATE], {"heat": 1}), "--set heat: no method"),
        (lambda: amount_of(0.2, "20%"), "not both"),
        (lambda: pruning_size(10, 5, 0, RATE), "budget is 0"),
        (lambda: parse_settings(["=1"]), "write key=value"),
    ],
)
def test_mistakes(broken, message):
    with pytest.raises(UsageError, match=message):
        broken()
