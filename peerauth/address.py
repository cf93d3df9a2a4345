"""Where something listens or is reached: HOST:PORT, [v6]:PORT, :PORT or unix:PATH."""

from __future__ import annotations

import contextlib
import ipaddress
from dataclasses import dataclass

from peerauth.errors import BadInput, printable

DEFAULT_PORT = 8443


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address, or the path of a Unix socket. An empty host means every interface."""

    host: str = ""
    port: int = 0
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.path is not None or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def overlaps(self, other: Address) -> bool:
        """Whether nobody can listen at both: they are the same, or one is every interface. Port 0 is any free one."""
        if self.path is not None or other.path is not None:
            return self.path == other.path
        if self.port != other.port or not self.port:
            return False
        mine, theirs = _interfaces(self.host), _interfaces(other.host)
        return any(a == b or (a.startswith(b[:2]) and "*" in (a[2:], b[2:])) for a in mine for b in theirs)

    @property
    def server_name(self) -> str | None:
        """What to send as SNI: a DNS name; never an IP address (RFC 6066 section 3)."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return self.host or None
        return None


def _interfaces(host: str) -> set[str]:
    """Where a listening host is, by family: `4/127.0.0.1`, `6/*` for every interface."""
    if host in ("", "localhost"):
        return {"4/*", "6/*"} if not host else {"4/127.0.0.1", "6/::1"}
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return {f"?/{host}"}
    return {f"{found.version}/{'*' if found.is_unspecified else found}"}


def parse_address(text: str, *, default_port: int | None = None, what: str = "address") -> Address:
    """Read an address. Raises BadInput("bad-address") saying what was expected."""
    text = text.strip()
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path or "\0" in path or len(path.encode(errors="surrogatepass")) > 107:  # sockaddr_un, unix(7)
            raise BadInput("bad-address", f"the {what} '{printable(text, 140)}' needs a path of 1 to 107 bytes after unix:")
        return Address(path=path)
    host, port = _split(text)
    if not port and default_port is not None and host:
        return Address(_check_host(host, text, what), default_port)
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 65535):
        raise BadInput("bad-address", f"the {what} '{printable(text, 80)}' is not HOST:PORT", _instead(text, port))
    return Address(_check_host(host, text, what), int(port))


def _instead(text: str, port: str) -> str:
    """What to write where `text` is no address."""
    if port.isascii() and port.isdigit():
        return "a port is a number up to 65535"
    if text.isascii() and text.isdigit() and len(text) <= 5:
        return f"with something before the port: 127.0.0.1:{text}, or :{text} for every interface"
    return "for instance 0.0.0.0:8443, [::1]:8443, db.example:5432 or unix:/run/app.sock"


def _split(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or rest[:1] not in {"", ":"}:
            return text, ""  # which is no host
        return host, rest.removeprefix(":")
    if text.count(":") > 1:  # a bare IPv6 address has no port
        return text, ""
    host, _, port = text.partition(":")
    return host, port


def _check_host(host: str, text: str, what: str) -> str:
    plain = host.isascii() and host.isprintable() and not set(host) & set(" /@?#\\\"'%<>[]") and len(host) <= 253
    if plain and ":" in host:
        with contextlib.suppress(ValueError):
            return str(ipaddress.IPv6Address(host))
        plain = False
    if not plain:
        raise BadInput("bad-address", f"the {what} '{printable(text, 80)}' has no usable host name")
    return host
