"""The contract of the seam: what must hold for every family, one row each, the toy's too."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from conftest import make_audio
from tiny_families import TINY

from speechprune_cli import load, load_audio
from speechprune_cli.backends import FAMILIES, load_backend
from speechprune_cli.backends.decoding import DecoderState
from speechprune_cli.config import resolve_model
from speechprune_cli.device import place
from speechprune_cli.errors import ModelError, UsageError
from speechprune_cli.flow import ENCODER_ATTENTION, TRANSCRIPT, Selection
from speechprune_cli.methods import Amount, pruning_size
from speechprune_cli.profiler.architecture import shape_of
from speechprune_cli.pruners import PRUNERS, get_pruner

FOLDERS = {
    "qwen2_audio": "tiny_model_folder",
    "voxtral": "tiny_voxtral_folder",
    "audio_flamingo3": "tiny_flamingo_folder",
    "music_flamingo": "tiny_music_flamingo_folder",
    "glm_asr": "tiny_glm_asr_folder",
    "qwen2_5_omni": "tiny_qwen2_5_omni_folder",
    "qwen3_omni": "tiny_qwen3_omni_folder",
    "qwen3_asr": "tiny_qwen3_asr_folder",
    "granite_speech": "tiny_granite_folder",
    "granite_speech_plus": "tiny_granite_plus_folder",
    "phi4_multimodal": "tiny_phi4_folder",
    "gemma4": "tiny_gemma4_folder",
    "gemma3n": "tiny_gemma3n_folder",
    "transcript": "tiny_transcriber",
    "diva": "tiny_diva_folder",
    "ultravox": "tiny_ultravox_folder",
    "toy": "toy_folder",
}
QUICK = {"qwen2_audio", "voxtral", "transcript", "toy"}  # one of each make
NOMINAL = {"diva", "toy"}  # whose tokens' times are a guess
LENGTHS = (0.4, 3, 29.99, 30, 30.01, 71.3)
QUESTION, OPTIONS = "When is the report due?", ("on Friday", "never", "in the red house")


def row(name):
    return name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=map(row, FOLDERS))
def folder(request):
    return request.getfixturevalue(FOLDERS[request.param])


@pytest.fixture(scope="module")
def session(folder, imagining):
    return load(str(folder), device="cpu", cache=False)


@pytest.fixture(scope="module")
def lm(session):
    return session.model


def everything(tokens):
    total = len(tokens)
    return Selection(torch.arange(total), torch.zeros(total), "test", "", total, 0.0)


def prompt(lm, seconds, question=QUESTION, **options):
    tokens = lm.encode(make_audio(seconds))
    return lm.build_prompt(tokens, everything(tokens), question, **options)


def test_without_its_decoder_a_model_encodes_and_prunes_the_same(folder, lm):
    preset = resolve_model(str(folder))
    if not lm.served:
        with pytest.raises(UsageError, match="takes no --server"):
            load_backend(preset, device="cpu", decoder=False)
        return
    bare = load_backend(preset, device="cpu", decoder=False)
    audio = make_audio(3)
    assert torch.equal(bare.encode(audio).embeds, lm.encode(audio).embeds)
    assert torch.equal(bare.embed_text(QUESTION), lm.embed_text(QUESTION))
    assert torch.equal(bare.first_layer().q_weight, lm.first_layer().q_weight)
    assert torch.equal(bare.first_layer().k_weight, lm.first_layer().k_weight)
    assert bare.prompt_ids(QUESTION, OPTIONS) == lm.prompt_ids(QUESTION, OPTIONS)
    assert (bare.shape, bare.parameters) == (lm.shape, lm.parameters)


def test_every_family_has_a_row():
    assert {*FAMILIES.modules, "toy"} == set(FOLDERS)
    assert set(FAMILIES.modules) - {"transcript"} == set(TINY), (
        "which are held against stock models"
    )


def test_a_family_is_found_by_what_the_folder_says_it_is(lm, request):
    assert FOLDERS[lm.family]
    assert isinstance(lm, FAMILIES.part(lm.family))


@pytest.mark.parametrize("seconds", LENGTHS)
def test_what_is_counted_is_what_is_encoded(lm, seconds):
    tokens, shape = lm.encode(make_audio(seconds)), lm.shape
    assert tokens.embeds.shape == (len(tokens), lm.hidden_size)
    assert tokens.seconds == pytest.approx(seconds, abs=1e-4)
    if shape.encoder.exact:
        assert len(tokens) == shape.audio_tokens(seconds)
        assert tokens.per_second == pytest.approx(shape.encoder.per_second)
    else:
        assert tokens.per_second == pytest.approx(len(tokens) / seconds, rel=1e-3)
    assert shape.encoder.flops(seconds, lm.hidden_size) > 0
    assert shape.encoder.bytes(seconds, 4) > 0


@pytest.mark.parametrize("seconds", LENGTHS)
def test_times_lie_within_the_recording_and_grow(lm, seconds):
    tokens = lm.encode(make_audio(seconds))
    start, end = tokens.times.T
    assert tokens.times.dtype == torch.float32
    assert start.min() >= 0
    assert end.max() <= seconds + 1e-4
    sounding = int((end > start).sum())
    assert (end[:sounding] > start[:sounding]).all(), "tokens without length stand at the end alone"
    assert (start[:sounding].diff() >= 0).all()
    assert len(tokens.loudness) == len(tokens)


def test_nominal_times_are_marked(lm):
    assert lm.encode(make_audio(3)).nominal_times == (lm.family in NOMINAL)


def test_what_a_family_provides_its_tokens_carry(lm):
    tokens = lm.encode(make_audio(3))
    assert (tokens.attention is not None) == (ENCODER_ATTENTION in lm.provides)
    assert (tokens.transcript is not None) == (TRANSCRIPT in lm.provides)
    if tokens.attention is not None:
        assert tokens.attention.shape == (len(tokens),)


def test_windows_side_by_side_give_the_tokens_of_one_by_one(lm):
    audio = make_audio(71.3)
    single, together = (lm.encode(audio, batch_size=size).embeds for size in (1, 4))
    torch.testing.assert_close(single, together, rtol=1e-5, atol=1e-6)


def test_progress_is_told_to_its_end(lm):
    told = []
    lm.encode(make_audio(71.3), on_progress=lambda *each: told.append(each))
    assert told
    assert told[-1][0] == told[-1][1]


def test_prompts_are_ids_around_the_audio(lm):
    ids = lm.prompt_ids(QUESTION, OPTIONS)
    told = lm.text_of([*ids.before, *ids.after])
    assert QUESTION in told
    assert all(option in told for option in OPTIONS)
    assert QUESTION in ids.text
    tokens = lm.encode(make_audio(3))
    whole = lm.build_prompt(tokens, everything(tokens), QUESTION, choices=OPTIONS)
    before, after = lm.embed(ids.before), lm.embed(ids.after)
    assert torch.equal(whole.inputs_embeds[0, : len(before)], before)
    assert torch.equal(whole.inputs_embeds[0, -len(after) :], after)
    assert whole.audio_tokens == len(tokens)
    assert whole.text_tokens == len(before) + len(after)


@pytest.mark.parametrize("position", ["repacked", "original"])
def test_positions_have_the_rows_of_the_decoder(lm, position):
    tokens = lm.encode(make_audio(3))
    kept = torch.arange(0, len(tokens), 3)
    selection = Selection(kept, torch.zeros(len(tokens)), "test", "", len(tokens), 0.0)
    pruned = lm.build_prompt(tokens, selection, QUESTION, position=position)
    length = pruned.inputs_embeds.shape[1]
    rows = pruned.position_ids.reshape(-1, length)
    assert pruned.position_ids.shape[-2:] == (1, length)
    assert len(rows) == lm.position_rows
    assert (rows == rows[0]).all()
    before = len(lm.prompt_ids(QUESTION).before)
    expected = kept if position == "original" else torch.arange(len(kept))
    assert torch.equal(rows[0, before : before + len(kept)], before + expected)
    lm.generate(pruned, max_new_tokens=2)


@torch.no_grad()
def test_reading_on_is_reading_at_once(lm):
    """The KV cache: a prompt in two pieces gives the hidden states of the whole."""
    asked = prompt(lm, 3)
    embeds, positions = asked.inputs_embeds, asked.position_ids
    whole = DecoderState(lm, lm.new_cache())
    pieces = DecoderState(lm, lm.new_cache())
    at = embeds.shape[1] // 2
    expected = whole.read(embeds, positions)
    found = [
        pieces.read(embeds[:, part], positions[..., part]) for part in (slice(at), slice(at, None))
    ]
    torch.testing.assert_close(torch.cat(found, 1), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_shared_prefix_is_read_once_for_many_questions(lm):
    """The recording, then copies of what was read, each with a question of its own."""
    questions = (QUESTION, "Who said it was due?")
    if len({tuple(lm.prompt_ids(question).before) for question in questions}) > 1:
        pytest.skip("what is asked stands before the recording")
    prompts = [prompt(lm, 3, question) for question in questions]
    shared = prompts[0].inputs_embeds.shape[1] - len(lm.prompt_ids(QUESTION).after)
    state = DecoderState(lm, lm.new_cache())
    state.read(prompts[0].inputs_embeds[:, :shared], prompts[0].position_ids[..., :shared])
    state.take([0, 0])
    ids = [list(lm.prompt_ids(question).after) for question in questions]
    shorter = min(map(len, ids))
    hidden = state.read_on(torch.tensor([each[:shorter] for each in ids]))
    for row in range(len(questions)):
        alone = DecoderState(lm, lm.new_cache())
        length = shared + shorter
        whole = alone.read(
            prompts[row].inputs_embeds[:, :length], prompts[row].position_ids[..., :length]
        )
        torch.testing.assert_close(hidden[row], whole[0, shared:], rtol=1e-4, atol=1e-5)


def test_prompts_side_by_side_are_answered_as_one_by_one(lm):
    prompts = [prompt(lm, seconds) for seconds in (3, 0.4, 1.2)]
    single = [lm.generate(each, max_new_tokens=8) for each in prompts]
    together = lm.generate_batch(prompts, max_new_tokens=8)
    assert [each.text for each in single] == [each.text for each in together]
    alone = [lm.choose(each, OPTIONS).probabilities for each in prompts]
    batched = [each.probabilities for each in lm.choose_batch(prompts, [OPTIONS] * 3)]
    for one, other in zip(alone, batched, strict=True):
        assert one == pytest.approx(other, abs=1e-5)


def test_choosing_is_the_likelihood_of_what_would_be_written(lm):
    """An option's score, token by token, from prompts that are read anew."""
    asked = prompt(lm, 3)
    probabilities = lm.choose(asked, OPTIONS).probabilities
    scores = []
    for option in OPTIONS:
        ids, likelihoods = lm.text_ids(option), []
        for count in range(len(ids)):
            longer = torch.cat([asked.inputs_embeds[0], lm.embed(ids[:count])]).unsqueeze(0)
            positions = lm.position_ids(torch.arange(longer.shape[1]))
            told = type(asked)(longer, positions, "", asked.audio_tokens, 0)
            likelihoods.append(lm.prefill(told)[1].float().log_softmax(-1)[ids[count]])
        scores.append(torch.stack(likelihoods).mean())
    expected = torch.stack(scores).softmax(0).tolist()
    assert list(probabilities.values()) == pytest.approx(expected, abs=1e-4)


