"""What a file can be instead of what it should be, and how a command has to take it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.cli.making import make, pem
from tests.cli.running import Result


def _file(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data)


JUNK: dict[str, Callable[[Path], object]] = {
    "binary": _file(bytes(range(256)) * 16),
    "empty": _file(b""),
    "blank": _file(b" \r\n\t\n"),
    "huge": _file(b"A" * (3 << 20)),
    "huge line of PEM": _file(b"-----BEGIN CERTIFICATE-----\n" + b"QUFB" * (700 << 10)),
    "bad UTF-8": _file(b'[node]\nname = "\xff\xfe"\n'),
    "UTF-16": _file("[node]".encode("utf-16")),
    "NUL": _file(b"\0" * 100),
    "half a PEM": _file(pem(make())[:150]),
    "damaged PEM": _file(pem(make()).replace(b"\n", b"\n!", 3)),
    "DER of nothing": _file(b"\x30\x82\xff\xff" + b"\0" * 50),
    "deep": _file(b"a = " + b"[" * 50_000),
    "directory": lambda path: path.mkdir(),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "circle of links": lambda path: path.symlink_to(path.name),
    "FIFO": os.mkfifo,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "missing": lambda _: None,
}


def well_said(result: Result, *codes: int) -> None:
    """One line for the error, escaped, with an exit code that is documented."""
    assert result.code in (codes or (1, 2, 3)), result.err
    assert "Traceback" not in result.out + result.err
    assert "unexpected" not in result.err
    lines = result.err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, result.err
    assert all(len(line) < 500 for line in lines)
    assert all(line.isprintable() for line in lines)


def put(junk: str, path: Path) -> Path:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    JUNK[junk](path)
    return path
