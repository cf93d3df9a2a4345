"""The one answer of somebody who is refused: what it says, in which form, and what it never says."""

from __future__ import annotations

import html
import json
import re
from datetime import timedelta
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.http.explanation import LONGEST_HEAD, explanation
from peerauth.trust.decision import Code, Refused, decide
from peerauth.trust.identity import Identity
from peerauth.trust.notice import Notice, notice
from peerauth.trust.peers import Peer, PeerSet, PeerSettings
from peerauth.trust.policy import EVERY_PEER, Policy
from tests.support.dropin import NOW, mint
from tests.support.engine import identity

MARK = bytes(range(32))
STRANGER = mint("Some One")
PIN = STRANGER.certificate.fingerprint
FORMS = {"text/html": "text/html", "application/json": "application/json", "*/*": "text/plain", "": "text/plain"}


def noticed(who: Identity | None, peers: PeerSet | None = None, *, remembered: bool = True) -> Notice:
    der = who.certificate.der if who else None
    refused = decide(der, peers or PeerSet(), now=NOW)
    assert isinstance(refused, Refused)
    return notice(refused, der, remembered=remembered)


def answer(told: Notice, head: bytes = b"GET / HTTP/1.1") -> tuple[int, dict[str, str], str]:
    """Status, headers and body."""
    start, _, body = explanation(told, head, MARK, NOW).decode().partition("\r\n\r\n")
    first, *lines = start.split("\r\n")
    return int(first.split(" ")[1]), dict(line.split(": ", 1) for line in lines), body


def test_who_has_no_certificate_is_asked_for_one() -> None:
    status, headers, body = answer(noticed(None))
    assert (status, headers["WWW-Authenticate"]) == (401, "ClientCertificate")
    assert headers["Peerauth-Refused"] == "no-certificate"
    assert body.startswith("Unauthorized: no certificate was presented (no-certificate)\n")
    assert "--cert NAME.crt --key NAME.key" in body


def test_who_is_not_pinned_sees_its_fingerprint_and_the_commands_that_would_admit_it() -> None:
    status, headers, body = answer(noticed(STRANGER))
    assert (status, headers["Peerauth-Refused"]) == (403, "unknown")
    assert "WWW-Authenticate" not in headers
    assert body.startswith("Forbidden: the certificate is not pinned (unknown)\n")
    assert f"you present: {PIN}\n" in body
    assert f"    peerauth peer approve {PIN} --name some-one\n" in body
    assert f"    peerauth peer add FILE --name some-one --expect {PIN}\n" in body


def test_what_is_not_remembered_cannot_be_approved() -> None:
    assert noticed(STRANGER, remembered=False).admitting == (f"peerauth peer add FILE --name some-one --expect {PIN}",)
    large = Refused(Code.UNKNOWN, PIN, None, "not pinned")
    assert len(notice(large, bytes(9000), remembered=True).admitting) == 1


@pytest.mark.parametrize("accept", FORMS)
@pytest.mark.parametrize("who", [None, STRANGER], ids=["nobody", "stranger"])
def test_each_form_says_the_same(who: Identity | None, accept: str) -> None:
    told = noticed(who)
    head = f"GET /any/path?x HTTP/1.1\r\nHost: node\r\naCCept: text/x, {accept};q=0.9".encode()
    _, headers, body = answer(told, head)
    assert headers["Content-Type"] == f"{FORMS[accept]}; charset=utf-8"
    assert int(headers["Content-Length"]) == len(body.encode())
    for said in (told.message, told.code, told.hint, *told.admitting, *([str(PIN)] if who else [])):
        assert said in body
    if accept == "application/json":
        assert json.loads(body) == {
            "code": told.code,
            "message": told.message,
            "hint": told.hint,
            "fingerprint": str(PIN) if who else None,
            "admit": list(told.admitting),
        }


def test_a_browser_loads_and_keeps_nothing() -> None:
    _, headers, body = answer(noticed(STRANGER), b"GET / HTTP/1.1\r\nAccept: text/html,application/xhtml+xml,*/*;q=0.8")
    assert headers["Cache-Control"] == "no-store"
    assert headers["Connection"] == "close"
    assert headers["Content-Security-Policy"].startswith("default-src 'none';")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Set-Cookie" not in headers
    seen: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            seen.append(tag)
            assert {name for name, _ in attrs} <= {"lang", "charset", "name", "content"}

    Reader().feed(body)
    assert set(seen) == {"html", "head", "meta", "title", "style", "body", "h1", "p", "code", "pre"}


