"""The rules of the house hold in every file of the package, and each rule is shown to catch what it forbids.

The examples are pairs: made-up source that breaks the rule, and a twin that differs in one fact and keeps it.
"""

from pathlib import Path

import pytest

from tests.support import architecture
from tests.support.architecture import LAYERS, LONGEST_FILE, LONGEST_FUNCTION, Module, Rule

CHECKOUT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def package() -> list[Module]:
    files = sorted((CHECKOUT / "peerauth").rglob("*.py"))
    assert files, "there is no peerauth/ to look at"
    return [Module(file.relative_to(CHECKOUT).as_posix(), file.read_text("utf-8")) for file in files]


def hold(rule: Rule, package: list[Module]) -> None:
    found = [str(violation) for module in package for violation in rule(module)]
    assert not found, "\n" + "\n".join(found)


def broken_lines(rule: Rule, path: str, source: str) -> list[int]:
    return [violation.line for violation in rule(Module(f"peerauth/{path}", source))]


def test_imports_point_down_the_layers(package: list[Module]) -> None:
    hold(architecture.imports_point_down, package)


@pytest.mark.parametrize(
    ("path", "source", "twin"),
    [
        ("trust/peers.py", "from peerauth.store import files", "from peerauth import errors"),
        ("trust/peers.py", "import peerauth.tls.context", "import peerauth.errors"),
        ("trust/peers.py", "from peerauth import store", "from peerauth.trust import policy"),
        ("store/home.py", "from peerauth.tls.context import build", "from peerauth.store.files import read"),
        (
            "tls/stdlib.py",
            "from peerauth.store.peers import watch",
            "from peerauth.trust.peers import PeerSet",
        ),
        ("tls/stdlib.py", "from ..store import peers", "from ..trust import peers"),
        ("tls/stdlib.py", "from .. import store", "from . import context"),
        ("services/relay.py", "from peerauth.client.dial import dial", "from peerauth.control import check"),
        ("services/relay.py", "from peerauth.server import live", "from peerauth import audit"),
        ("client/dial.py", "from peerauth.services import relay", "from peerauth.net import sockets"),
        ("doctor/look.py", "from peerauth.server import live", "from peerauth.tls import context"),
        ("audit.py", "from peerauth.node import Node", "from peerauth.store import home"),
        ("audit.py", "import peerauth", "import peer"),
        ("audit.py", "from peerauth import Node", "from peers import Node"),
        ("node.py", "from peerauth.cli import main", "from peerauth.services import relay"),
        ("__init__.py", "from peerauth.cli.main import main", "from peerauth.node import Node"),
        ("errors.py", "from peerauth.trust import fingerprint", "from dataclasses import dataclass"),
        ("tls/session.py", "def f():\n    import peerauth.server", "def f():\n    import peerauth.trust"),
        ("tls/session.py", "import_module('peerauth.cli')", "import_module('peerauth.errors')"),
        ("utils/text.py", "", None),
    ],
)
def test_an_import_that_points_up_or_sideways_is_found(path: str, source: str, twin: str | None) -> None:
    assert broken_lines(architecture.imports_point_down, path, source) == [len(source.splitlines()) or 1]
    if twin is not None:
        assert broken_lines(architecture.imports_point_down, path, twin) == []


def test_every_pair_of_rooms_may_import_in_one_direction_at_most() -> None:
    allowed = {
        (here, there)
        for here in LAYERS
        for there in LAYERS
        if here != there and not broken_lines(architecture.imports_point_down, f"{here}.py", f"import peerauth.{there}")
    }
    assert ("server", "tls") in allowed
    assert not {(there, here) for here, there in allowed} & allowed


def test_trust_is_pure(package: list[Module]) -> None:
    hold(architecture.trust_is_pure, package)


@pytest.mark.parametrize(
    "source",
    [
        "import os",
        "import os.path as p",
        "from pathlib import Path",
        "def f():\n    import socket",
        "import ssl",
        "from OpenSSL import crypto",
        "import asyncio",
        "from time import time",
        "from datetime import datetime\nx = datetime.now()",
        "import datetime as d\nx = d.datetime.now(d.UTC)",
        "from datetime import datetime\nx = datetime.utcnow()",
        "from datetime import date\nx = date.today()",
        "x = open('file')",
    ],
)
def test_impure_code_in_trust_is_found(source: str) -> None:
    assert broken_lines(architecture.trust_is_pure, "trust/policy.py", source) == [len(source.splitlines())]
    assert broken_lines(architecture.trust_is_pure, "store/home.py", source) == []


@pytest.mark.parametrize(
    "source",
    [
        "from datetime import UTC, datetime",
        "def f(now):\n    return now.time()",
        "from ipaddress import ip_address",
    ],
)
def test_pure_code_in_trust_is_left_alone(source: str) -> None:
    assert broken_lines(architecture.trust_is_pure, "trust/policy.py", source) == []