def test_answers_stream(lm):
    pieces = []
    answer = lm.generate(prompt(lm, 3), max_new_tokens=8, on_text=pieces.append)
    assert "".join(pieces).strip() == answer.text


def test_the_first_layer_fits_the_shape(lm):
    layer, decoder = lm.first_layer(), lm.shape.decoder
    assert layer.q_weight.shape == (layer.heads * decoder.head_dim, decoder.hidden_size)
    assert layer.k_weight.shape == (layer.kv_heads * decoder.head_dim, decoder.hidden_size)
    assert lm.vocabulary_mean.shape == (decoder.hidden_size,)
    assert lm.embed_text(QUESTION).shape == (len(lm.text_ids(QUESTION)), decoder.hidden_size)


@pytest.mark.parametrize("method", PRUNERS.names)
@pytest.mark.usefixtures("tiny_minilm")
def test_every_method_answers_or_is_refused_in_a_line(session, method):
    tokens, family = session.encode(make_audio(34.0)), type(session.model)
    missing = PRUNERS.part(method).requires - family.provides
    if not missing:
        selection = session.prune(tokens, QUESTION, method=method, keep="20%")
        assert selection.method == method
        assert session.answer(tokens, selection, QUESTION, max_new_tokens=2).new_tokens <= 2
    else:
        with pytest.raises(UsageError, match=f"{method} needs {min(missing)}, which") as error:
            session.prune(tokens, QUESTION, method=method)
        assert "\n" not in str(error.value)


