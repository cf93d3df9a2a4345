"""Building a drop-in context: the identity, TLS versions and suites.

Each refusal has an accepted twin in the same test, which differs in one fact.
"""

from __future__ import annotations

import ssl

import pytest

from peerauth.errors import BadInput
from peerauth.tls.stdlib import server_context
from tests.support.dropin import Nodes, admitted, meet


@pytest.mark.parametrize("min_tls", ["1.2", "1.3"])
def test_min_tls_bounds_the_version(node: Nodes, min_tls: str) -> None:
    a, b = node("a"), node("b")
    a.knows(b)
    old = b.knows(a).client("a", min_tls="1.2")
    old.maximum_version = ssl.TLSVersion.TLSv1_2

    _, answer = meet(a.server(min_tls=min_tls), old)

    assert answer == b"b" if min_tls == "1.2" else isinstance(answer, ssl.SSLError)


def test_tls_1_2_has_forward_secrecy_and_aead_only(node: Nodes) -> None:
    suites = {suite["name"] for suite in node("a").server(min_tls="1.2").get_ciphers() if suite["protocol"] != "TLSv1.3"}

    assert suites
    assert all(name.startswith("ECDHE-") and ("GCM" in name or "POLY1305" in name) for name in suites)


@pytest.mark.parametrize("passphrase", [b"sesame", lambda: b"sesame"])
def test_encrypted_key_is_opened_by_its_passphrase(node: Nodes, passphrase: object) -> None:
    a, b = node("a"), node("b")
    a.knows(b)
    b.knows(a)
    a.key.write_bytes(a.identity.key_pem(b"sesame"))

    assert admitted(a.server(passphrase=passphrase), b.client("a"), "b")
    with pytest.raises(BadInput) as none:
        a.server()
    assert none.value.code == "passphrase-needed"
    with pytest.raises(BadInput) as wrong:
        a.server(passphrase=b"open")
    assert wrong.value.code == "bad-identity"


def test_identity_that_is_missing_or_mixed_up_is_explained(node: Nodes) -> None:
    a, b = node("a"), node("b")
    for key in (b.key, a.home / "missing.key"):
        with pytest.raises(BadInput, match="cannot be used as an identity") as error:
            server_context(a.cert, key, peers=a.directory.refresh, certificates=a.certificates)
        assert error.value.code == "bad-identity"
    a.server()


def test_name_of_a_peer_is_checked(node: Nodes) -> None:
    a = node("a")
    with pytest.raises(BadInput, match="cannot be a name"):
        a.client("../a")
    a.client("a")
