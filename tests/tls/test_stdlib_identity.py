"""A drop-in context presents the identity that is on the disk, also when that changes; nothing else changes with it."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest

from peerauth.trust.decision import Code
from peerauth.trust.identity import Identity, KeyType, new_key, self_signed
from tests.support.dropin import NOW, Bio, Node, Nodes, admitted, ask, meet, mint, refusal

P256, RSA = KeyType.P256, KeyType.RSA3072


def follows(node: Node) -> dict[str, Callable[[], object]]:
    """The option that makes a context follow this node's files."""
    return {"identity": lambda: (node.cert.read_bytes(), node.key.read_bytes())}


def becomes(node: Node, identity: Identity) -> Identity:
    node.key.write_bytes(identity.key_pem())
    node.cert.write_text(identity.certificate.pem)
    return identity


def fresh(name: str, kind: KeyType = P256) -> Identity:
    return self_signed(new_key(kind), name, NOW)


def knows(node: Node, name: str, identity: Identity) -> None:
    (node.directory.path / f"{name}.crt").write_text(identity.certificate.pem)


@pytest.mark.parametrize(("before", "after"), [(P256, P256), (P256, RSA), (RSA, P256)])
def test_server_presents_its_next_identity_to_the_next_connection(node: Nodes, before: KeyType, after: KeyType) -> None:
    """Also one with a key of another kind, which OpenSSL would keep beside the old one."""
    a, b = node("a", fresh("a", before)), node("b")
    a.knows(b)
    b.knows(a)
    server = a.server(**follows(a))
    assert admitted(server, b.client("a"), "b")

    new = becomes(a, fresh("a", after))

    refusal(meet(server, b.client("a"))[1], Code.UNKNOWN)
    knows(b, "a", new)
    assert admitted(server, b.client("a"), "b")


def test_client_presents_its_next_identity_to_the_next_server(node: Nodes) -> None:
    a, b = node("a"), node("b")
    b.knows(a)
    server, client = a.knows(b).server(), b.client("a", **follows(b))
    assert admitted(server, client, "b")

    new = becomes(b, fresh("b"))

    refusal(meet(server, client)[0], Code.UNKNOWN)
    knows(a, "b", new)
    assert admitted(server, client, "b")


def test_the_same_on_memory_bios(node: Nodes) -> None:
    a, b = node("a"), node("b")
    b.knows(a)
    server, client = a.knows(b).server(**follows(a)), b.client("a", **follows(b))
    assert Bio(server, client).shake() == (None, None)
    ours, theirs = becomes(a, fresh("a")), becomes(b, fresh("b"))
    knows(a, "b", theirs)
    knows(b, "a", ours)

    bio = Bio(server, client)

    assert bio.shake() == (None, None)
    assert bio.server.getpeercert(True) == theirs.certificate.der
    assert bio.client.getpeercert(True) == ours.certificate.der


def test_an_open_connection_goes_on(node: Nodes) -> None:
    a, b = node("a"), node("b")
    b.knows(a)
    server, client = a.knows(b).server(**follows(a)), b.client("a")
    open_one = Bio(server, client)
    assert open_one.shake() == (None, None)
    becomes(a, fresh("a"))
    refusal(Bio(server, client).shake()[1], Code.UNKNOWN)

    open_one.client.write(b"still")
    assert open_one.server.read(10) == b"still"


def test_who_is_admitted_does_not_change_with_it(node: Nodes) -> None:
    """The heir's pool is filled with everyone; strangers, the removed, and what a peer has signed are refused as before."""
    authority = mint("root", ca=True)
    a, b, gone, stranger, root = node("a"), node("b"), node("gone"), node("stranger"), node("root", authority)
    signed = node("signed", mint("b", issuer=authority))
    server = a.knows(b, gone, root).server(**follows(a))
    new = becomes(a, fresh("a"))
    a.forgets(gone)
    for who in (b, gone, stranger, root, signed):
        knows(who, "a", new)

    assert [admitted(server, who.client("a"), who.name) for who in (b, root)] == [True, True]
    for who in (gone, stranger, signed):
        refusal(meet(server, who.client("a"))[0], Code.UNKNOWN)


