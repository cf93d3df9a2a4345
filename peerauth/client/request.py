"""One HTTPS request to a peer, by urllib3 over a pinned connection."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection
from urllib3.exceptions import HTTPError
from urllib3.response import BaseHTTPResponse

from peerauth.client.dial import Dialer
from peerauth.client.target import Target, resolve
from peerauth.errors import BadInput, ConnectFailed, PeerAuthError, TrustRefused, printable
from peerauth.http.explanation import MARK, REFUSED
from peerauth.tls.blocking import BlockingTls
from peerauth.trust.decision import Code
from peerauth.trust.explain import mend_there
from peerauth.trust.peers import PeerSet

HTTPS_PORT = 443
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Url:
    """An https URL with the peer it is meant for."""

    target: Target
    host: str
    port: int
    path: str


def parse_url(text: str, peers: PeerSet, meant: str | None = None) -> Url:
    """Read an https URL; a peer's name as its host leads to the peer's address. Raises BadInput."""
    try:
        parts = urlsplit(text if "://" in text else f"https://{text}")
        port = parts.port
    except ValueError as error:
        raise BadInput("bad-url", f"'{printable(text)}' is not a URL") from error
    if parts.scheme != "https":
        hint = f"for instance: https://{parts.hostname or 'NAME'}{parts.path}"
        raise BadInput("bad-url", "only https is spoken here", hint)
    if not parts.hostname or parts.username is not None or not text.isascii() or any(c <= " " or c == "\x7f" for c in text):
        raise BadInput("bad-url", f"'{printable(text)}' is not a URL that can be asked for", "write https://HOST:PORT/PATH")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    target = resolve(f"{host}:{port}" if port else host, peers, meant, default_port=HTTPS_PORT)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Url(target, parts.hostname, port or HTTPS_PORT, path)


@contextlib.contextmanager
def request(
    dialer: Dialer,
    url: Url,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | IO[bytes] | None = None,
    *,
    timeout: float | None = None,
) -> Iterator[tuple[BaseHTTPResponse, BlockingTls]]:
    """Send a request; the response, to be streamed, and its connection. Redirects are not followed: they lead elsewhere.

    Raises TrustRefused (also when the server refuses us after the handshake, by TLS or in HTTP) or ConnectFailed.
    """
    made: list[BlockingTls] = []
    taking: list[OSError] = []

    class Pinned(HTTPConnection):
        def _new_conn(self) -> Any:  # noqa: ANN401 - urllib3 wants a socket, and this does what it asks of one
            connection = dialer.connect_blocking(url.target)
            connection.settimeout(timeout)
            made.append(connection)
            return connection

    Pinned.default_port = HTTPS_PORT  # http.client leaves this port out of the Host header
    pool = urllib3.HTTPConnectionPool(url.host, url.port, timeout=timeout, retries=False, block=False)
    pool.ConnectionCls = Pinned

    def ask() -> BaseHTTPResponse:
        return pool.urlopen(
            method, url.path, body=body, headers=dict(headers or {}), preload_content=False, redirect=False, retries=False
        )

    try:
        response = ask()
        refused = _refused(response, made[-1], dialer)
        if refused is not None and not hasattr(body, "read") and dialer.mends_blocking(refused, url.target):
            response.close()
            response = ask()
            refused = _refused(response, made[-1], dialer)
        if refused is not None:
            response.close()
            raise refused
        try:
            yield response, made[-1]
        except OSError as error:  # of whoever takes the answer: those of the connection come as HTTPError
            taking.append(error)
            raise
        finally:
            response.close()
    except PeerAuthError as error:
        raise dialer.explained(error, url.target) from error
    except (HTTPError, OSError) as error:
        if error in taking:
            raise
        raise _broken(error, dialer, url, heard=bool(made) and made[-1].session.heard) from error
    finally:
        for connection in made:
            connection.close()
        pool.close()


def _refused(response: BaseHTTPResponse, connection: BlockingTls, dialer: Dialer) -> TrustRefused | None:
    """The refusal that this answer is, where the server's TLS has given it: what is behind it cannot know the mark."""
    code = response.headers.get(REFUSED, "")
    if code not in set(Code) or response.headers.get(MARK) != connection.session.own_mark().hex():
        return None
    hint = mend_there(code, dialer.identity.certificate, f"{dialer.name}.crt")
    text = f"the other side refused us: it answers {response.status} {printable(response.reason or '', 60)} ({code})"
    return TrustRefused("refused-by-peer", text, hint, side="peer")


def _broken(error: Exception, dialer: Dialer, url: Url, *, heard: bool) -> BaseException:
    """The trouble behind an error of urllib3, which wraps the ones it meets."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, PeerAuthError):
            return dialer.explained(behind, url.target)
        if isinstance(behind, TimeoutError):
            return ConnectFailed("timeout", f"{url.target.address} did not answer in time")
        if isinstance(behind, ConnectionError) and not heard:
            return dialer.broken(behind, url.target, heard=False)
        if isinstance(behind, ConnectionError):
            return PeerAuthError("broken", f"{url.target.address}: the answer broke off and may be cut short")
        behind = behind.__cause__ or behind.__context__
    return PeerAuthError("broken", f"{url.target.address}: the answer is not as HTTP has it: {printable(str(error))}")


def pieces(response: BaseHTTPResponse) -> Iterator[bytes]:
    """The body as it comes, undecoded; what came before an error is delivered before it is raised."""
    while piece := response.read1(_CHUNK, decode_content=False):
        yield piece
