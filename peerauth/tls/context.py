"""The one door to pyOpenSSL contexts.

Nothing is loaded into a certificate store and no list of CA names is sent: who is trusted is decided on the exact leaf by
the session that the verify callback finds on the connection. Without a session there, or with one that cannot decide, the
answer is no. There are two exceptions, in which a stranger's handshake is completed and code that knows it for a stranger
goes on with it; nothing else is done for it. Where ALPN has chosen `peerauth/1`, and the session is meant to hear anyone,
whoever proves to hold a key is heard. Where HTTP is spoken, and the session was made to explain, anybody is told why not.
"""

from __future__ import annotations

from typing import Any, Literal

from cryptography import x509
from cryptography.hazmat.bindings.openssl.binding import Binding
from OpenSSL import SSL, crypto

from peerauth.errors import BadInput
from peerauth.trust.decision import Admitted, Code, Refused
from peerauth.trust.identity import Identity

Context = SSL.Context  # for those who carry one without knowing what it is
MinimumVersion = Literal["1.2", "1.3"]
HTTP_1_1 = (b"http/1.1",)
CONTROL = b"peerauth/1"  # under it alone may a stranger's handshake be completed: docs/protocol.md
_FAMILY = b"peerauth/"

_TICKET_SECONDS = 7200
# What our sessions are for, SSL_CTX_set_session_id_context(3); the number of an epoch comes behind it.
_SESSIONS = b"peerauth"
_TLS12_SUITES = b"ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL"
_DEMANDED = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
_MODE_RELEASE_BUFFERS = 0x10  # SSL_CTX_set_mode(3): an idle connection keeps no 34 KB of buffers

# The errors by which OpenSSL itself notices what we refuse for; refusing at that moment makes it send that alert.
# X509_STORE_CTX_get_error(3).
_SPEAKING_ERROR = {Code.EXPIRED: 10, Code.NOT_YET_VALID: 9, Code.WEAK_KEY: 66}


class Presented:
    """An identity to be presented on single connections; made once, for all that begin while it is ours.

    pyOpenSSL's own way, `Connection.use_privatekey`, makes a new key each time; OpenSSL's key, once made, is good for all.
    """

    __slots__ = ("_certificate", "_identity", "_key")

    def __init__(self, identity: Identity) -> None:
        """Raises BadInput("bad-identity"), so that no connection has to find out."""
        self._identity = identity
        self._certificate = crypto.X509.from_cryptography(x509.load_der_x509_certificate(identity.certificate.der))
        self._key = crypto.PKey.from_cryptography_key(identity.key)
        try:
            _present(_context(SSL.TLS_SERVER_METHOD, "1.3"), identity)
        except SSL.Error as error:
            raise BadInput("bad-identity", "OpenSSL cannot present this key and certificate") from error

    def on(self, connection: SSL.Connection) -> None:
        """Present it on this connection, whose handshake has not begun."""
        try:
            lib, handle = Binding.lib, connection._ssl  # noqa: SLF001 - as in begin_epoch
            done = lib.SSL_use_certificate(handle, self._certificate._x509) == 1  # noqa: SLF001
            done = done and lib.SSL_use_PrivateKey(handle, self._key._pkey) == 1  # noqa: SLF001
        except (AttributeError, TypeError):  # another pyOpenSSL or cryptography
            done = False
        if not done:
            connection.use_certificate(x509.load_der_x509_certificate(self._identity.certificate.der))
            connection.use_privatekey(self._identity.key)


def server_context(
    identity: Identity | None, *, min_tls: MinimumVersion = "1.3", alpn: tuple[bytes, ...] = (), explains: bool = False
) -> SSL.Context:
    """A context for accepting connections that must present a certificate. `alpn`: what is spoken here, the best first.

    Without an identity each connection is given one of its own (`Presented`), which may then change while the context stays.
    `explains`: a certificate is asked for and not demanded; who presents none is refused by the session, in words.
    """
    context = _context(SSL.TLS_SERVER_METHOD, min_tls)
    if identity is not None:
        _present(context, identity)
    context.set_verify(SSL.VERIFY_PEER if explains else _DEMANDED, _verify)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # tickets only: nothing is kept here for a client
    context.set_session_id(_SESSIONS)
    context.set_timeout(_TICKET_SECONDS)
    if alpn:
        context.set_alpn_select_callback(lambda connection, offered: _select(connection, alpn, offered))
    return context


