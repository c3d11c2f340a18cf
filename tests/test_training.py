"""What teaches nano: labels, losses, resuming, and the folder it is exported to."""

from dataclasses import replace
from random import Random

import numpy as np
import pytest
import torch
from transformers import (
    DynamicCache,
    Qwen2AudioEncoderConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
)
from transformers.models.qwen2_audio.modeling_qwen2_audio import Qwen2AudioEncoder

from speechprune_cli.builder.grammar import draw_fact
from speechprune_cli.errors import UsageError
from speechprune_cli.training import align, looking
from speechprune_cli.training.__main__ import main
from speechprune_cli.training.export import export, load_trainable
from speechprune_cli.training.features import Piece, load_pieces, save_pieces
from speechprune_cli.training.learner import Learner
from speechprune_cli.training.packing import AUDIO, END, IM_END, PackedRecording, pack
from speechprune_cli.training.tasks import (
    QuestionAnswer,
    ask_words,
    invent,
    quote_fact,
    quote_sentence,
)
from speechprune_cli.training.text import BLANK, SPECIALS, normalise, train_tokenizer
from speechprune_cli.training.train import Stage, Trainer, train

WIDTH = 16
LAMP = 300
TEXTS = ("we need nine chairs", "the lamp is dark green", "please call maria about the boat")


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS * 50)


@pytest.fixture
def learner(tokenizer):
    torch.manual_seed(0)
    return Learner(tokenizer, encoder_width=WIDTH).eval()


def spell(text: str) -> torch.Tensor:
    """Features that name their letters: two audio tokens a letter, silence around."""
    letters = torch.tensor([align.LETTERS.index(letter) + 1 for letter in text])
    states = torch.nn.functional.pad(letters.repeat_interleave(2), (8, 8))
    return torch.nn.functional.one_hot(states, len(align.LETTERS) + 1).half()


@pytest.fixture
def letters():
    """A perfect classifier of the letters that `spell` writes."""
    linear = torch.nn.Linear(len(align.LETTERS) + 1, len(align.LETTERS) + 1)
    linear.weight.data = 20 * torch.eye(len(align.LETTERS) + 1)
    linear.bias.data.zero_()
    return linear


def test_text_is_normalised_to_what_is_spoken():
    assert normalise("Sold 300, in 1984!") == "sold three hundred in nineteen eighty four"
    assert normalise("It’s 12,500 — really?") == "it's twelve thousand five hundred really"


def test_the_tokenizer_ignores_case_and_punctuation_and_reads_anything(tokenizer):
    plain = tokenizer.encode("the lamp is dark green").ids
    assert tokenizer.encode("The lamp is DARK, green?").ids == plain
    assert tokenizer.decode(tokenizer.encode("größe 漢字").ids).strip() == "größe 漢字"
    assert [tokenizer.token_to_id(special) for special in SPECIALS] == list(range(len(SPECIALS)))


def test_labels_name_the_word_that_is_being_said(tokenizer, letters):
    for text in TEXTS:
        labels = align.label(Piece(spell(text), text, "v", None), letters, tokenizer)
        assert len(labels) == len(spell(text))
        said = [token for token in labels.unique_consecutive().tolist() if token != BLANK]
        assert said == tokenizer.encode(text).ids
        assert labels[0] == labels[-1] == BLANK


def test_letters_are_learned_from_transcripts_alone(tokenizer):
    mixing = torch.randn(len(align.LETTERS) + 1, 40, generator=torch.Generator().manual_seed(1))
    pieces = [Piece((spell(t).float() @ mixing).half(), t, "v", None) for t in TEXTS * 8]
    learned = align.train_letters(pieces, steps=60)
    labels = align.label(pieces[0], learned, tokenizer)
    said = [token for token in labels.unique_consecutive().tolist() if token != BLANK]
    assert said == tokenizer.encode(TEXTS[0]).ids


def recording(heard: torch.Tensor, asked: list[QuestionAnswer]) -> PackedRecording:
    """Two sentences in which the lamp is heard all the time."""
    sentences = heard.split([5, len(heard) - 5])
    return PackedRecording(sentences, [torch.full((len(part),), LAMP) for part in sentences], asked)


def test_packed_questions_cost_what_they_cost_alone(learner):
    heard = [torch.randn(30, 256), torch.randn(12, 256)]
    asked = [
        [QuestionAnswer("what is it", "nine chairs"), QuestionAnswer("who", "maria")],
        [QuestionAnswer("where", "the lamp")],
    ]
    recordings = [recording(h, qa) for h, qa in zip(heard, asked, strict=True)]
    together = learner.answer_loss(recordings)
    alone = [
        learner.batch_loss([h], [qa]).value
        for h, questions in zip(heard, asked, strict=True)
        for qa in questions
    ]
    torch.testing.assert_close(together.value, sum(alone) / len(alone))
    assert together.asked == 3


