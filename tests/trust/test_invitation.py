"""A token comes back as it was, or is told to be broken; a proof is good for one channel, two certificates, one token."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import assume, given
from hypothesis import strategies as st

from peerauth.address import Address, parse_address
from peerauth.errors import BadInput
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.invitation import (
    LONGEST,
    MOST_ADDRESSES,
    PREFIX,
    SECRET,
    Token,
    is_proof,
    make_token,
    read_token,
    statement,
)

LATER = datetime(2026, 11, 22, 12, tzinfo=UTC)
PIN, JOINER, CHANNEL = Fingerprint(b"p" * 32), Fingerprint(b"j" * 32), b"c" * 32
TOKEN = make_token(b"s" * SECRET, PIN, LATER, [Address("db.example", 8443), Address("2001:db8::1", 443)])

HOSTS = st.one_of(
    st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{2,5}){0,3}", fullmatch=True),
    st.ip_addresses().map(str),
)
ADDRESSES = st.builds(Address, HOSTS, st.integers(1, 65535))
TOKENS = st.builds(
    make_token,
    st.binary(min_size=SECRET, max_size=SECRET),
    st.binary(min_size=32, max_size=32).map(Fingerprint),
    st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001 - given a zone
    st.lists(ADDRESSES, min_size=1, max_size=MOST_ADDRESSES),
)


def sealed(body: bytes) -> str:
    """A token of these bytes, whose checksum is right."""
    checksum = hashlib.sha256(b"peerauth invitation 1\0" + body).digest()[:4]
    return PREFIX + base64.urlsafe_b64encode(body + checksum).rstrip(b"=").decode()


def body(token: Token = TOKEN) -> bytes:
    text = token.text.removeprefix(PREFIX)
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))[:-4]


@given(TOKENS)
def test_a_token_comes_back_as_it_was_in_one_word_that_no_shell_touches(token: Token) -> None:
    assert read_token(token.text) == token
    assert read_token(f"  {token.text}\n") == token
    assert set(token.text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    assert not token.text.startswith("-")
    assert len(token.text) <= LONGEST


@given(TOKENS, st.data())
def test_a_token_with_any_character_changed_is_told_to_be_broken(token: Token, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(token.text) - 1))
    other = data.draw(st.characters())
    assume(other != token.text[at])
    changed = token.text[:at] + other + token.text[at + 1 :]
    assume(changed.strip() != token.text)
    with pytest.raises(BadInput) as error:
        read_token(changed)
    assert error.value.code == "bad-token"


@given(TOKENS, st.data())
def test_a_token_that_was_cut_off_or_has_something_behind_it_is_told_to_be_broken(token: Token, data: st.DataObject) -> None:
    cut = token.text[: data.draw(st.integers(0, len(token.text) - 1))]
    more = token.text + data.draw(st.text("abcXYZ019-_=.% é", min_size=1).filter(lambda text: text.strip()))
    for text in (cut, more):
        with pytest.raises(BadInput) as error:
            read_token(text)
        assert error.value.code == "bad-token"


@given(st.text() | st.text().map(lambda text: PREFIX + text) | st.binary().map(sealed))
def test_junk_is_no_token_and_is_not_quoted(text: str) -> None:
    with pytest.raises(BadInput) as error:
        read_token(text)
    assert error.value.code == "bad-token"
    assert len(text.strip()) < 20 or text.strip() not in str(error.value)


@pytest.mark.parametrize(
    "addresses",
    [
        b"",
        b"db.example",
        b"db.example:0",
        b"db.example:99999",
        b":8443",
        b"unix:/tmp/x",
        b"a:1  b:2",
        b"a:1 ",
        b"a:01",
        b"A_\x1b[2J:1",
        "é.example:1".encode(),
        b" ".join(b"a:%d" % port for port in range(1, MOST_ADDRESSES + 2)),
        b"[2001:DB8::1]:443",
    ],
)
def test_a_token_whose_sum_is_right_and_whose_addresses_are_not_is_refused(addresses: bytes) -> None:
    fixed = body()[: SECRET + 32 + 5]
    assert read_token(sealed(fixed + b"db.example:8443 [2001:db8::1]:443")) == TOKEN
    with pytest.raises(BadInput) as error:
        read_token(sealed(fixed + addresses))
    assert error.value.code == "bad-token"


def test_a_moment_that_no_calendar_has_is_refused() -> None:
    with pytest.raises(BadInput, match="no sense"):
        read_token(sealed(body()[: SECRET + 32] + b"\xff" * 5 + b"a:1"))


def test_another_version_is_told_as_such() -> None:
    with pytest.raises(BadInput, match="another version"):
        read_token(TOKEN.text.replace("peerauth1-", "peerauth2-"))


@pytest.mark.parametrize("address", ["unix:/tmp/x", ":8443", "host:0"])
def test_a_token_is_made_only_of_addresses_that_another_machine_can_reach(address: str) -> None:
    with pytest.raises(BadInput, match="another machine"):
        make_token(b"s" * SECRET, PIN, LATER, [parse_address(address)])
    with pytest.raises(BadInput, match="1 to 8"):
        make_token(b"s" * SECRET, PIN, LATER, [])


def test_the_derivations_are_those_of_the_protocol() -> None:
    """HKDF-SHA256 by hand (RFC 5869), so that what docs/protocol.md says is enough for another implementation."""
    extracted = hmac.digest(bytes(32), b"s" * SECRET, "sha256")
    assert TOKEN.id == hmac.digest(extracted, b"peerauth invitation 1 id\x01", "sha256")[:8]
    key = Ed25519PrivateKey.from_private_bytes(hmac.digest(extracted, b"peerauth invitation 1 key\x01", "sha256"))
    assert TOKEN.verifier == key.public_key().public_bytes_raw()
    said = b"peerauth join 1\0" + CHANNEL + b"j" * 32 + b"p" * 32 + TOKEN.id
    assert TOKEN.prove(CHANNEL, JOINER) == key.sign(said)


def test_the_secret_is_in_neither_of_what_is_public_nor_shown() -> None:
    for public in (TOKEN.id, TOKEN.verifier, TOKEN.prove(CHANNEL, JOINER), repr(TOKEN).encode()):
        assert TOKEN.secret[:4] not in public


OTHER = make_token(b"t" * SECRET, PIN, LATER, [Address("db.example", 8443)])


@pytest.mark.parametrize(
    "said",
    [
        statement(b"d" * 32, JOINER, PIN, TOKEN.id),
        statement(CHANNEL, Fingerprint(b"k" * 32), PIN, TOKEN.id),
        statement(CHANNEL, JOINER, Fingerprint(b"q" * 32), TOKEN.id),
        statement(CHANNEL, JOINER, PIN, OTHER.id),
        statement(CHANNEL, PIN, JOINER, TOKEN.id),
    ],
    ids=["channel", "joiner", "inviter", "invitation", "swapped"],
)
def test_a_proof_is_good_for_one_channel_two_certificates_and_one_invitation(said: bytes) -> None:
    proof = TOKEN.prove(CHANNEL, JOINER)
    assert is_proof(proof, TOKEN.verifier, statement(CHANNEL, JOINER, PIN, TOKEN.id))
    assert not is_proof(proof, TOKEN.verifier, said)
    assert not is_proof(proof, OTHER.verifier, statement(CHANNEL, JOINER, PIN, TOKEN.id))


@given(st.binary(max_size=100), st.binary(max_size=40))
def test_junk_is_no_proof_whatever_the_verifier(proof: bytes, verifier: bytes) -> None:
    said = statement(CHANNEL, JOINER, PIN, TOKEN.id)
    assert not is_proof(proof, TOKEN.verifier, said)
    assert not is_proof(TOKEN.prove(CHANNEL, JOINER), verifier, said)


@given(st.integers(0, 63), st.integers(1, 255))
def test_a_proof_with_a_byte_changed_is_none(at: int, change: int) -> None:
    proof = bytearray(TOKEN.prove(CHANNEL, JOINER))
    proof[at] ^= change
    assert not is_proof(bytes(proof), TOKEN.verifier, statement(CHANNEL, JOINER, PIN, TOKEN.id))


def test_a_token_keeps_its_expiry_to_the_second_in_any_zone() -> None:
    local = LATER.astimezone().replace(microsecond=999)
    assert make_token(b"s" * SECRET, PIN, local, TOKEN.addresses).expires == LATER
    assert LATER - timedelta(seconds=1) != read_token(TOKEN.text).expires == LATER