def test_what_was_set_on_the_context_stays(node: Nodes) -> None:
    """HTTP/2 is agreed on by ALPN, which OpenSSL asks the context for in the middle of the handshake."""
    a, b = node("a"), node("b")
    b.knows(a)
    server = a.knows(b).server(min_tls="1.2", **follows(a))
    server.set_alpn_protocols(["h2", "http/1.1"])
    server.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")
    named: list[str] = []
    server.sni_callback = lambda _, name, __: named.append(name)
    becomes(a, fresh("a"))
    b.forgets(a)
    knows(b, "a", becomes(a, fresh("a")))
    client = b.client("a", min_tls="1.2")
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_alpn_protocols(["h2"])

    _, agreed = meet(server, client, call=lambda tls: (ask(tls), tls.selected_alpn_protocol(), (tls.cipher() or ("",))[0]))

    assert agreed == (b"b", "h2", "ECDHE-ECDSA-CHACHA20-POLY1305")
    assert named == ["example.test"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_of_a_server_from_before_are_resumed_and_decided_about(node: Nodes, version: ssl.TLSVersion) -> None:
    a, b = node("a"), node("b")
    b.knows(a)
    server, client = a.knows(b).server(min_tls="1.2", **follows(a)), b.client("a", min_tls="1.2")
    client.maximum_version = version

    def keep(tls: ssl.SSLSocket) -> tuple[bytes, bool | None, ssl.SSLSession | None]:
        return ask(tls), tls.session_reused, tls.session

    _, (_, _, session) = meet(server, client, call=keep)
    becomes(a, fresh("a"))
    _, (answer, reused, session) = meet(server, client, call=keep, session=session)
    assert (answer, reused) == (b"b", True)

    a.forgets(b)
    refusal(meet(server, client, call=keep, session=session)[0], Code.UNKNOWN)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_of_a_client_are_good_for_its_context_before_and_after(node: Nodes, version: ssl.TLSVersion) -> None:
    a, b = node("a"), node("b")
    b.knows(a)
    server, client = a.knows(b).server(min_tls="1.2"), b.client("a", min_tls="1.2", **follows(b))
    client.maximum_version = version

    def keep(tls: ssl.SSLSocket) -> tuple[bytes, bool | None, ssl.SSLContext, ssl.SSLSession | None]:
        return ask(tls), tls.session_reused, tls.context, tls.session

    _, (_, _, _, session) = meet(server, client, call=keep)
    knows(a, "b", becomes(b, fresh("b")))
    for reused in (False, True, True):  # the first: the server resumes a session of one whom it knows no more, and refuses
        served, answer = meet(server, client, call=keep, session=session)
        if reused:
            assert answer[:3] == (b"b", True, client)
        else:
            refusal(served, Code.UNKNOWN)
            _, (*_, session) = meet(server, client, call=keep)


def test_a_pair_that_does_not_fit_leaves_the_one_from_before(node: Nodes) -> None:
    """Key and certificate are two files; when both are there, the next connection has them."""
    a, b = node("a"), node("b")
    b.knows(a)
    server = a.knows(b).server(**follows(a))
    new = fresh("a")
    a.key.write_bytes(new.key_pem())
    assert admitted(server, b.client("a"), "b")
    a.cert.write_text(new.certificate.pem)
    knows(b, "a", new)
    assert admitted(server, b.client("a"), "b")


def test_without_being_told_of_identities_a_context_keeps_what_it_has(node: Nodes) -> None:
    a, b = node("a"), node("b")
    b.knows(a)
    server = a.knows(b).server()
    becomes(a, fresh("a"))
    assert admitted(server, b.client("a"), "b")