def test_looking_is_read_off_the_attention_of_the_model_itself(learner):
    """Heads of `looking.HEADS`: how much of an answer's attention reaches its sentence and word."""
    said = [torch.tensor([LAMP, LAMP, 301]), torch.tensor([302, LAMP, 301, 303])]
    qa = QuestionAnswer("what is it", "nine chairs", sentence=1)
    answer = [*learner.ids(qa.answer), END]
    said[1][2] = answer[0]
    heard = PackedRecording([torch.randn(3, 256), torch.randn(4, 256)], said, [qa])
    loss = learner.answer_loss([heard]).looking

    row = pack([heard], learner.ids)
    embeds = learner.embed(row.ids.tolist())
    embeds[row.ids == AUDIO] = torch.cat(list(heard.sentences))
    learner.lm.set_attn_implementation("eager")
    attention = learner.lm(inputs_embeds=embeds[None], output_attentions=True).attentions
    due = range(len(row.ids) - len(answer), len(row.ids))
    by_layer = []
    for layer, heads in looking.HEADS.items():
        shares = attention[layer][0, list(heads)]
        sentence = -shares[:, due, 4:8].sum(-1).log().mean()
        word = -shares[:, due[0], 6].log().mean()
        by_layer.append((sentence + word) / 2)
    torch.testing.assert_close(loss, torch.stack(by_layer).mean())


def test_a_batch_costs_what_its_rows_cost(learner):
    heard = [torch.randn(12, 256), torch.randn(20, 256)]
    asked = [QuestionAnswer("what is it", "nine chairs"), QuestionAnswer("who", "maria")]
    rows = [learner.batch_loss([h], [qa]).value for h, qa in zip(heard, asked, strict=True)]
    torch.testing.assert_close(learner.batch_loss(heard, asked).value, sum(rows) / len(rows))


@pytest.mark.parametrize("seed", range(20))
def test_questions_about_words_have_their_answer_in_the_sentence(seed):
    text = "well the old lighthouse on the northern cape was painted red and white last summer"
    qa = ask_words(text, Random(seed))
    assert f" {qa.answer} " in f" {text} "


def pieces_for(tokenizer, letters) -> list[Piece]:
    rng = np.random.default_rng(0)
    made = []
    for text in TEXTS * 8:
        labels = align.label(Piece(spell(text), text, "v", None), letters, tokenizer)
        features = torch.from_numpy(rng.standard_normal((len(labels), WIDTH))).half()
        made.append(Piece(features, text, "v", None, labels))
    return made


@pytest.mark.slow
def test_training_resumed_after_a_stop_equals_training_in_one_go(tmp_path, tokenizer, letters):
    stages = (Stage("a", 3, 1e-3, ("align", "transcribe")), Stage("b", 2, 1e-3, ("copy",)))
    pieces = pieces_for(tokenizer, letters)
    results = []
    for name, stops in (("once", [1e9]), ("often", [0.0, 0.0, 1e9])):
        folder = tmp_path / name
        folder.mkdir()
        for until in stops:
            torch.manual_seed(0)
            learner = Learner(tokenizer, encoder_width=WIDTH)
            complete = train(Trainer(learner, pieces, pieces), folder, stages, until)
        assert complete
        results.append(learner.projector.weight.detach().clone())
    torch.testing.assert_close(*results)


def test_a_checkpoint_of_a_stage_that_is_left_out_is_not_gone_on_with(tmp_path, tokenizer, letters):
    stages = (Stage("a", 3, 1e-3, ("align",)), Stage("b", 2, 1e-3, ("copy",)))
    pieces = pieces_for(tokenizer, letters)
    trainer = Trainer(Learner(tokenizer, encoder_width=WIDTH), pieces, pieces)
    assert not train(trainer, tmp_path, stages, 0.0)
    with pytest.raises(UsageError, match="left out: a"):
        train(trainer, tmp_path, stages[1:])


def test_pieces_survive_the_disk(tmp_path, tokenizer, letters):
    pieces = pieces_for(tokenizer, letters)[:3]
    save_pieces(tmp_path / "p.safetensors", pieces)
    for before, after in zip(pieces, load_pieces(tmp_path / "p.safetensors"), strict=True):
        assert torch.equal(before.features, after.features)
        assert replace(before, features=None, labels=None) == replace(
            after, features=None, labels=None
        )


