"""A receiver of the PROXY protocol version 2, written from HAProxy's proxy-protocol.txt and from nothing of ours."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address


@dataclass(frozen=True)
class Heard:
    """A header. `family`: "tcp4", "tcp6", "unix" or "unspec"; `tls`: (client, verify, sub-TLVs) of PP2_TYPE_SSL."""

    command: int
    family: str
    source: object
    destination: object
    tlvs: dict[int, bytes]
    tls: tuple[int, int, dict[int, bytes]] | None


def read_header(sock: socket.socket) -> Heard:
    """The header that a connection begins with; not a byte more is read."""
    fixed = _exactly(sock, 16)
    (length,) = struct.unpack("!H", fixed[14:])
    return decode(fixed + _exactly(sock, length))


def _exactly(sock: socket.socket, size: int) -> bytes:
    heard = b""
    while len(heard) < size:
        data = sock.recv(size - len(heard))
        assert data, f"it ends within the header: {heard!r}"
        heard += data
    return heard


def decode(data: bytes) -> Heard:
    """Section 2.2: signature, version and command, family and transport, length, addresses, TLVs; nothing may be left."""
    assert data[:12] == bytes.fromhex("0d0a0d0a000d0a515549540a")
    assert data[12] >> 4 == 2
    command = data[12] & 15
    assert command in {0, 1}
    (length,) = struct.unpack("!H", data[14:16])
    rest = data[16:]
    assert len(rest) == length
    match data[13]:
        case 0x11:
            source, destination, ports, rest = rest[:4], rest[4:8], rest[8:12], rest[12:]
        case 0x21:
            source, destination, ports, rest = rest[:16], rest[16:32], rest[32:36], rest[36:]
        case 0x31:
            paths = [path.rstrip(b"\0").decode() for path in (rest[:108], rest[108:216])]
            return _with_tlvs(command, "unix", paths[0], paths[1], rest[216:])
        case 0x00:
            return _with_tlvs(command, "unspec", None, None, rest)
        case other:
            raise AssertionError(f"family and transport {other:#x}")
    ends = [
        (str(ip_address(host)), port) for host, port in zip((source, destination), struct.unpack("!HH", ports), strict=True)
    ]
    return _with_tlvs(command, "tcp4" if data[13] == 0x11 else "tcp6", ends[0], ends[1], rest)


def _with_tlvs(command: int, family: str, source: object, destination: object, rest: bytes) -> Heard:
    tlvs = _tlvs(rest)
    tls = tlvs.get(0x20)
    if tls is None:
        return Heard(command, family, source, destination, tlvs, None)
    client, verify = struct.unpack("!BI", tls[:5])
    return Heard(command, family, source, destination, tlvs, (client, verify, _tlvs(tls[5:])))


def _tlvs(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while data:
        kind, high, low = data[:3]
        length = high << 8 | low
        assert len(data) >= 3 + length, "a TLV ends beyond the header"
        assert kind not in found
        found[kind] = data[3 : 3 + length]
        data = data[3 + length :]
    return found
