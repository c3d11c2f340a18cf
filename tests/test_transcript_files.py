"""Transcript files: what others write is read, what is written is read again, the rest is told."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechprune_cli.errors import UsageError
from speechprune_cli.flow import Sentence, Transcript, Word
from speechprune_cli.transcripts.files import read_transcript, write_transcript
from speechprune_cli.transcripts.transcript import sentences_of

SRT = """1
00:00:01,000 --> 00:00:03,000
Good morning, everybody. We begin

2
00:00:03,200 --> 00:00:05,000
<i>with the budget.</i>
- Is it late?
"""
VTT = """WEBVTT - a title

STYLE
::cue { color: red }

NOTE what follows
is a comment

intro
00:01.000 --> 00:02.000 align:start position:0%
<v Anna Bell><c.loud>Fish &amp; chips</c> cost

01:00:02.500 --> 01:00:04.500
12 <01:00:03.500>pounds &lt;or more&gt;.
"""
ROLLING = """WEBVTT
Kind: captions

00:00:00.000 --> 00:00:02.000
 
okay<00:00:00.500><c> so</c><00:00:01.500><c> today</c>

00:00:02.000 --> 00:00:02.010
okay so today
 

00:00:02.010 --> 00:00:04.000
okay so today
we<00:00:02.500><c> talk</c>

00:00:04.000 --> 00:00:04.010
we talk
 

