"""What OpenSSL says, in our words. Mapped here, once; nobody else looks at an OpenSSL error.

An alert is recognised by its name behind the word "alert", because versions of OpenSSL differ in what stands before it.
"""

from __future__ import annotations

import errno
import os
import re

from cryptography.hazmat.bindings.openssl.binding import Binding
from OpenSSL import SSL

from peerauth.errors import ConnectFailed, PeerAuthError, TrustRefused, printable

_ALERT = re.compile(r"\balert ([a-z_ ]+)$")

# RFC 8446 section 6: the alerts by which the other side says that it does not trust us.
TRUST_ALERTS = {
    "no certificate": 41,
    "bad certificate": 42,
    "unsupported certificate": 43,
    "certificate revoked": 44,
    "certificate expired": 45,
    "certificate unknown": 46,
    "unknown ca": 48,
    "access denied": 49,
    "decrypt error": 51,
    "certificate required": 116,
}
_MEANING = {
    42: "our certificate is not acceptable to it",
    43: "our certificate is of a kind or purpose that it does not accept",
    44: "our certificate was revoked",
    45: "our certificate is expired, by its clock",
    46: "our certificate is not acceptable to it",
    48: "our certificate is not pinned there",
    49: "we are not allowed",
    51: "it could not check our signature",
    116: "it wants a certificate and got none",
}


class Truncated(ConnectionError):
    """The connection ended without TLS's own goodbye: data may be missing (RFC 8446 section 6.1)."""


class PlainHttp(ConnectFailed):
    """The other side asks for something in the clear."""

    def __init__(self) -> None:
        super().__init__(
            "not-tls", "HTTP in the clear is spoken on this connection, and not TLS", "the URL has to begin with https://"
        )


def error_reason(error: SSL.Error) -> str:
    """The innermost reason in an OpenSSL error, for people; empty when it has none."""
    queue = error.args[0] if error.args else None
    if isinstance(queue, list) and queue:
        return printable(str(queue[-1][-1]))
    return ""


def from_openssl(error: SSL.Error) -> Exception:
    """The error to raise for one that OpenSSL raised on an established or beginning connection."""
    if isinstance(error, SSL.SysCallError):
        # pyOpenSSL leaves OpenSSL's error queue filled here, and the queue belongs to the thread, not to the connection:
        # SSL_get_error(3) asks that it be empty before the next call, whose failure it would otherwise explain.
        Binding.lib.ERR_clear_error()
        number = error.args[0] if error.args and isinstance(error.args[0], int) else -1
        if number <= 0:
            return Truncated("the connection ended without a goodbye")
        known = {errno.ECONNRESET: ConnectionResetError, errno.EPIPE: BrokenPipeError}.get(number, OSError)
        return known(number, os.strerror(number))
    if isinstance(error, SSL.ZeroReturnError):
        return Truncated("the connection was closed")
    reason = error_reason(error)
    if not reason:  # OpenSSL has failed on this connection before and says no more
        return Truncated("the connection ended without a goodbye")
    match = _ALERT.search(reason)
    if match is not None:
        return from_alert(match[1])
    if reason == "http request":
        return PlainHttp()
    if reason in (
        "wrong version number",
        "packet length too long",
        "https proxy request",
        "bad record type",
    ):
        return ConnectFailed("not-tls", "the other side does not speak TLS on this connection", "is it the right port?")
    if reason in ("unsupported protocol", "no protocols available", "version too low"):
        return ConnectFailed(
            "tls-version",
            "the other side offers no TLS version that is allowed here",
            'for software without TLS 1.3: min_tls = "1.2" under [node] in config.toml',
        )
    if reason == "no shared cipher":
        return ConnectFailed("no-shared-cipher", "the two sides have no cipher suite in common")
    return ConnectFailed("tls-failed", f"TLS failed: {reason}")


def from_alert(name: str) -> PeerAuthError:
    """The error for an alert that the other side sent."""
    number = TRUST_ALERTS.get(name)
    if number is None:
        if name == "protocol version":
            return ConnectFailed("tls-version", "the other side accepts no TLS version that is allowed here (alert 70)")
        return ConnectFailed("tls-alert", f"the other side ended the connection: {printable(name)}")
    meaning = _MEANING.get(number, "it does not accept our certificate")
    return TrustRefused("refused-by-peer", f"the other side refused us: {meaning} (alert {number}, {name})", side="peer")