def test_the_exported_folder_is_a_stock_model_that_says_what_the_learner_says(tmp_path, tokenizer):
    torch.manual_seed(0)
    learner = Learner(tokenizer, encoder_width=32).eval().to(torch.float16).float()
    tower = Qwen2AudioEncoder(
        Qwen2AudioEncoderConfig(
            num_mel_bins=80,
            encoder_layers=1,
            encoder_attention_heads=2,
            encoder_ffn_dim=32,
            d_model=32,
        )
    ).eval()
    export(learner, tower, tokenizer, tmp_path)
    model = Qwen2AudioForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32)
    processor = Qwen2AudioProcessor.from_pretrained(tmp_path)
    audio = 0.1 * np.random.default_rng(0).standard_normal(16_000 * 3).astype(np.float32)
    content = [{"type": "audio", "audio_url": ""}, {"type": "text", "text": "Who is it?"}]
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    inputs = processor(text=prompt, audio=[audio], sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        out = model.generate(**inputs, max_new_tokens=8)[0, inputs["input_ids"].shape[1] :]
        mel, mask = inputs["input_features"], inputs["feature_attention_mask"]
        features = stock_features(model, mel, mask)
        said = run_question(learner, features, "Who is it?", limit=8)
    assert processor.tokenizer.decode(out, skip_special_tokens=True).strip() == said.strip()
    for again, before in zip(
        load_trainable(tmp_path).parameters(), learner.parameters(), strict=True
    ):
        torch.testing.assert_close(again, before)


def run_question(learner: Learner, features: torch.Tensor, question: str, limit: int = 40) -> str:
    """Greedy answer of the trainable part alone."""
    prefix = learner.prefix(learner.projector(features.float()))
    embeds = torch.cat([prefix, learner.embed([*learner.ids(question), IM_END])[None]], dim=1)
    cache, out = DynamicCache(config=learner.lm.config), list[int]()
    while len(out) < limit:
        hidden = learner.lm.model(inputs_embeds=embeds, cache=cache).last_hidden_state
        token = int(learner.lm.lm_head(hidden[0, -1]).argmax())
        if token == END:
            break
        out.append(token)
        embeds = learner.embed([token])[None]
    return learner.tokenizer.decode(out)


def stock_features(model, mel, mask):
    """Valid outputs of the tower `[N, width]`, before the projector."""
    captured = []
    hook = model.model.multi_modal_projector.register_forward_pre_hook(
        lambda module, args: captured.append(args[0])
    )
    _, tokens = model.model.audio_tower._get_feat_extract_output_lengths(mask.sum(-1))
    text = torch.tensor([[3] + [4] * int(tokens) + [5]])
    model(input_ids=text, input_features=mel, feature_attention_mask=mask)
    hook.remove()
    return captured[0][0, : int(tokens)]


def test_quotes_are_whole_sentences_that_hold_the_answer():
    rng = Random(0)
    for _ in range(50):
        fact = draw_fact(rng)
        quoted = quote_fact(fact, [fact.kind], rng)
        assert quoted.answer == normalise(fact.statement)
        assert normalise(fact.value) in quoted.answer
    text = "the old lamp in the hall is dark green"
    asked = quote_sentence(text, rng)
    assert asked.answer == text
    assert any(" ".join(text.split()[i : i + 3]) in asked.question for i in range(7))
    assert quote_sentence("too short", rng) is None


def test_an_invented_value_takes_the_place_of_the_real_one():
    rng = Random(1)
    for _ in range(50):
        fact = draw_fact(rng)
        other = invent(fact, ["quick brown foxes jump over lazy dogs"], rng)
        assert other.value in "quick brown foxes jump over lazy dogs"
        assert f" {other.value} " in f" {other.statement} "
        assert (other.kind, other.subject) == (fact.kind, fact.subject)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["train", "--work", "nowhere"], "holds no stated-*.safetensors: encode first"),
        (["train", "--work", "nowhere", "--first-stage", "sing"], "--first-stage sing: one of "),
        (["encode", "nowhere.csv", "--work", "."], "nowhere.csv"),
        (["dance"], "dance"),
    ],
)
def test_mistakes_are_one_line(arguments, complaint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("error: ")
    assert complaint in err


def test_a_plain_installation_is_told_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr("speechprune_cli.extras.find_spec", lambda name: None)
    assert main([]) == 2
    needs = "python -m speechprune_cli.training needs num2words"
    assert capsys.readouterr().err == f"error: {needs}: pip install 'speechprune[training]'\n"