def test_the_answer_to_head_has_no_body() -> None:
    whole, bare = (explanation(noticed(STRANGER), head, MARK, NOW) for head in (b"GET / HTTP/1.1", b"HEAD / HTTP/1.1"))
    assert bare == whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"


def known(**settings: object) -> PeerSet:
    return PeerSet.of([Peer("secret-name", (PIN,), PeerSettings(**settings))])  # type: ignore[arg-type]


def refusals() -> dict[Code, Refused]:
    """Every way in which `decide` refuses somebody who is known, by its code."""
    der, day = STRANGER.certificate.der, timedelta(days=1)
    tried = [
        decide(der, known(), now=NOW + 9 * day),
        decide(der, known(), now=NOW - 9 * day),
        decide(der, known(until=NOW - day), now=NOW),
        decide(der, known(sources=(object(),)), now=NOW),
        decide(der, known(), Policy("db", frozenset({"somebody-else"})), now=NOW),
        decide(der, known(max_connections=1), EVERY_PEER, now=NOW, live=1),
        decide(der, known(retire=((PIN, NOW - day),)), now=NOW),
        Refused(Code.WEAK_KEY, PIN, Peer("secret-name", (PIN,)), "the key is too weak (RSA-512)"),
        Refused(Code.MALFORMED, PIN, None, "it is damaged"),
    ]
    found = {one.code: one for one in tried if isinstance(one, Refused)}
    assert len(found) == len(tried)
    return found


@pytest.mark.parametrize("code", [code for code in Code if code not in (Code.UNKNOWN, Code.NO_CERTIFICATE)])
def test_a_peer_that_is_refused_hears_why_and_no_name(code: Code) -> None:
    """Not even its own: whoever has a copy of an old key could learn it."""
    told = notice(refusals()[code], STRANGER.certificate.der, remembered=True)
    for accept in FORMS:
        status, headers, body = answer(told, f"GET / HTTP/1.1\r\nAccept: {accept}".encode())
        assert (status, headers["Peerauth-Refused"]) == (403, code)
        assert told.message in html.unescape(body)
        assert "secret-name" not in body
        assert "somebody-else" not in body
        assert "peer approve" not in body


def test_who_calls_itself_as_a_peer_is_called_learns_nothing_of_that_peer() -> None:
    other = PeerSet.of([Peer("some-one", (identity("alice").certificate.fingerprint,), PeerSettings(address="10.0.0.9:1"))])
    assert noticed(STRANGER, other) == noticed(STRANGER)


def bare(data: bytes, who: Identity) -> str:
    """An answer without what is this one's own: its fingerprint, and the name that is proposed for it."""
    text = data.decode().replace(str(who.certificate.fingerprint), "PIN")
    text, count = re.subn(r"--name (NAME|[a-z0-9][a-z0-9._-]{0,63})(?=[ <\"\n])", "--name OWN", text)
    assert count == 2
    return re.sub(r"Content-Length: \d+", "Content-Length: N", text)


@given(claim=st.text(max_size=64), accept=st.sampled_from(sorted(FORMS)))
def test_whatever_a_certificate_says_only_a_name_of_it_is_shown(claim: str, accept: str) -> None:
    head, who = f"GET / HTTP/1.1\r\nAccept: {accept}".encode(), mint(claim or "x")
    given = explanation(noticed(who), head, MARK, NOW)
    assert bare(given, who) == bare(explanation(noticed(STRANGER), head, MARK, NOW), STRANGER)


@given(head=st.binary(max_size=200))
def test_whatever_is_asked_has_one_of_four_answers(head: bytes) -> None:
    told = noticed(STRANGER)
    accepts = (b"", b"text/html", b"application/json")
    forms = [explanation(told, b"GET / HTTP/1.1\r\nAccept: " + accept, MARK, NOW) for accept in accepts]
    heads = [one.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" for one in forms]
    assert explanation(told, head, MARK, NOW) in (*forms, *heads)


def test_an_answer_is_small() -> None:
    for accept in FORMS:
        head = f"GET / HTTP/1.1\r\nAccept: {accept}".encode()
        assert len(explanation(noticed(mint("x" * 64)), head, MARK, NOW)) < LONGEST_HEAD // 2
