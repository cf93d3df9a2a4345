"""A drop-in `ssl.SSLContext`, for libraries and servers that do their own TLS with one.

    context = server_context("db-1.crt", "db-1.key", peers=directory.refresh, certificates=pinned)
    context = client_context("me.crt", "me.key", peer="db-1", peers=directory.refresh, certificates=pinned)

Each is a plain `ssl.SSLContext` whose `sslsocket_class` and `sslobject_class` are ours. The rules:

1. OpenSSL's pool holds pinned certificates, each good for itself alone (X509_V_FLAG_PARTIAL_CHAIN), never the
   system's. That turns strangers away early and decides nothing: what a CA:TRUE peer has signed gets through it.
2. `decide` is asked about the exact leaf after every handshake, a resumed one too. Whatever a library loads into
   the context or weakens on it (`verify_mode`, CAs, `check_hostname`), only that decision opens a connection.
3. Before it, no byte is read or written. A read or write that would make OpenSSL shake hands by the way goes
   through the decided handshake first. After a refusal the socket is closed and every further call is refused.
4. A client means one peer and accepts that peer's pins alone (promise 9). The host's name is not compared, so
   `check_hostname` is False: the pin is stronger than the name, and tunnels and addresses have none. requests and
   urllib3 compare it themselves; `assert_hostname=False` stops them where a certificate does not name its host.
5. A change of the peer set counts for the next handshake, at most `FRESH_S` seconds later, and for an open connection
   when it is used: before a write and after a read it is decided about again, once in `AGAIN_S` seconds. Whoever is
   not admitted any more is closed, and what was just read from there is thrown away. With `follow`, a socket that nobody
   uses is shut down, too, and whoever waits for it is woken by PeerRefused; of others, `when_removed` tells.
6. Another identity on the disk is presented by the next connection (`heir`), where `identity` tells of it.
7. A server's handshake on a blocking socket without a timeout ends after the node's `handshake_timeout`.

Where it stops (more, and recipes, in docs/drop-in.md):

- Filling the pool is quadratic in OpenSSL 3.0: 20 000 peers take 17 s. `peerauth serve` has no pool.
- A stranger gets the alert unknown_ca, but none from asyncio, and none where rule 2 refused him: there the
  connection just ends. What a server's OpenSSL has refused has no fingerprint in our message: it does not tell.
- A removed peer's open connection on memory BIOs (asyncio, uvloop) that nobody uses stays open until somebody does, unless
  the program has asked for it by `when_removed`: the connection's own socket is not ours.
- `pin = "key"` admits only certificates that are in `peers/`. `max_connections` is not counted. A peer with `from`
  is refused on memory BIOs (asyncio, uvloop, uvicorn, aiohttp), which see no address. Clients ignore `from`.
- OpenSSL has its own clock, whatever `now` says.
- Never wrap a listening socket: one silent connection holds up all others. Wrap in the connection's own thread.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Final

from peerauth.errors import BadInput
from peerauth.tls.context import MinimumVersion
from peerauth.tls.gate import (
    FRESH_S,
    CertificatesSource,
    Clock,
    Follow,
    Gate,
    PeerRefused,
    PeersSource,
)
from peerauth.tls.heir import HeritableContext, Line
from peerauth.tls.judged import Judged, JudgedObject, JudgedSocket
from peerauth.trust.peers import Peer, check_name
from peerauth.trust.policy import EVERY_PEER, Policy

__all__ = ["PeerRefused", "client_context", "peer_of", "server_context", "when_removed"]

HANDSHAKE_S: Final = 10.0  # the default of config.toml's handshake_timeout

_TLS12_SUITES = "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"

Passphrase = bytes | Callable[[], bytes] | None
Path = str | os.PathLike[str]
WhichIdentity = Callable[[], object]


def _system_clock() -> datetime:
    return datetime.now(UTC)


def server_context(
    certfile: Path,
    keyfile: Path,
    *,
    peers: PeersSource,
    certificates: CertificatesSource,
    passphrase: Passphrase = None,
    min_tls: MinimumVersion = "1.3",
    policy: Policy = EVERY_PEER,
    handshake_timeout: float = HANDSHAKE_S,
    identity: WhichIdentity = lambda: None,
    now: Clock = _system_clock,
    follow: Follow | None = None,
) -> ssl.SSLContext:
    """A context for accepting: admits the peers in `peers()` that `policy` allows, and logs refusals as `peerauth`.

    `peers` is usually `PeerDirectory.refresh`; `certificates` gives all that are pinned, and is asked when there are
    new pins. `handshake_timeout` (seconds) holds where a blocking socket has no timeout of its own. `identity` tells which
    identity is in the files: with another answer they are read again. `follow` has a method called when the peers may have
    changed (`Lookout.tell`). Raises BadInput when they cannot be used.
    """
    make = partial(_context, ssl.PROTOCOL_TLS_SERVER, certfile, keyfile, passphrase, min_tls)
    line = Line(make, identity)
    return _guarded(line.first, Gate(line, peers, certificates, now, policy=policy, follow=follow), handshake_timeout)


def client_context(
    certfile: Path,
    keyfile: Path,
    *,
    peer: str,
    peers: PeersSource,
    certificates: CertificatesSource,
    passphrase: Passphrase = None,
    min_tls: MinimumVersion = "1.3",
    identity: WhichIdentity = lambda: None,
    now: Clock = _system_clock,
    follow: Follow | None = None,
) -> ssl.SSLContext:
    """A context for connecting to `peer` and to nobody else (promise 9). Raises BadInput as `server_context` does."""
    make = partial(_context, ssl.PROTOCOL_TLS_CLIENT, certfile, keyfile, passphrase, min_tls)
    line = Line(make, identity)
    return _guarded(line.first, Gate(line, peers, certificates, now, expected=check_name(peer), follow=follow))


def peer_of(connection: object) -> Peer | None:
    """Who is at the other end; None when nobody is admitted there.

    `connection` is an `ssl` socket or object from a context of ours, an asyncio transport or a StreamWriter.
    """
    ask = getattr(connection, "get_extra_info", None)
    if ask is not None:
        peer = ask("peer")
        if isinstance(peer, Peer):
            return peer
        connection = ask("ssl_object")
    admitted = connection.admitted if isinstance(connection, Judged) and connection.refused is None else None
    return admitted.peer if admitted else None


def when_removed(connection: object, call: Callable[[], object]) -> None:
    """Have `call` called, once, when the peer at the other end is admitted no more, for instance `transport.abort`.

    `connection` is as for `peer_of`, and admitted. Where asyncio runs, `call` is called in the loop that runs now; else in a
    thread that is not yours, where it must be quick. At once, if it is so already. Raises TypeError where the connection is
    none of a context that follows the list.
    """
    ask = getattr(connection, "get_extra_info", None)
    found = ask("ssl_object") if ask is not None else connection
    if not isinstance(found, Judged) or found.leaf is None or not found.judge.follows:
        raise TypeError("this is no admitted connection of a context that follows the list")
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        found.when_refused(call)
        return

    def in_the_loop() -> None:
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(call)

    found.when_refused(in_the_loop)


def _context(
    protocol: int, certfile: Path, keyfile: Path, passphrase: Passphrase, min_tls: MinimumVersion
) -> HeritableContext:
    context = HeritableContext(protocol)  # create_default_context would load the system's CAs
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags = (context.verify_flags | ssl.VERIFY_X509_PARTIAL_CHAIN) & ~ssl.VERIFY_X509_STRICT
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if min_tls == "1.2" else ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(_TLS12_SUITES)

    def password() -> bytes:  # without it, OpenSSL would ask on the terminal
        if passphrase is None:
            raise BadInput("passphrase-needed", "the private key is encrypted and no passphrase was given")
        return passphrase() if callable(passphrase) else passphrase

    try:
        context.load_cert_chain(certfile, keyfile, password)
    except OSError as error:
        files = f"{os.fspath(certfile)} and {os.fspath(keyfile)}"
        text = f"{files} cannot be used as an identity: {error.strerror or error}"
        raise BadInput("bad-identity", text, "to make one: peerauth keygen") from error
    return context


def _guarded(context: ssl.SSLContext, gate: Gate, patience: float | None = None) -> ssl.SSLContext:
    """Bind the gate to the connections' classes, so that an SNI callback that swaps contexts does not swap it."""

    class PeerSocket(JudgedSocket):
        judge = gate
        handshake_timeout = patience

    class PeerObject(JudgedObject):
        judge = gate

    context.sslsocket_class, context.sslobject_class = PeerSocket, PeerObject
    gate.refresh(FRESH_S)
    return context