def _select(connection: SSL.Connection, alpn: tuple[bytes, ...], offered: list[bytes]) -> Any:  # noqa: ANN401 - or none
    """What is to be spoken; nothing where the client asks for something else, which most servers do not mind.

    It must not raise: pyOpenSSL gives the exception to whichever connection of the context comes next.
    """
    chosen = next((protocol for protocol in alpn if protocol in offered), None)
    if chosen == CONTROL:
        demand(connection)  # this comes before the request for a certificate: RFC 8446 section 2
    if chosen is not None:
        return chosen
    session = connection.get_app_data()
    if session is not None and any(protocol.startswith(_FAMILY) for protocol in offered):
        session.other_version = True
    return SSL.NO_OVERLAPPING_PROTOCOLS


def demand(connection: SSL.Connection) -> None:
    """Let TLS itself refuse who presents no certificate on this connection, whatever its context does."""
    if not connection.get_verify_mode() & SSL.VERIFY_FAIL_IF_NO_PEER_CERT:
        connection.set_verify(_DEMANDED, _verify)


def begin_epoch(context: SSL.Context, number: int) -> bool:
    """Let no ticket of another epoch be resumed by connections that this context makes from now on.

    OpenSSL takes a ticket whose session id context is another one for none at all and shakes hands in full, in every
    version of TLS (`ssl_get_prev_session`). The ticket keys stay, so processes that share them by a fork go on doing so.

    pyOpenSSL lets a context that was used not be changed, because another thread might use it meanwhile: call this while
    no other thread makes a connection, for which the value is copied. False when it cannot be done.
    """
    value = _SESSIONS + number.to_bytes(8, "big")
    try:
        return bool(Binding.lib.SSL_CTX_set_session_id_context(context._context, value, len(value)) == 1)  # noqa: SLF001
    except (AttributeError, TypeError):  # another pyOpenSSL or cryptography
        return False


def client_context(
    identity: Identity | None, *, min_tls: MinimumVersion = "1.3", alpn: tuple[bytes, ...] = ()
) -> SSL.Context:
    """A context for connecting; without an identity no certificate is presented."""
    context = _context(SSL.TLS_CLIENT_METHOD, min_tls)
    if identity is not None:
        _present(context, identity)
    context.set_verify(SSL.VERIFY_PEER, _verify)
    if alpn:
        context.set_alpn_protos(list(alpn))
    return context


def probing_context(identity: Identity, *, min_tls: MinimumVersion = "1.3", alpn: tuple[bytes, ...] = ()) -> SSL.Context:
    """A context for connecting with a `Probe`, which is told what happens in the handshake and after it."""
    context = client_context(identity, min_tls=min_tls, alpn=alpn)
    context.set_info_callback(_tell)
    return context


def _tell(connection: SSL.Connection, where: int, value: int) -> None:
    """SSL_CTX_set_info_callback(3). It must not raise: nobody would hear of it."""
    probe = connection.get_app_data()
    if probe is None:
        return
    if where & SSL.SSL_CB_ALERT and where & SSL.SSL_CB_READ:
        probe.hear_alert(value & 0xFF)
    elif where & SSL.SSL_CB_LOOP:
        probe.note(connection.get_state_string())


def _context(method: int, min_tls: MinimumVersion) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(SSL.TLS1_2_VERSION if min_tls == "1.2" else SSL.TLS1_3_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.set_cipher_list(_TLS12_SUITES)
    context.set_mode(_MODE_RELEASE_BUFFERS)
    store = context.get_cert_store()
    assert store is not None
    store.set_flags(crypto.X509StoreFlags.CRL_CHECK)  # so that OpenSSL has something to ask about every leaf: _verify
    return context


def _present(context: SSL.Context, identity: Identity) -> None:
    context.use_certificate(x509.load_der_x509_certificate(identity.certificate.der))
    context.use_privatekey(identity.key)


def _verify(connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int) -> bool:
    """OpenSSL asks about each certificate, with an error or when it is content; only the leaf (depth 0) matters.

    A no is heard as `unknown_ca` when there is an error, and as `internal_error` when there is none; a leaf that came with
    its issuers has none of its own, except that there is no revocation list for it, which is true of every leaf.
    """
    if depth > 0:
        return True
    session = connection.get_app_data()
    if session is None:
        return False
    if isinstance(session.decision, Admitted):
        return True  # the same leaf: OpenSSL asks three times or more, and `Session.confirm` decides again
    decision = session.judge(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate))
    if isinstance(decision, Admitted) or session.hears_anyone or session.explains():
        return True
    speaking = _SPEAKING_ERROR.get(decision.code) if isinstance(decision, Refused) else None
    # A refusal by date is spoken when OpenSSL comes to the dates; `ok` marks its last question, where no is no.
    return speaking is not None and error != speaking and not ok
