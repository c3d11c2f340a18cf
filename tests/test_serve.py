"""`speechprune serve`: a real server, a tiny real model, OpenAI's own client."""

from __future__ import annotations

import io
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import openai
import pytest
import soundfile
from conftest import make_audio
from hypothesis import given, settings
from hypothesis import strategies as st
from model_server import ModelServer
from running_server import chat, raw, running, stop

from speechprune_cli.errors import UsageError
from speechprune_cli.flow import SAMPLE_RATE, Transcript
from speechprune_cli.pipeline import NO_WORDS, Session, load
from speechprune_cli.serving.limits import Limits
from speechprune_cli.serving.line import Gone
from speechprune_cli.serving.pruning import Pruning
from speechprune_cli.serving.refusals import Refusal
from speechprune_cli.serving.request import Request, Served, read_request
from speechprune_cli.sources import stored

QUESTION = "When is the report due?"
PRUNING = {"method": "speechprune", "keep": "40%"}
CHOICES = ["on Friday", "never", "in two weeks"]


class Counting(Session):
    """A session that tells how many prompts it answered at a time."""

    def __init__(self, model, cache=None):
        super().__init__(model, cache)
        self.rows = []

    def respond(self, prompt, **how):
        self.rows.append(1)
        return super().respond(prompt, **how)

    def respond_batch(self, prompts, **how):
        self.rows.append(len(prompts))
        return super().respond_batch(prompts, **how)


@pytest.fixture(scope="module")
def session(tiny_model_folder):
    return Counting(load(str(tiny_model_folder), cache=False).model)


@pytest.fixture(scope="module")
def server(session):
    with running(session, Limits(queue=3, megabytes=2, seconds=60)) as server:
        yield server


@pytest.fixture
def client(server):
    return openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)


def wav(seconds, seed=0, **how):
    file = io.BytesIO()
    soundfile.write(file, make_audio(seconds, seed).samples, SAMPLE_RATE, format="WAV", **how)
    return file.getvalue()


@pytest.fixture
def endless(session, monkeypatch):
    """The session of a model that never ends an answer by itself."""
    monkeypatch.setattr(session.model, "end_tokens", frozenset())
    return session


@pytest.fixture(scope="module")
def talk():
    return wav(6)


def create(client, server, data, question=QUESTION, *, extra=None, **options):
    body = chat(server.model, data, question, **options)
    return client.chat.completions.create(**body, extra_body=extra)


def test_the_answer_is_that_of_ask_and_the_usage_is_as_read(client, server, session, talk):
    expected = session.ask(talk, QUESTION, max_new_tokens=8, **PRUNING)
    found = create(client, server, talk, extra={"pruning": PRUNING}, max_completion_tokens=8)
    (choice,) = found.choices
    assert choice.message.content == expected.answer.text
    assert choice.finish_reason == ("stop" if expected.answer.finished else "length")
    prompt, usage = expected.prompt, found.usage
    assert usage.prompt_tokens == prompt.audio_tokens + prompt.text_tokens
    assert usage.prompt_tokens_details.audio_tokens == len(expected.selection.kept) == 60
    assert usage.completion_tokens == expected.answer.new_tokens
    own = found.speechprune
    assert (own["pruning"]["tokens"], own["pruning"]["kept"]) == (150, 60)
    assert own["pruning"]["method"] == "speechprune"
    assert own["audio"]["source_seconds"] == 6
    assert set(own["seconds"]) >= {"encode", "prune", "prefill", "decode"}
    assert own["warnings"] == []


def test_a_stream_is_the_answer_in_pieces(client, server, talk):
    whole = create(client, server, talk)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    first, *chunks, last, usage = create(client, server, talk, **options)
    assert first.choices[0].delta.role == "assistant"
    assert len(chunks) > 1
    said = "".join(chunk.choices[0].delta.content for chunk in chunks)
    assert said.strip() == whole.choices[0].message.content
    assert last.choices[0].finish_reason == whole.choices[0].finish_reason
    assert (usage.choices, usage.usage) == ([], whole.usage)
    assert last.speechprune["answer"] == whole.choices[0].message.content
    assert len({chunk.id for chunk in (first, *chunks, last, usage)}) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_options_are_chosen_from_by_likelihood(client, server, session, talk, stream):
    expected = session.ask(talk, QUESTION, choices=CHOICES).answer
    found = create(client, server, talk, extra={"choices": CHOICES}, stream=stream)
    if stream:
        chunks = list(found)
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        own = chunks[-1].speechprune
    else:
        said, own = found.choices[0].message.content, found.speechprune
    assert said == expected.text
    assert own["probabilities"] == pytest.approx(expected.probabilities)
    assert list(own["probabilities"]) == CHOICES


