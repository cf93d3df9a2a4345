"""Many peers at once: certificates that differ in their serial numbers, which costs no key and no signature each."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

from tests.support.engine import identity


def certificates(count: int) -> Iterator[bytes]:
    """DER of so many distinct certificates. Their signatures do not verify, which is nobody's business here."""
    certificate = identity("pool").certificate
    serial = certificate.serial.to_bytes((certificate.serial.bit_length() + 8) // 8, "big")
    head, tail = certificate.der.split(serial, 1)
    for number in range(count):
        yield head + serial[:-4] + number.to_bytes(4, "big") + tail


def pem(der: bytes) -> bytes:
    """As `openssl x509` writes it."""
    text = base64.b64encode(der)
    lines = b"\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return b"-----BEGIN CERTIFICATE-----\n" + lines + b"\n-----END CERTIFICATE-----\n"


def fill(path: Path, count: int) -> None:
    """Put so many peers into a directory, p0.crt and on; old enough that nobody reads them again to be sure."""
    for number, der in enumerate(certificates(count)):
        file = path / f"p{number}.crt"
        file.write_bytes(pem(der))
        os.utime(file, (1, 1))
