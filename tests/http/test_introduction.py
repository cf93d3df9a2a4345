"""What a backend is told about the caller, and that nobody else can tell it."""

from __future__ import annotations

import base64
import re
from urllib.parse import unquote

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from peerauth.http.errors import BadRequest
from peerauth.http.introduction import DEFAULT_HEADERS, HEADERS, Introduction, is_claim, overrides_method
from peerauth.trust.certificate import Certificate
from peerauth.trust.peers import Peer, PeerSettings
from tests.support.dropin import DAY, NOW
from tests.support.engine import identity

ALICE = identity("alice").certificate


def shown(subject: list[tuple[str, str]], names: list[x509.GeneralName]) -> Certificate:
    """A certificate that says this of its holder."""
    key = ec.generate_private_key(ec.SECP256R1())
    parts = [x509.NameAttribute(x509.ObjectIdentifier(oid), text, _validate=False) for oid, text in subject]
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(parts))
        .issuer_name(x509.Name(parts))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Certificate(made.public_bytes(Encoding.DER))


EVERY = frozenset(HEADERS)


def told(
    chosen: frozenset[str] = EVERY,
    *,
    tags: tuple[str, ...] = (),
    certificate: Certificate = ALICE,
    remote: str = "10.1.2.3",
    host: bytes = b"db-1",
    own: bytes = b"",
) -> dict[str, str]:
    peer = Peer("alice", (certificate.fingerprint,), PeerSettings(tags=tags))
    lines = Introduction(peer, certificate.fingerprint, certificate.der, remote, chosen, own=own).lines(host)
    assert not lines or lines.endswith(b"\r\n")
    fields = [line.partition(": ")[::2] for line in lines.decode("ascii").split("\r\n")[:-1]]
    assert len({name for name, _ in fields}) == len(fields)
    return dict(fields)


def test_what_is_said_unless_something_else_is_chosen() -> None:
    assert told(DEFAULT_HEADERS, tags=("oncall", "ops")) == {
        "X-Peer-Name": "alice",
        "X-Peer-Fingerprint": str(ALICE.fingerprint),
        "X-Peer-Tags": "oncall,ops",
        "X-Forwarded-For": "10.1.2.3",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "db-1",
    }


def test_nothing_that_is_not_chosen_is_said() -> None:
    assert told(frozenset()) == {}
    assert told(frozenset(["X-Peer-Name"])) == {"X-Peer-Name": "alice"}
    assert set(told(EVERY, tags=("a",))) == EVERY


@pytest.mark.parametrize(
    ("remote", "forwarded_for", "forwarded"),
    [
        ("10.1.2.3", "10.1.2.3", "for=10.1.2.3;host=db-1;proto=https"),
        ("2001:db8::1", "2001:db8::1", 'for="[2001:db8::1]";host=db-1;proto=https'),
        ("::ffff:10.1.2.3", "10.1.2.3", "for=10.1.2.3;host=db-1;proto=https"),
        ("fe80::1%eth0", "fe80::1", 'for="[fe80::1]";host=db-1;proto=https'),
        ("", None, "for=unknown;host=db-1;proto=https"),
    ],
)
def test_where_the_caller_is(remote: str, forwarded_for: str | None, forwarded: str) -> None:
    fields = told(remote=remote)
    assert fields.get("X-Forwarded-For") == forwarded_for
    assert fields["Forwarded"] == forwarded


def test_the_host_is_that_of_each_request() -> None:
    peer = Peer("alice", (ALICE.fingerprint,))
    introduction = Introduction(peer, ALICE.fingerprint, ALICE.der, "", frozenset(["X-Forwarded-Host", "Forwarded"]))
    assert introduction.lines(b"[::1]:8443") == (
        b'X-Forwarded-Host: [::1]:8443\r\nForwarded: for=unknown;host="[::1]:8443";proto=https\r\n'
    )
    assert introduction.lines(b"db-1") == b"X-Forwarded-Host: db-1\r\nForwarded: for=unknown;host=db-1;proto=https\r\n"
    assert introduction.lines(b"db-1") is introduction.lines(b"db-1")
    assert introduction.lines(b"") == b"Forwarded: for=unknown;proto=https\r\n"
    with pytest.raises(BadRequest):
        introduction.lines(b"db-1\r\nX-Peer-Name: bob")
    assert introduction.lines(b"db-1").startswith(b"X-Forwarded-Host: db-1\r\n")


def test_client_cert_is_the_certificate_as_rfc_9440_has_it() -> None:
    value = told()["Client-Cert"]
    assert (value[0], value[-1]) == (":", ":")
    assert base64.b64decode(value[1:-1], validate=True) == ALICE.der