def test_a_recording_is_encoded_once(client, server):
    data = wav(7, seed=4)
    first, second = (create(client, server, data).speechprune for _ in range(2))
    assert [each["seconds"]["encode_cached"] for each in (first, second)] == [False, True]
    assert first["answer"] == second["answer"]
    assert first["seconds"]["encode"] == second["seconds"]["encode"]


def test_a_server_has_pruning_of_its_own_which_a_request_replaces(session, talk):
    with running(session, pruning=Pruning(method="uniform", keep=30)) as server:
        _, own = server.complete(chat(server.model, talk))
        _, asked = server.complete(chat(server.model, talk, pruning={"method": "crop"}))
    assert (own["speechprune"]["pruning"]["method"], own["speechprune"]["pruning"]["kept"]) == (
        "uniform",
        30,
    )
    assert asked["speechprune"]["pruning"]["method"] == "crop"
    assert asked["speechprune"]["pruning"]["kept"] != 30


def test_of_a_conversation_the_last_question_and_recording_are_read(server, session, talk):
    body = chat(server.model, wav(3, seed=9), "What is it about?")
    body["messages"] += [
        {"role": "assistant", "content": "A report."},
        *chat(server.model, talk, "And this one?")["messages"],
        {"role": "assistant", "content": "Another."},
        {"role": "user", "content": QUESTION},
    ]
    status, answer = server.complete(body)
    assert status == 200
    expected = session.ask(talk, QUESTION, max_new_tokens=8).answer.text
    assert answer["choices"][0]["message"]["content"] == expected
    *_, warning = answer["speechprune"]["warnings"]
    assert warning.startswith("only the last question is read")


def test_of_a_recording_without_words_no_model_is_asked(tiny_transcriber, imagining, talk):
    """Whether it is asked about alone, in a stream, or beside another."""
    silence = Transcript((), "en", "nobody")
    session = load(str(tiny_transcriber), cache=False)
    session.encode = lambda audio, *_: session.model.read_transcript(audio, silence)
    with running(session) as server, ThreadPoolExecutor(3) as pool:
        with session.model.lock:
            found = [pool.submit(server.complete, chat(server.model, talk)) for _ in range(3)]
        answers = [each.result()[1] for each in found]
        client = openai.OpenAI(base_url=server.url, api_key="none")
        pieces = [
            chunk.choices[0].delta.content or ""
            for chunk in create(client, server, talk, stream=True)
        ]
    assert {each["choices"][0]["message"]["content"] for each in answers} == {NO_WORDS}
    assert {each["usage"]["completion_tokens"] for each in answers} == {0}
    assert "".join(pieces) == NO_WORDS


def test_what_may_make_an_answer_worth_less_is_said(server):
    _, answer = server.complete(chat(server.model, wav(0.09, subtype="FLOAT"), track=1))
    assert "the recording: only 0.090 s long" in answer["speechprune"]["warnings"][0]


def test_other_endpoints(client, server):
    (model,) = client.models.list()
    assert model.id == server.model
    assert client.models.retrieve(server.model).owned_by == "speechprune"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o")
    with pytest.raises(openai.NotFoundError, match="Not Found"):
        client.embeddings.create(model=server.model, input="a")
    assert server.health()["status"] == "ok"
    before = server.counted('speechprune_audio_tokens_total{part="kept"}')
    _, answer = server.complete(chat(server.model, wav(2, seed=5), pruning={"keep": 7}))
    assert answer["usage"]["prompt_tokens_details"]["audio_tokens"] == 7
    assert server.counted('speechprune_audio_tokens_total{part="kept"}') == before + 7
    path = "/v1/chat/completions"
    assert server.counted(f'speechprune_requests_total{{path="{path}",status="200"}}') >= 1


def without(name):
    return lambda body: body.pop(name)


def told(**options):
    return lambda body: body.update(options)


