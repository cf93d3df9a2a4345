"""A statement about a certificate's successor holds with both signatures, and with no byte changed."""

import base64
import json
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.errors import BadInput
from peerauth.trust.continuity import LARGEST, Kind, Statement, endorse, mentioned, read_statement
from peerauth.trust.identity import Identity, KeyType, new_key, self_signed

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=14)


@cache
def identity(kind: KeyType, number: int = 0) -> Identity:
    return self_signed(new_key(kind), f"node-{number}", NOW)


@cache
def statement(old: KeyType = KeyType.P256, new: KeyType = KeyType.ED25519) -> Statement:
    return endorse(Kind.NEXT, identity(old), identity(new, 1), NOW, LATER)


@pytest.mark.parametrize("new", [KeyType.RSA3072, KeyType.P256, KeyType.ED25519])
@pytest.mark.parametrize("old", [KeyType.RSA3072, KeyType.P256, KeyType.ED25519])
def test_a_statement_comes_back_between_all_kinds_of_keys(old: KeyType, new: KeyType) -> None:
    said = statement(old, new)
    assert read_statement(said.data) == said
    assert (said.kind, said.issued, said.retire) == (Kind.NEXT, NOW, LATER)
    assert (said.old, said.new) == (identity(old).certificate, identity(new, 1).certificate)


@given(st.data())
def test_a_statement_with_any_byte_changed_says_the_same_or_nothing(data: st.DataObject) -> None:
    said = statement()
    at = data.draw(st.integers(0, len(said.data) - 1))
    changed = bytearray(said.data)
    changed[at] = data.draw(st.integers(0, 255))
    try:
        heard = read_statement(bytes(changed))
    except BadInput:
        return
    assert (heard.kind, heard.old, heard.new, heard.issued, heard.retire) == (
        said.kind,
        said.old,
        said.new,
        said.issued,
        said.retire,
    )


@given(st.binary(max_size=500))
def test_junk_is_no_statement(data: bytes) -> None:
    for read in (read_statement, mentioned):
        with pytest.raises(BadInput, match="not good"):
            read(data)


@pytest.mark.parametrize(
    "data", [b"[]", b'{"statement":7,"by_old":"","by_new":""}', b"1" * 5000, b"[" * 5000, b"x" * (LARGEST + 1)]
)
def test_what_is_not_of_the_form_names_nobody(data: bytes) -> None:
    with pytest.raises(BadInput, match="not good"):
        mentioned(data)


def test_whom_a_statement_names_is_known_before_it_is_checked() -> None:
    said = statement()
    assert mentioned(said.data) == mentioned(tampered(by_new="")) == (said.old.fingerprint, said.new.fingerprint)


def tampered(**fields: str) -> bytes:
    body = json.loads(statement().data)
    return json.dumps({**body, **fields}).encode()


def payload(**fields: str) -> str:
    return json.dumps({**json.loads(json.loads(statement().data)["statement"]), **fields}, separators=(",", ":"))


def octets(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "data",
    [
        tampered(statement=payload(kind="withdrawn")),
        tampered(statement=payload(kind="compromised")),
        tampered(statement=payload(retire="2036-11-21T12:00:00Z")),
        tampered(statement=payload(new=octets(identity(KeyType.P256, 2).certificate.der))),
        tampered(statement=payload(old=octets(identity(KeyType.P256, 2).certificate.der))),
        tampered(by_old=json.loads(statement().data)["by_new"]),
        tampered(by_new=""),
        tampered(more="x"),
        tampered(statement=payload(more="x")),
        tampered(statement=payload().replace('"kind"', '"kind":"next","kind"', 1)),
        statement().data + b" " * LARGEST,
    ],
)
def test_what_was_tampered_with_is_no_statement(data: bytes) -> None:
    with pytest.raises(BadInput) as error:
        read_statement(data)
    assert error.value.code == "bad-statement"


def test_somebody_elses_key_cannot_be_put_forward() -> None:
    """Whoever signs for the new certificate must hold its key: else a node could be made to pass for another."""
    old, new, mine = identity(KeyType.P256), identity(KeyType.P256, 1), identity(KeyType.P256, 2)
    forged = Identity(mine.key, new.certificate)
    with pytest.raises(BadInput, match="new key"):
        endorse(Kind.NEXT, old, forged, NOW, LATER)
    with pytest.raises(BadInput, match="old key"):
        endorse(Kind.NEXT, Identity(mine.key, old.certificate), new, NOW, LATER)


def test_a_certificate_is_not_its_own_successor() -> None:
    with pytest.raises(BadInput, match="same"):
        endorse(Kind.NEXT, identity(KeyType.P256), identity(KeyType.P256), NOW, LATER)