@pytest.mark.usefixtures("tiny_minilm")
def test_what_is_rehearsed_can_be_pruned(session, lm):
    """`profile` times choosing, whatever is said."""
    tokens = lm.rehearse(make_audio(34.0))
    size = pruning_size(len(tokens), lm.input_tokens, None, Amount(tokens=20))
    for method in (name for name in PRUNERS.names if PRUNERS.part(name).requires <= lm.provides):
        kept = session.prune(tokens, QUESTION, method=method, keep=20).kept
        assert len(kept) == get_pruner(method).retained(size), method


def test_the_shape_is_told_without_weights(lm, folder):
    preset = resolve_model(str(folder))
    assert shape_of(preset) == lm.shape
    assert lm.shape.parameters == lm.parameters


def test_random_weights_have_the_shape(lm):
    made = type(lm).random(lm.preset, lm.shape, place("cpu"))
    tokens = made.encode(make_audio(3))
    assert tokens.embeds.shape == (lm.shape.audio_tokens(3), lm.hidden_size)
    assert made.embed_text("anything").shape[1] == lm.hidden_size


def test_a_question_about_nothing_is_refused(lm):
    with pytest.raises(UsageError, match="empty"):
        lm.embed_text(" ")


@pytest.mark.parametrize("name", FAMILIES.modules)
def test_importing_a_family_imports_nothing_heavy(name):
    code = (
        "import sys; from speechprune_cli.backends import FAMILIES; "
        f"FAMILIES.part({name!r}).encoder_shape; "
        "sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    from speechprune_cli.audio import write_audio

    path = tmp_path_factory.mktemp("sound") / "tones.wav"
    write_audio(path, make_audio(34.0).samples, 16_000)
    return str(path)


class TestCommandLine:
    """Every family goes through every command."""

    def run(self, capsys, *arguments):
        from speechprune_cli.main import main

        assert main([str(each) for each in arguments]) == 0
        return capsys.readouterr().out

    def test_ask(self, capsys, folder, recording, lm):
        found = json.loads(
            self.run(capsys, "ask", recording, QUESTION, "-m", folder, "--keep", "20%", "--json")
        )
        pruning, total = found["pruning"], len(lm.encode(load_audio(recording)))
        assert pruning["tokens"] == total
        assert pruning["kept"] == round(0.2 * total)
        assert pruning["budget"] == min(lm.input_tokens, total)
        assert bool(found["passages"]) == (lm.family == "transcript")

    def test_prune(self, capsys, folder, recording):
        spans = self.run(capsys, "prune", recording, QUESTION, "-m", folder, "--keep", "10")
        assert all(float(line.split("\t")[1]) <= 34 for line in spans.splitlines())

    def test_eval(self, capsys, folder, tmp_path, lm):
        from bench_data import write_benchmark

        index = write_benchmark(tmp_path, "short", "long")
        run = tmp_path / "run"
        self.run(
            capsys, "eval", "jsonl", "--data", index, "-m", folder, "--method", "uniform",
            "--keep", "50%", "--output", run,
        )  # fmt: skip
        (results,) = json.loads((run / "results.json").read_text())
        nominal = lm.family in NOMINAL
        assert ("tokens are nominal: key recall is a guess" in results["caption"]) is nominal
        (row,) = [row for row in results["rows"] if row["method"] == "uniform"]
        assert (row["share_asked"], row["tokens_asked"], row["rate"]) == (0.5, None, None)
        assert row["nominal_times"] is nominal
        assert row["kept"] <= row["budget"] <= row["total"]

    @pytest.mark.parametrize("measured", [[], ["--measure", "--repeats", "1"]])
    def test_profile(self, capsys, folder, measured):
        lines = self.run(capsys, "profile", folder, "--seconds", "34", "--json", *measured)
        tables = [json.loads(line) for line in lines.splitlines()]
        assert all(table["rows"] for table in tables)


def test_an_encoder_that_gives_other_tokens_than_its_shape_says_is_caught(
    tiny_model_folder, monkeypatch
):
    model = load(str(tiny_model_folder), device="cpu", cache=False).model
    honest = type(model).encode_windows
    for change in (lambda tokens: tokens[:-5], lambda tokens: tokens.repeat(2, 1)):
        monkeypatch.setattr(
            type(model),
            "encode_windows",
            lambda self, windows, change=change: replace_tokens(honest(self, windows), change),
        )
        with pytest.raises(ModelError, match=r"encoded into \d+ tokens, 250 are expected"):
            model.encode(make_audio(10))


def replace_tokens(found, change):
    return found._replace(tokens=change(found.tokens))