def test_cancellation_is_heard(package: list[Module]) -> None:
    hold(architecture.cancellation_is_heard, package)


def test_a_wait_that_may_swallow_a_cancellation_is_found() -> None:
    assert broken_lines(architecture.cancellation_is_heard, "server/x.py", "import asyncio\nasyncio.wait_for(f(), 1)") == [2]
    assert broken_lines(architecture.cancellation_is_heard, "server/x.py", "import asyncio\nasyncio.timeout(1)") == []


def test_only_tls_knows_openssl(package: list[Module]) -> None:
    hold(architecture.openssl_stays_in_tls, package)


@pytest.mark.parametrize(
    "source", ["from OpenSSL import SSL", "import OpenSSL.crypto", "import ssl", "from ssl import SSLError"]
)
def test_openssl_outside_tls_is_found(source: str) -> None:
    assert broken_lines(architecture.openssl_stays_in_tls, "client/dial.py", source) == [1]
    assert broken_lines(architecture.openssl_stays_in_tls, "tls/context.py", source) == []


def test_only_cli_prints_and_exits(package: list[Module]) -> None:
    hold(architecture.only_cli_talks_and_exits, package)


@pytest.mark.parametrize(
    "source",
    [
        "import typer",
        "from rich.table import Table",
        "print('hello')",
        "import sys\nsys.exit(1)",
        "from sys import exit as leave\nleave(1)",
        "raise SystemExit(2)",
    ],
)
def test_talking_and_exiting_outside_cli_is_found(source: str) -> None:
    rule = architecture.only_cli_talks_and_exits
    assert broken_lines(rule, "server/worker.py", source) == [len(source.splitlines())]
    assert broken_lines(rule, "cli/show.py", source) == []


def test_only_one_module_writes_files(package: list[Module]) -> None:
    hold(architecture.only_files_py_writes, package)


@pytest.mark.parametrize(
    ("source", "twin"),
    [
        ("open('f', 'w')", "open('f')"),
        ("open('f', mode='ab')", "open('f', mode='rb')"),
        ("open('f', 'r+')", "open('f', 'r')"),
        ("open('f', mode)", "open('f', encoding=encoding)"),
        ("path.open('x')", "path.open('rb')"),
        ("import os\nos.open('f', os.O_CREAT | os.O_EXCL)", "import os\nos.open('f', os.O_RDONLY)"),
        (
            "from os import open, O_WRONLY\nopen('f', O_WRONLY)",
            "from os import open, O_RDONLY\nopen('f', O_RDONLY)",
        ),
        ("import os\nos.fdopen(3, 'wb')", "import os\nos.fdopen(3, 'rb')"),
        ("import os as o\no.replace(a, b)", "import os as o\no.stat(a)"),
        ("from os import rename as r\nr(a, b)", "from os import stat as r\nr(a)"),
        ("import os\nos.unlink(a)", "import os\nos.listdir(a)"),
        ("import os\nos.link(a, b)", "import os\nos.readlink(a)"),
        ("path.write_text('')", "path.read_text()"),
        ("f(x).write_bytes(b'')", "f(x).write(b'')"),
        ("path.replace(other)", "text.replace(old, new)"),
        ("path.rename(other)", "dataclasses.replace(value, name=1)"),
        ("path.unlink()", "path.stat()"),
        ("path.symlink_to(other)", "path.is_symlink()"),
    ],
)
def test_writing_outside_files_py_is_found(source: str, twin: str) -> None:
    rule = architecture.only_files_py_writes
    assert broken_lines(rule, "store/home.py", source) == [len(source.splitlines())]
    assert broken_lines(rule, "store/home.py", twin) == []
    assert broken_lines(rule, "store/files.py", source) == []


def test_files_fit_in_the_head(package: list[Module]) -> None:
    hold(architecture.files_fit_in_the_head, package)


def test_a_long_file_is_found() -> None:
    fits = "x = 1\n" * LONGEST_FILE
    assert broken_lines(architecture.files_fit_in_the_head, "errors.py", fits) == []
    assert broken_lines(architecture.files_fit_in_the_head, "errors.py", fits + "x = 1\n") == [LONGEST_FILE + 1]


def test_functions_fit_on_a_screen(package: list[Module]) -> None:
    hold(architecture.functions_fit_on_a_screen, package)


@pytest.mark.parametrize("header", ["def f():\n", "async def f():\n"])
def test_a_long_function_is_found(header: str) -> None:
    fits = header + "    x = 1\n" * (LONGEST_FUNCTION - 1)
    assert broken_lines(architecture.functions_fit_on_a_screen, "errors.py", fits) == []
    assert broken_lines(architecture.functions_fit_on_a_screen, "errors.py", fits + "    x = 1\n") == [1]