def part(content):
    return lambda body: body["messages"][0].update(content=content)


def audio(**given):
    return lambda body: body["messages"][0]["content"][1]["input_audio"].update(given)


TEXT = {"type": "text", "text": QUESTION}
MALFORMED = [
    (without("model"), 400, "missing_required_parameter", "model"),
    (told(model="gpt-4o"), 404, "model_not_found", "no model 'gpt-4o' is served"),
    (without("messages"), 400, "invalid_messages", "at least one message"),
    (told(messages="Why?"), 400, None, "messages: give a list"),
    (told(messages=[1]), 400, "invalid_messages", "messages[0]: the role"),
    (part(QUESTION), 400, "invalid_messages", "no recording"),
    (part(17), 400, "invalid_messages", "messages[0].content: give text, or a list"),
    (part([TEXT, {"type": "text"}]), 400, "invalid_messages", "content[1].text: give text"),
    (part([TEXT, {"type": "image_url"}]), 400, "invalid_messages", "'image_url' are not taken"),
    (part([TEXT, {"type": "audio_url"}]), 400, "invalid_messages", "nothing is fetched"),
    (part([TEXT, {"type": "input_audio"}]), 400, "invalid_messages", "file as base64"),
    (lambda body: body["messages"][0]["content"].pop(0), 400, "invalid_messages", "no question"),
    (lambda body: body["messages"][0]["content"].append(body["messages"][0]["content"][1]),
     400, "invalid_messages", "two recordings"),
    (lambda body: body["messages"].append({"role": "assistant", "content": "Yes."}),
     400, "invalid_messages", "has to be the user's question"),
    (lambda body: body["messages"].insert(0, {"role": "system", "content": "Be brief."}),
     400, "invalid_messages", "the role system cannot be given"),
    (audio(data="https://example.org/talk.wav"), 400, "invalid_base64", "no address"),
    (audio(data="file:///etc/passwd"), 400, "invalid_base64", "no base64"),
    (audio(data="data:audio/wav;base64,UklGRg=="), 400, "invalid_base64", "no base64"),
    (audio(data=""), 400, "audio_error", "is empty"),
    (audio(data="AAAA"), 400, "audio_error", "not audio"),
    (audio(url="https://example.org"), 400, "invalid_messages", "unknown key 'url'"),
    (audio(data="QUFB" * 680_000), 413, "too_large", "more than 2 MB"),
    (told(temperature=0.7), 400, "unsupported_value", "one greedy text"),
    (told(top_p=0.9), 400, None, "top_p: answers are greedy"),
    (told(n=2), 400, "unsupported_value", "leave n out, or give 1"),
    (told(tools=[{"type": "function"}]), 400, "unsupported_value", "tools"),
    (told(response_format={"type": "json_object"}), 400, "unsupported_value", "response_format"),
    (told(logprobs=True), 400, "unsupported_value", "logprobs"),
    (told(temprature=0), 400, "unknown_parameter", "'temprature'"),
    (told(max_tokens=0), 400, None, "max_tokens is 0"),
    (told(max_tokens=10**6), 400, None, "at most 4,096"),
    (told(max_tokens="8"), 400, None, "max_tokens: give a whole number"),
    (told(stream="yes"), 400, None, "stream: give true or false"),
    (told(position="sideways"), 400, None, "repacked or original"),
    (told(track=9), 400, "usage_error", "--track 9: the audio tracks of the recording are 1 to 1"),
    (told(choices=["only"]), 400, "usage_error", "at least two options"),
    (told(choices=[str(n) for n in range(101)]), 400, None, "at most 100"),
    (told(pruning={"methd": "cue"}), 400, "usage_error", "unknown key 'methd'"),
    (told(pruning={"method": "magic"}), 400, "usage_error", "magic"),
    (told(pruning={"query": "x" * 5000}), 400, "usage_error", "x ... x"),
    (told(pruning={"keep": "0%"}), 400, "usage_error", "more than 0%"),
    (told(pruning={"keep": "20%", "rate": 0.2}), 400, "usage_error", "not both"),
    (told(pruning={"rate": "0.2"}), 400, "usage_error", "rate is '0.2'"),
    (told(pruning={"set": {"heat": 2}}), 400, "usage_error", "heat"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "status", "code", "complaint"), MALFORMED)
