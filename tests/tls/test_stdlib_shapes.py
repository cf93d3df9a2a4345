"""A pin is for exactly one certificate, whatever that says of itself: the drop-in context and OpenSSL's ideas of shape.

Each refusal has an accepted twin in the same test, which differs in one fact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from peerauth.trust.decision import Code
from peerauth.trust.identity import Identity
from tests.support.dropin import Nodes, admitted, meet, mint, refusal, version_one


def shapes() -> Iterator[tuple[str, Callable[[], Identity]]]:
    authority = mint("an authority", ca=True)
    yield "issued by a CA", lambda: mint("leaf", issuer=authority)
    yield "X.509 v1", lambda: version_one("leaf")
    yield "CA:TRUE", lambda: mint("leaf", ca=True)
    yield "no basicConstraints", lambda: mint("leaf", ca=None)
    yield "same subject, no key identifiers", lambda: mint("localhost")


SHAPES = dict(shapes())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("min_tls", ["1.2", "1.3"])
def test_pinned_leaf_of_any_shape_is_admitted_and_its_like_is_not(node: Nodes, shape: str, min_tls: str) -> None:
    """In both roles. The like has the same shape, subject and issuer, and another key."""
    plain = node("plain")
    odd, like = node("odd", SHAPES[shape]()), node("odd", SHAPES[shape]())
    odd.knows(plain)
    like.knows(plain)
    plain.knows(odd)
    if "same subject" in shape:  # FACTS: without key identifiers only the first of a pool would be admitted
        for number in range(3):
            plain.knows(node(f"other-{number}", SHAPES[shape]()))

    as_client = plain.server(min_tls=min_tls)
    assert admitted(as_client, odd.client("plain", min_tls=min_tls), "odd")
    refusal(meet(as_client, like.client("plain"))[0], Code.UNKNOWN)
    assert admitted(odd.server(min_tls=min_tls), plain.client("odd", min_tls=min_tls), "plain")
    text = refusal(meet(like.server(), plain.client("odd"))[1], Code.UNKNOWN)
    assert like.pin in text


@pytest.mark.parametrize(
    ("extended", "as_client", "as_server"),
    [
        ([ExtendedKeyUsageOID.CLIENT_AUTH], True, False),
        ([ExtendedKeyUsageOID.SERVER_AUTH], False, True),
        ([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH], True, True),
    ],
)
def test_openssl_insists_on_the_extended_key_usage_of_a_pinned_leaf(
    node: Nodes, extended: list[object], as_client: bool, as_server: bool
) -> None:
    """Where OpenSSL is stricter than the pin: a certificate for the other role alone. The text has its reason."""
    plain, odd = node("plain"), node("odd", mint("odd", extended=extended))  # type: ignore[arg-type]
    odd.knows(plain)
    plain.knows(odd)
    served, called = (
        meet(plain.server(), odd.client("plain"))[0],
        meet(odd.server(), plain.client("odd"))[1],
    )

    for outcome, fine in ((served, as_client), (called, as_server)):
        if fine:
            assert isinstance(outcome, bytes), outcome
        else:
            assert "purpose" in refusal(outcome, Code.MALFORMED)


@pytest.mark.parametrize("pinned_in_chain", [True, False])
def test_what_a_pinned_ca_true_peer_has_signed_is_refused(node: Nodes, pinned_in_chain: bool) -> None:
    """Through the pool it goes, as OpenSSL trusts the signer; the decision on the exact leaf stops it. Both roles."""
    plain, ca = node("plain"), node("ca", mint("ca", ca=True))
    minted = node("minted", mint("minted", issuer=ca.identity))
    for other in (ca, minted):
        other.knows(plain)
    plain.knows(ca)
    if pinned_in_chain:
        minted.cert.write_text(minted.identity.certificate.pem + ca.identity.certificate.pem)

    assert admitted(plain.server(), ca.client("plain"), "ca")
    served = refusal(meet(plain.server(), minted.client("plain"))[0], Code.UNKNOWN)
    assert admitted(ca.server(), plain.client("ca"), "plain")
    called = refusal(meet(minted.server(), plain.client("ca"))[1], Code.UNKNOWN)
    for text in (served, called):
        assert minted.pin in text, "the decision, not OpenSSL, must have refused: only it knows the fingerprint"