00:00:04.010 --> 00:00:06.000
we talk
about<00:00:05.000><c> bees</c>
"""  # noqa: W293 - as YouTube writes it


def _texts(transcript: Transcript) -> list[str]:
    return [sentence.text for sentence in transcript.sentences]


def _read(folder: Path, name: str, content: str | bytes) -> Transcript:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_transcript(path)


def _transcript(*texts: str) -> Transcript:
    """A word a second."""
    words = [word for text in texts for word in text.split()]
    timed = (Word(f" {word}", at + 0.125, at + 0.875) for at, word in enumerate(words))
    return Transcript(sentences_of(timed), "en", "a test", ("a note",))


def test_a_sentence_goes_on_in_the_next_cue(tmp_path):
    found = _read(tmp_path, "a.srt", SRT)
    assert _texts(found) == [
        "Good morning, everybody.",
        "We begin with the budget.",
        "Is it late?",
    ]
    assert (found.sentences[0].start, found.sentences[-1].end) == (1.0, 5.0)
    assert found.notes == ()


def test_words_share_a_cue_by_their_characters(tmp_path):
    (sentence,) = _read(
        tmp_path, "a.srt", "1\n00:00:10,000 --> 00:00:20,000\naa bbb ccccc\n"
    ).sentences
    assert [(word.text, word.start, word.end) for word in sentence.words] == [
        (" aa", 10.0, 12.0),
        (" bbb", 12.0, 15.0),
        (" ccccc", 15.0, 20.0),
    ]


@pytest.mark.parametrize(
    "change", [lambda text: text.replace("\n", "\r\n"), lambda text: f"\ufeff{text}"]
)
@pytest.mark.parametrize(("name", "text"), [("a.srt", SRT), ("a.vtt", VTT), ("a.vtt", ROLLING)])
def test_line_ends_and_byte_order_mark_change_nothing(tmp_path, name, text, change):
    assert _read(tmp_path, name, change(text)) == _read(tmp_path, name, text)


def test_vtt_of_all_kinds(tmp_path):
    found = _read(tmp_path, "a.vtt", VTT)
    assert _texts(found) == ["Fish & chips cost", "12 pounds <or more>."]
    words = {word.text.strip(): word.start for word in found.words}
    assert words["Fish"] == 1.0
    assert words["12"] == 3602.5
    assert words["pounds"] == 3603.5  # its own time, inside the cue
    assert found.notes == ("the speakers' names in its tags are not read",)


def test_rolling_captions_are_taken_once(tmp_path):
    found = _read(tmp_path, "a.vtt", ROLLING)
    assert _texts(found) == ["okay so today we talk about bees"]
    assert {word.text: word.start for word in found.words}[" today"] == 1.5
    assert any("rolling" in note for note in found.notes)


def test_what_is_really_said_twice_stays(tmp_path):
    cues = ["No.", "No.", "I said no.", "Why?", "No."]
    text = "\n".join(
        f"{n}\n00:00:0{n},000 --> 00:00:0{n},900\n{cue}\n" for n, cue in enumerate(cues)
    )
    assert _texts(_read(tmp_path, "a.srt", text)) == cues


def test_cues_without_a_line_between_them(tmp_path):
    text = "1\n00:00:01,000 --> 00:00:02,000\nOne.\n2\n00:00:02,000 --> 00:00:03,000\nTwo.\n"
    assert _texts(_read(tmp_path, "a.srt", text)) == ["One.", "Two."]


def test_two_people_at_once_stay_in_order(tmp_path):
    text = "00:01,000 --> 00:09,000\nOne two three.\n\n00:02,000 --> 00:04,000\nFour.\n"
    words = list(_read(tmp_path, "a.srt", text).words)
    assert [word.text for word in words] == [" One", " two", " three.", " Four."]
    assert all(a.end <= b.start for a, b in pairwise(words))


def test_windows_1252_is_said(tmp_path):
    text = SRT.replace("budget", "café’s budget")
    found = _read(tmp_path, "a.srt", text.encode("cp1252"))
    assert _texts(found) == _texts(_read(tmp_path, "b.srt", text))
    assert "Windows-1252" in found.notes[0]


def test_chinese_and_japanese_have_no_blanks(tmp_path):
    text = "00:01.0 --> 00:03.0\n今天天气\n\n00:03.0 --> 00:05.0\n很好。「我们 GPU 走吧」\n"
    found = _read(tmp_path, "a.srt", text)
    assert _texts(found) == ["今天天气很好。", "「我们 GPU 走吧」"]
    assert len(list(found.words)) > 8


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.docx", "x", ".srt, .vtt, .json"),
        ("a.srt", "", "is empty"),
        ("a.srt", "\n \n", "is empty"),
        ("a.srt", "Dear all,\nsee you.\n", "no cue"),
        ("a.srt", "1\n00:00:01,000 --> 00:00:02,000\n\n", "no cue"),
        ("a.srt", "1\n00:00:03,000 --> 00:00:02,000\nx\n", "line 2: times run backwards"),
        ("a.srt", "1\n00:00:0x,000 --> 00:00:02,000\nx\n", "line 2: no times"),
        ("a.srt", SRT.replace("00:00:03,200", "00:00:00,200"), "line 6 begins before"),
        ("a.srt", SRT.encode("utf-16"), "not UTF-8"),
        ("a.vtt", SRT, "WEBVTT"),
        ("a.vtt", VTT.replace("Anna", "Ann\xe9").encode("cp1252"), "not UTF-8"),
        ("a.json", '{"sentences": [\n}', "line 2: not JSON"),
        ("a.json", "[1, 2]", "segments.0"),
        ("a.json", "[" * 100_000, "nested too deep"),
        ("a.json", '"text"', "neither"),
        ("a.json", '{"text": "Hello."}', "neither"),
        ("a.json", '{"sentences": []}', "the key 'language' is missing"),
        ("a.json", '{"segments": [{"start": 2, "end": 1, "text": "x"}]}', "times run backwards"),
        ("a.json", '{"segments": [{"start": "x", "end": 1, "text": "x"}]}', "segments.0.start"),
        ("a.json", '{"segments": [{"start": NaN, "end": 1, "text": "x"}]}', "or are none"),
    ],
)
def test_what_is_no_transcript_is_one_line(tmp_path, name, content, told):
    with pytest.raises(UsageError) as caught:
        _read(tmp_path, name, content)
    message = str(caught.value)
    assert told in message
    assert str(tmp_path / name) in message
    assert "\n" not in message


def test_a_missing_file_and_a_folder(tmp_path):
    (tmp_path / "folder.srt").mkdir()
    for name in ("missing.srt", "folder.srt"):
        with pytest.raises(UsageError, match=f"{name}: cannot be read"):
            read_transcript(tmp_path / name)


WORDS = [{"word": " Hello", "start": 1, "end": 1.5}, {"word": " there.", "start": 1.5, "end": 2}]
BARE = [{**word, "word": word["word"].strip(), "score": 0.9} for word in WORDS]
SEGMENT = {"id": 0, "start": 1, "end": 2, "text": " Hello there.", "tokens": [1, 2]}


@pytest.mark.parametrize(
    "content",
    [
        {"text": " Hello there.", "segments": [{**SEGMENT, "words": WORDS}], "language": "en"},
        [{**SEGMENT, "words": WORDS}],
        {"segments": [{**SEGMENT, "words": BARE}], "word_segments": BARE, "language": "en"},
    ],
    ids=["openai-whisper", "faster-whisper", "whisperx"],
)
def test_whispers_own_json(tmp_path, content):
    (sentence,) = _read(tmp_path, "a.json", json.dumps(content)).sentences
    assert sentence.words == (Word(" Hello", 1, 1.5), Word(" there.", 1.5, 2))


def test_whisper_json_without_word_times(tmp_path):
    found = _read(tmp_path, "a.json", json.dumps({"segments": [SEGMENT]}))
    assert [word.text for word in found.words] == [" Hello", " there."]
    assert (found.sentences[0].start, found.sentences[0].end) == (1, 2)


def test_numbers_that_whisperx_cannot_place_lie_between_their_neighbours(tmp_path):
    words = [{"word": "In", "start": 1.0, "end": 1.2}, {"word": "2014"}, {"word": "5%"}]
    words.append({"word": "rose.", "start": 2.0, "end": 2.5})
    segment = {"start": 1.0, "end": 2.5, "text": "In 2014 5% rose.", "words": words}
    found = list(_read(tmp_path, "a.json", json.dumps({"segments": [segment]})).words)
    assert [word.text for word in found] == [" In", " 2014", " 5%", " rose."]
    assert (found[1].start, found[2].end) == (1.2, 2.0)


def test_pieces_of_a_language_without_blanks_stay_as_they_are(tmp_path):
    words = [{"word": "今天", "start": 0, "end": 1}, {"word": "很好。", "start": 1, "end": 2}]
    segment = {"start": 0, "end": 2, "text": "今天很好。", "words": words}
    assert _texts(_read(tmp_path, "a.json", json.dumps({"segments": [segment]}))) == ["今天很好。"]


spoken = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=9
)
times = st.lists(st.floats(0, 1e5), min_size=2, max_size=24).map(sorted)


@given(st.lists(spoken, min_size=12, max_size=12), times)
def test_json_round_trips_to_the_last_bit(tmp_path_factory, texts, ticks):
    pairs = zip(texts, ticks[::2], ticks[1::2], strict=False)
    words = [Word(f" {text}", start, end) for text, start, end in pairs]
    given_one = Transcript(sentences_of(words), "de", "a test", ("a note", "ein «Vermerk»"))
    path = tmp_path_factory.mktemp("json") / "a.json"
    write_transcript(path, given_one)
    assert read_transcript(path) == given_one


@pytest.mark.parametrize("name", ["a.srt", "a.vtt"])
def test_subtitles_keep_sentences_and_their_times(tmp_path, name):
    long = " ".join(f"word{n}" for n in range(40)) + "."
    written = _transcript("Fish & <b chips --> cost 3 < 4.", long, "Is it?")
    write_transcript(tmp_path / name, written)
    found = read_transcript(tmp_path / name)
    shown = written.sentences[0].text.replace("-->", "->" if name == "a.srt" else "-->")
    assert _texts(found) == [shown, long, "Is it?"]
    for ours, theirs in zip(written.sentences, found.sentences, strict=True):
        assert (ours.start, ours.end) == (theirs.start, theirs.end)


def test_long_sentences_are_shown_in_parts(tmp_path):
    write_transcript(tmp_path / "a.srt", _transcript(" ".join(["seven"] * 50)))
    lines = (tmp_path / "a.srt").read_text(encoding="utf-8").splitlines()
    assert max(len(line) for line in lines) <= 84
    assert sum("-->" in line for line in lines) == 4


def test_text_is_a_line_a_sentence(tmp_path):
    write_transcript(tmp_path / "a.txt", _transcript("One two.", "Drei vier?"))
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "One two.\nDrei vier?\n"


def test_a_recording_without_words_is_a_transcript(tmp_path):
    none = Transcript((), None, "a test")
    for name in ("a.srt", "a.vtt", "a.txt", "a.json"):
        write_transcript(tmp_path / name, none)
    assert read_transcript(tmp_path / "a.json") == none


def test_writing_elsewhere_or_otherwise_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"\.srt, \.vtt, \.txt, \.json"):
        write_transcript(tmp_path / "a.pdf", _transcript("One."))
    with pytest.raises(UsageError, match="no folder"):
        write_transcript(tmp_path / "none" / "a.srt", _transcript("One."))
    assert not list(tmp_path.iterdir())


def test_a_sentence_is_its_words():
    sentence = Sentence((Word(" Good", 0.5, 1), Word(" day.", 1, 1.5)))
    assert (sentence.text, sentence.start, sentence.end) == ("Good day.", 0.5, 1.5)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ('{"language": "en", "origin": "x", "sentences": [{"words": []}]}', "holds no word"),
        (
            '{"segments": [{"start": 0, "end": 1, "text": "a", '
            '"words": [{"word": "a", "start": 0, "end": Infinity}]}]}',
            "time",
        ),
        ('{"segments": [{"start": 0, "end": 1, "text": "\\ud800"}]}', "half a character"),
        ('{"segments": ' + "9" * 5000 + "}", "not"),
    ],
)
def test_json_that_nobody_should_write_is_refused(tmp_path, content, complaint):
    path = tmp_path / "odd.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=complaint) as error:
        read_transcript(path)
    assert "\n" not in str(error.value)