def test_envoys_header_has_envoys_form() -> None:
    alice = shown(
        [("2.5.4.3", "alice, of db"), ("2.5.4.10", 'say "hi"')],
        [x509.UniformResourceIdentifier("spiffe://example/alice"), x509.DNSName("alice"), x509.DNSName("alice.example")],
    )
    value = told(certificate=alice, own=ALICE.der)["X-Forwarded-Client-Cert"]
    assert re.fullmatch(
        r'By=dns:alice;Hash=[0-9a-f]{64};Cert="[A-Za-z0-9%.~_-]+";Subject="O=say \\22hi\\22,CN=alice\\, of db";'
        r"URI=spiffe://example/alice;DNS=alice;DNS=alice\.example",
        value,
    )
    assert f"Hash={alice.fingerprint.digest.hex()};" in value
    assert f'Cert="{alice.pem}"' in unquote(value)


NASTY = 'a"b\\c\r\nX-Peer-Name: bob;,=\x00ü\u2028'


def test_what_a_certificate_says_ends_no_line_and_no_quotes() -> None:
    nasty = shown(
        [("2.5.4.3", NASTY), ("1.2.840.113549.1.9.1", NASTY)],
        [x509.UniformResourceIdentifier("a://\r\nX-Peer-Name: bob,By=x;Hash=y"), x509.DNSName('a"\r\n;,=b')],
    )
    value = told(certificate=nasty, own=nasty.der)["X-Forwarded-Client-Cert"]
    assert value.isprintable()
    assert value.isascii()
    plain = re.sub(r'"[^"]*"', "", value)
    assert '"' not in plain
    assert [part.partition("=")[0] for part in plain.split(";")] == ["By", "Hash", "Cert", "Subject", "URI", "DNS"]
    assert "," not in plain


def test_a_thousand_names_do_not_make_a_header_of_a_thousand_names() -> None:
    many = shown([], [x509.DNSName(f"name-{number}.example") for number in range(1000)])
    assert told(certificate=many)["X-Forwarded-Client-Cert"].count(";DNS=") == 32


@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=4))
def test_tags_come_apart_as_they_were_put_together(tags: list[str]) -> None:
    value = told(frozenset(["X-Peer-Tags"]), tags=tuple(tags))["X-Peer-Tags"]
    assert value.isascii()
    assert value.isprintable()
    assert [unquote(tag) for tag in value.split(",")] == tags


def test_without_tags_there_is_no_such_line() -> None:
    assert "X-Peer-Tags" not in told()


SPELLINGS = [str.lower, str.upper, str.title, lambda name: name.replace("-", "_"), lambda name: name.replace("-", ".")]


@pytest.mark.parametrize("spell", SPELLINGS)
@pytest.mark.parametrize(
    "name",
    [
        *HEADERS,
        "X-Peer-Note",
        "X-Real-IP",
        "X-Forwarded-Port",
        "X-Forwarded-Tls-Client-Cert-Info",
        "X-Forwarded-User",
        "X-Original-URL",
        "X-Rewrite-URL",
        "Client-Cert-Chain",
        "SSL-Client-Cert",
        "X-SSL-Client-Verify",
        "X-SSL-CERT",
        "X-ARR-ClientCert",
        "X-Amzn-Mtls-Clientcert",
        "CF-Connecting-IP",
        "True-Client-IP",
        "Remote-User",
        "X-Remote-User",
        "X-WebAuth-User",
    ],
)
def test_a_claim_is_known_in_every_spelling(name: str, spell: object) -> None:
    assert callable(spell)
    assert is_claim(spell(name).encode())
    assert is_claim(re.sub("-", "~", name, count=1).encode())


OTHERS = (
    "Host Accept Cookie Authorization X-Request-Id X-Peers X-Client-Version Client XPeerName Cert Traceparent X-CSRF-Token "
    "X-Requested-With Origin Forward X-Hub-Signature-256 Sec-WebSocket-Key Range ETag Content-Type X-Api-Key User-Agent"
)


@pytest.mark.parametrize("name", OTHERS.split())
def test_other_fields_are_no_claims(name: str) -> None:
    assert not is_claim(name.encode())
    assert not overrides_method(name.encode())


@pytest.mark.parametrize(
    "name", [b"X-HTTP-Method-Override", b"x_http_method_override", b"X-HTTP-METHOD", b"X-Method-Override"]
)
def test_fields_that_change_the_method(name: bytes) -> None:
    assert overrides_method(name)
    assert not is_claim(name)