def test_what_is_malformed_gets_an_error_as_openais(server, spoil, status, code, complaint):
    body = chat(server.model, wav(1))
    spoil(body)
    found, answer = server.complete(body)
    assert found == status
    error = answer["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("invalid_request_error", code)
    assert complaint in error["message"]
    assert "\n" not in error["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"[" * 10**5, b"\xff\xfe{}", b'{"n": 1e999'])
def test_what_is_no_json_object(server, body):
    status, answer = server.complete(body)
    assert (status, answer["error"]["code"]) == (400, "invalid_json")


def test_pages_of_browsers_cannot_ask(server, talk):
    """A form needs no permission to send, another site's name may lead here."""
    body = chat(server.model, talk)
    assert server.complete(body, {"Content-Type": "text/plain"})[0] == 415
    assert server.complete(body, {"Host": "evil.example:8000"})[0] == 421


def test_what_is_no_http_does_not_hurt(server):
    assert b"400" in raw(server.port, b"\x16\x03\x01 hello\r\n\r\n")
    begun = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost:{server.port}\r\n"
    raw(
        server.port,
        begun.encode() + b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
    )
    assert server.health()["status"] == "ok"


@pytest.mark.parametrize("stream", [False, True])
def test_what_goes_wrong_later_is_an_error_too(server, stream):
    """The recording is found to be none in the model's thread."""
    status, answer = server.complete(chat(server.model, b"ab" * 99, stream=stream))
    assert (status, answer["error"]["code"]) == (400, "audio_error")


PLAYLISTS = {
    "ffconcat": "ffconcat version 1.0\nfile '{path}'\n",
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nfile://{path}\n#EXT-X-ENDLIST\n",
    "HLS of data": "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{data}\n#EXT-X-ENDLIST\n",
    "M3U": "#EXTM3U\n{path}\n",
    "SDP": "v=0\nm=audio 5004 RTP/AVP 0\nc=IN IP4 127.0.0.1\n",
    "DASH": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period>'
    '<AdaptationSet mimeType="audio/wav"><Representation id="a"><BaseURL>{path}</BaseURL>'
    "</Representation></AdaptationSet></Period></MPD>",
    "pls": "[playlist]\nFile1={path}\n",
    "a path": "{path}",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_no_file_of_the_servers_is_read(server, kind, tmp_path):
    path = tmp_path / "secret.wav"
    path.write_bytes(wav(3))
    text = PLAYLISTS[kind].format(path=path, data="data:audio/wav;base64,UklGRg==")
    status, answer = server.complete(chat(server.model, text.encode()))
    assert (status, answer["error"]["code"]) == (400, "audio_error")
    assert "secret" not in answer["error"]["message"].partition("begins with")[0]


def test_a_long_recording_is_refused_while_it_is_decoded(server):
    """Silence takes few bytes an hour, and the server's memory would not."""
    status, answer = server.complete(chat(server.model, flac(70)))
    assert (status, answer["error"]["code"]) == (413, "too_long_error")
    assert "is longer than 1 min" in answer["error"]["message"]


def flac(seconds):
    file = io.BytesIO()
    soundfile.write(file, make_audio(seconds).samples * 0, SAMPLE_RATE, format="FLAC")
    return file.getvalue()


def test_a_question_of_a_book_is_refused(server, talk):
    status, answer = server.complete(chat(server.model, talk, "why " * 5001))
    assert (status, answer["error"]["code"]) == (413, "too_long")


def test_a_request_of_many_megabytes_is_refused_without_a_length(server):
    def body():
        yield from (b" " * 10**6 for _ in range(5))

    status, _, content = server.request("POST", "/v1/chat/completions", body())
    assert (status, json.loads(content)["error"]["code"]) == (413, "too_large")


def test_without_the_key_nothing_is_answered(session, talk):
    with running(session, key="sekret") as server:
        for given in (None, "Bearer wrong", "Basic sekret", "Bearer", "sekret"):
            headers = {"Authorization": given} if given else {}
            status, answer = server.complete(chat(server.model, talk), headers)
            assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
            assert server.request("GET", "/metrics", headers=headers)[0] == 401
        assert server.health()["status"] == "ok"
        client = openai.OpenAI(base_url=server.url, api_key="sekret", max_retries=0)
        assert create(client, server, talk).choices[0].message.content
    assert "sekret" not in "".join(server.lines)


def test_the_log_has_a_line_a_request_and_nothing_of_what_was_asked(server, talk):
    before = len(server.lines)
    server.complete(chat(server.model, talk, "Who hid the zebra?"))
    server.complete(chat(server.model, talk, "Who hid the zebra?", pruning={"method": "zebra"}))
    server.request("GET", "/zebra")
    server.wait_until(lambda: len(server.lines) == before + 3)  # written behind the answer
    lines = server.lines[before:]
    heads = [line.rpartition(" ")[0].rpartition(" ")[0] for line in lines]
    path = "/v1/chat/completions"
    assert heads == [f"POST {path} 200", f"POST {path} 400", "GET other 404"]
    assert "zebra" not in "".join(lines)


@contextmanager
def busy(server, session, body):
    """The model has a first request in work until the end."""
    server.wait_for(running=0, waiting=0)
    with ThreadPoolExecutor(1) as pool:
        with session.model.lock:
            first = pool.submit(server.complete, body)
            server.wait_for(running=1)
            yield
        assert first.result()[0] == 200


def test_who_comes_when_too_many_wait_is_told_when_to_come_again(server, session, talk):
    body = chat(server.model, talk)
    with ThreadPoolExecutor(3) as pool:
        with busy(server, session, body):
            others = [pool.submit(server.complete, body) for _ in range(3)]
            server.wait_for(waiting=3)
            status, headers, content = server.request("POST", "/v1/chat/completions", body)
        assert [each.result()[0] for each in others] == [200] * 3
    assert status == 429
    assert int(headers["retry-after"]) >= 1
    assert json.loads(content)["error"]["type"] == "rate_limit_error"


def test_what_waits_together_is_answered_together_as_if_alone(server, session, talk):
    questions = [QUESTION, "Who said so, and why?", "Where?"]
    bodies = [chat(server.model, talk, each) for each in questions]
    alone = [server.complete(body)[1] for body in bodies]
    with ThreadPoolExecutor(3) as pool:
        with busy(server, session, bodies[0]):
            session.rows.clear()
            found = [pool.submit(server.complete, body) for body in bodies]
            server.wait_for(waiting=3)
        together = [each.result()[1] for each in found]
    assert session.rows == [1, 3]
    for one, other in zip(alone, together, strict=True):
        assert one["choices"] == other["choices"]
        assert one["usage"] == other["usage"]


def test_one_that_fails_leaves_the_others_alone(server, session, talk):
    bodies = [chat(server.model, data) for data in (talk, b"no recording", wav(2))]
    with ThreadPoolExecutor(3) as pool:
        with busy(server, session, bodies[0]):
            found = [pool.submit(server.complete, body) for body in bodies]
            server.wait_for(waiting=3)
        assert [each.result()[0] for each in found] == [200, 400, 200]


def test_who_goes_away_while_waiting_is_not_answered(server, session, talk):
    with busy(server, session, chat(server.model, talk)):
        impatient = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=0.2)
        with pytest.raises(openai.APITimeoutError):
            create(impatient, server, talk)
        server.wait_for(running=1, waiting=0)
    server.wait_until(lambda: any(" 499 " in line for line in server.lines))


@pytest.mark.parametrize("stream", [True, False])
def test_who_goes_away_ends_the_answer_at_its_next_token(server, endless, talk, stream):
    before, logged = server.counted("speechprune_new_tokens_total"), len(server.lines)
    patience = {} if stream else {"timeout": 0.05}
    client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0, **patience)
    begun = time.monotonic()
    if stream:
        pieces = create(client, server, talk, max_tokens=4096, stream=True)
        next(pieces)
        pieces.close()
    else:
        with pytest.raises(openai.APITimeoutError):
            create(client, server, talk, max_tokens=4096)
    server.wait_for(running=0, waiting=0)
    server.wait_until(lambda: any("completions 499 " in line for line in server.lines[logged:]))
    assert server.counted("speechprune_new_tokens_total") == before
    assert server.complete(chat(server.model, talk, max_tokens=4))[0] == 200
    assert time.monotonic() - begun < 30


def test_an_answer_that_takes_too_long_is_given_up(session, talk):
    with running(session, Limits(timeout=0.3)) as server:
        with session.model.lock:
            status, answer = server.complete(chat(server.model, talk))
        assert (status, answer["error"]["code"]) == (504, "timeout")
        server.wait_for(running=0, waiting=0)


def test_at_the_end_what_is_in_work_is_finished_and_what_waits_refused(session, talk):
    with running(session) as server, ThreadPoolExecutor(2) as pool:
        with session.model.lock:
            in_work = pool.submit(server.complete, chat(server.model, talk))
            server.wait_for(running=1)
            waiting = pool.submit(server.complete, chat(server.model, talk))
            server.wait_for(waiting=1)
            stop(server)
            status, answer = waiting.result()
            assert (status, answer["error"]["code"]) == (503, "stopping")
        assert in_work.result()[0] == 200
        server.thread.join(60)
        with pytest.raises(ConnectionError):
            server.health()


def test_who_is_told_twice_to_end_does_not_finish_what_is_in_work(endless, talk):
    with running(endless) as server:
        client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
        pieces = create(client, server, talk, stream=True, max_tokens=4096)
        next(pieces)
        stop(server)
        stop(server)
        server.thread.join(60)
        assert not server.thread.is_alive()
        pieces.close()


def test_decoding_ends_where_nobody_waits():
    def gone():
        calls.append(1)
        if len(calls) > 3:
            raise Gone

    calls = []
    with pytest.raises(Gone):
        stored(io.BytesIO(wav(60)), "talk.wav", check=gone)
    assert len(calls) == 4


class Meeting(Session):
    """A session each of whose answers waits for another one."""

    def respond(self, prompt, **how):
        self.met.wait(60)
        return super().respond(prompt, **how)


def test_where_a_server_reads_prompts_several_are_answered_at_a_time(session, talk):
    meeting = Meeting(session.model)
    meeting.met = Barrier(2)
    body = chat(session.model.preset.name, talk, stream=True)
    with running(meeting, threads=2) as server, ThreadPoolExecutor(2) as pool:
        path = "/v1/chat/completions"
        found = [pool.submit(server.request, "POST", path, body) for _ in range(2)]
        assert [each.result()[0] for each in found] == [200, 200]
        assert all(each.result()[2].endswith(b"data: [DONE]\n\n") for each in found)


class Encoding(Session):
    """A session that counts the recordings that it encodes, and what it reads together."""

    def encode(self, *given, **named):
        self.encoded.append(1)
        return super().encode(*given, **named)

    def respond_batch(self, *_, **__):
        raise AssertionError("threads take one request each")


def test_several_threads_encode_a_recording_once_and_take_a_request_each(session):
    encoding, data = Encoding(session.model), wav(5, seed=9)
    encoding.encoded = []
    with running(encoding, threads=4) as server, ThreadPoolExecutor(8) as pool:
        with session.model.lock:
            body = chat(server.model, data)
            found = [pool.submit(server.complete, body) for _ in range(8)]
            server.wait_for(running=4, waiting=4)
        assert [each.result()[0] for each in found] == [200] * 8
    assert len(encoding.encoded) == 1


def test_prompts_may_be_read_by_another_server(tiny_qwen2_folder, talk, monkeypatch):
    """As `serve --server URL` has it: the answers are those of one process, its failures told."""
    monkeypatch.setattr("speechprune_cli.remote.http.PAUSES", (0.0, 0.0))
    whole = load(str(tiny_qwen2_folder), cache=False)
    reader = ModelServer(whole.model)
    session = load(str(tiny_qwen2_folder), cache=False, server=reader.url)
    expected = whole.ask(talk, QUESTION, max_new_tokens=8).answer.text
    body = chat(session.model.preset.name, talk)
    with running(session, threads=4) as server:
        client = openai.OpenAI(base_url=server.url, api_key="none", max_retries=0)
        with ThreadPoolExecutor(4) as pool:
            found = [pool.submit(server.complete, body) for _ in range(4)]
            stream = [
                chunk.choices[0].delta.content or ""
                for chunk in create(client, server, talk, stream=True)
            ]
        assert {each.result()[1]["choices"][0]["message"]["content"] for each in found} == {
            expected
        }
        assert "".join(stream).strip() == expected
        reader.close()
        status, answer = server.complete(body)
        assert (status, answer["error"]["code"]) == (502, "reader_error")


class Broken(Session):
    """A session with a mistake in it."""

    def build_prompt(self, *_, **__):
        raise ZeroDivisionError("secret of the house")


def test_a_mistake_of_the_program_is_one_line_and_not_the_end(session, talk):
    with running(Broken(session.model)) as server:
        for _ in range(2):
            status, answer = server.complete(chat(server.model, talk))
            assert (status, answer["error"]["code"]) == (500, "internal_error")
            assert "secret" not in json.dumps(answer)
    assert server.lines.count("ZeroDivisionError: secret of the house") == 2


class Stumbling(Session):
    """A session with a mistake in the middle of an answer."""

    def respond(self, prompt, *, on_text=None, **how):
        on_text("on Fri")
        raise ZeroDivisionError


def test_a_stream_is_counted_by_how_it_ended(session, talk):
    with running(Stumbling(session.model)) as server:
        body = chat(server.model, talk, stream=True)
        status, _, content = server.request("POST", "/v1/chat/completions", body)
        assert (status, b"on Fri" in content, b"internal_error" in content) == (200, True, True)
        server.wait_until(lambda: any("completions 500 " in line for line in server.lines))
        assert counted_streams(server, 500) == 1


def counted_streams(server, status):
    """Of the metrics: requests for an answer that ended so."""
    labels = f'path="/v1/chat/completions",status="{status}"'
    return server.counted(f"speechprune_requests_total{{{labels}}}")


def test_a_stream_that_ends_well_is_counted_so(session, talk):
    with running(session) as server:
        server.request("POST", "/v1/chat/completions", chat(server.model, talk, stream=True))
        server.wait_until(lambda: any("completions 200 " in line for line in server.lines))
        assert counted_streams(server, 200) == 1


class BrokenAt(Session):
    """A session with a mistake at one step, about one question."""

    def __init__(self, model, step):
        super().__init__(model)
        self.step = step

    def build_prompt(self, tokens, selection, question, **how):
        if (self.step, question) == ("prompt", "Why?"):
            raise ZeroDivisionError
        prompt = super().build_prompt(tokens, selection, question, **how)
        self.bad = prompt if question == "Why?" else getattr(self, "bad", None)
        return prompt

    def respond(self, prompt, **how):
        if self.step == "answer" and prompt is self.bad:
            raise ZeroDivisionError
        return super().respond(prompt, **how)

    def respond_batch(self, prompts, **how):
        if self.step == "answer" and any(prompt is self.bad for prompt in prompts):
            raise ZeroDivisionError
        return super().respond_batch(prompts, **how)


@pytest.mark.parametrize("step", ["prompt", "answer"])
def test_a_mistake_that_one_request_meets_fails_no_other(session, talk, step):
    broken = BrokenAt(session.model, step)
    with running(broken) as server, ThreadPoolExecutor(3) as pool:
        bodies = [chat(server.model, talk, each) for each in (QUESTION, "Why?", "Where?")]
        with busy(server, broken, bodies[0]):
            found = [pool.submit(server.complete, body) for body in bodies]
            server.wait_for(waiting=3)
        assert [each.result()[0] for each in found] == [200, 500, 200]
    assert sum("ZeroDivisionError" in line for line in server.lines) == 1


def test_a_request_of_a_million_parts_is_refused_unread():
    body = b'{"messages": [' + b"{}," * 100_000 + b"{}]}"
    refusal = read_or_refuse(body, Served("tiny", Pruning(), 8, Limits()))
    assert (refusal.status, refusal.code) == (413, "too_large")


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
OPTIONS = ("messages", "choices", "pruning", "track", "stream", "stream_options", "temperature")


@settings(derandomize=True, max_examples=40)
@given(st.dictionaries(st.sampled_from(OPTIONS), anything), st.booleans())
def test_any_request_is_read_or_refused(options, whole):
    body = {**(chat("tiny", b"RIFF") if whole else {"model": "tiny"}), **options}
    served = Served("tiny", Pruning(), 8, Limits())
    found = read_or_refuse(json.dumps(body).encode(), served)
    assert isinstance(found, Request | UsageError) or 400 <= found.status < 500


def read_or_refuse(body, served):
    try:
        return read_request(body, served)
    except (Refusal, UsageError) as refusal:
        return refusal
