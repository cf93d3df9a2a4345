"""The PROXY protocol, version 2: what a backend hears first, about the peer that it is about to talk with.

The layout is that of HAProxy's proxy-protocol.txt, section 2.2. Who the peer is comes from the decision alone: SSL_CN is the
name that this node has pinned it under, and not the CN of its certificate, which the owner of a self-signed certificate
chooses (promise 9). Only the server name (AUTHORITY) is the peer's word, as it is from every proxy.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Final

from peerauth.services.guest import Guest

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_PROXY: Final = 0x21  # version 2, a connection on behalf of somebody else
_MAPPED: Final = bytes(10) + b"\xff\xff"  # before an IPv4 address that stands for an IPv6 address (RFC 4291 section 2.5.5.2)
_UNSPECIFIED, _TCP4, _TCP6, _UNIX = 0x00, 0x11, 0x21, 0x31

ALPN, AUTHORITY, SSL = 0x01, 0x02, 0x20
SSL_VERSION, SSL_CN, SSL_CIPHER = 0x21, 0x22, 0x23
CLIENT_SSL, CLIENT_CERT_CONN, CLIENT_CERT_SESS = 0x01, 0x02, 0x04
# From the range for applications, 0xE0 to 0xEF (section 2.2.8); clouds use 0xE0 (Google), 0xEA (AWS) and 0xEE (Azure).
PEER_NAME, PEER_FINGERPRINT = 0xE5, 0xE6

Where = object  # a socket's address, as Python has it


def introduce(guest: Guest) -> bytes:
    """The header for the backend of this guest."""
    session, admitted = guest.session, guest.admitted
    name = admitted.peer.name.encode()
    flags = CLIENT_SSL | CLIENT_CERT_SESS | (0 if session.resumed else CLIENT_CERT_CONN)
    details = [
        (SSL_VERSION, session.version.encode()),
        (SSL_CN, name),
        (SSL_CIPHER, session.cipher.encode()),
    ]
    said = [(ALPN, session.alpn), (AUTHORITY, session.server_name)]
    tlvs = [(kind, value) for kind, value in said if value]
    tlvs.append((SSL, struct.pack("!BI", flags, 0) + _tlvs(details)))  # 0: it was verified, as far as pinning goes
    tlvs += [(PEER_NAME, name), (PEER_FINGERPRINT, str(admitted.fingerprint).encode())]
    return header(*_ends(guest.sock), tlvs)


def header(source: Where, destination: Where, tlvs: list[tuple[int, bytes]]) -> bytes:
    """A header with these addresses and TLVs. An address that is none of TCP's or a Unix socket's is left out."""
    family, addresses = _addresses(source, destination)
    rest = addresses + _tlvs(tlvs)
    return SIGNATURE + struct.pack("!BBH", _PROXY, family, len(rest)) + rest


def _ends(sock: socket.socket) -> tuple[Where, Where]:
    try:
        return sock.getpeername(), sock.getsockname()
    except OSError:  # it has gone already, which is noticed elsewhere
        return None, None


def _addresses(source: Where, destination: Where) -> tuple[int, bytes]:
    match source, destination:
        case (str() | bytes(), str() | bytes()):
            return _UNIX, b"".join(os.fsencode(path).ljust(108, b"\0") for path in (source, destination))
        case ((str(from_host), int(from_port), *_), (str(to_host), int(to_port), *_)):
            hosts = _packed(from_host), _packed(to_host)
            if len(hosts[0]) != len(hosts[1]):
                hosts = _mapped(hosts[0]), _mapped(hosts[1])
            family = _TCP4 if len(hosts[0]) == 4 else _TCP6
            return family, hosts[0] + hosts[1] + struct.pack("!HH", from_port, to_port)
        case _:
            return _UNSPECIFIED, b""


def _packed(host: str) -> bytes:
    if ":" not in host:
        return socket.inet_pton(socket.AF_INET, host)
    packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return packed.removeprefix(_MAPPED)


def _mapped(packed: bytes) -> bytes:
    return packed if len(packed) == 16 else _MAPPED + packed


def _tlvs(pairs: list[tuple[int, bytes]]) -> bytes:
    return b"".join(struct.pack("!BH", kind, len(value)) + value for kind, value in pairs)
