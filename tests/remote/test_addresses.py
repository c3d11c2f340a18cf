"""Addresses, keys and settings."""

from __future__ import annotations

import pytest
from asking import prompt_of
from model_server import Fault

from speechprune_cli.errors import ServerError, UsageError
from speechprune_cli.remote.address import Address, key


def test_the_key_is_sent_and_not_shown(connect, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "not this")
    monkeypatch.setenv("SPEECHPRUNE_SERVER_KEY", "s3cret")
    served = connect()
    assert {each.get("Authorization") for each in server.headers} == {"Bearer s3cret"}
    server.faults = [Fault(401, "s3cret is wrong".replace("s3cret", "it"))]
    with pytest.raises(ServerError) as refusal:
        served.respond(prompt_of(served))
    assert "s3cret" not in f"{refusal.value} {served.decisions}"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("localhost:8000", "give an address such as"),
        ("ftp://here", "give an address such as"),
        ("http://", "give an address such as"),
        ("http://here:99999", "Port out of range"),
        ("http://me:secret@here", "leave the key out of the address"),
        ("http://me:secret@here:99999", "leave the key out of the address"),
        ("http://me:secret@[::1", "leave the key out of the address"),
        ("http://here?key=secret", "leave the key out of the address"),
        ("http://[::1:8000", "Invalid IPv6 URL"),
        ("http://foo..bar:8000", "label empty"),
        ("http://here/ü", "give an address such as"),
        ("http://he re", "give an address such as"),
        ("http://here/a b", "give an address such as"),
    ],
)
def test_an_address_that_is_none(url, told):
    with pytest.raises(UsageError, match=told) as refusal:
        Address.parse(url)
    assert "secret" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("secret", ["s3cret\r\nHost: evil", "s3crét", "s3 cret"])
def test_a_key_that_is_none_is_not_shown(connect, monkeypatch, secret):
    monkeypatch.setenv("SPEECHPRUNE_SERVER_KEY", secret)
    with pytest.raises(UsageError, match="SPEECHPRUNE_SERVER_KEY: a key has") as refusal:
        connect()
    assert "s3" not in str(refusal.value)


def test_whose_key_goes_where(monkeypatch):
    monkeypatch.delenv("SPEECHPRUNE_SERVER_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "theirs\r\n")
    near = ["http://localhost", "http://127.0.0.2:8000", "http://[::1]:8000", "https://far.org"]
    far = ["http://far.org", "http://192.168.0.7:8000"]
    assert {key(Address.parse(url)) for url in near} == {"theirs"}
    assert {key(Address.parse(url)) for url in far} == {None}
    monkeypatch.setenv("SPEECHPRUNE_SERVER_KEY", "ours")
    assert {key(Address.parse(url)) for url in (*near, *far)} == {"ours"}


def test_addresses():
    plain = Address.parse("http://here:8000/v1/")
    assert plain == Address.parse("http://here:8000")
    assert (plain.url, plain.port, plain.path, plain.model) == ("http://here:8000", 8000, "", None)
    far = Address.parse("https://far.org/llm/v1#a/b:7b")
    assert (far.port, far.path, far.model, far.secure) == (443, "/llm", "a/b:7b", True)


@pytest.mark.parametrize(
    ("name", "value"),
    [("REQUESTS", "0"), ("REQUESTS", "many"), ("TIMEOUT", "-1"), ("TIMEOUT", "inf")],
)
def test_settings_that_are_none(connect, monkeypatch, name, value):
    monkeypatch.setenv(f"SPEECHPRUNE_SERVER_{name}", value)
    with pytest.raises(UsageError, match=f"SPEECHPRUNE_SERVER_{name}={value}"):
        connect()
