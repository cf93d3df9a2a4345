"""Pairing for tests: `peerauth pair` as a real process that waits, and a window without one, in the test's own process."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peerauth.address import Address, parse_address
from peerauth.audit import Event
from peerauth.client.control import anyone, conversation
from peerauth.client.pairing import pair
from peerauth.control.exchange import Exchange
from peerauth.control.line import Line
from peerauth.errors import PeerAuthError
from peerauth.server.server import Server
from peerauth.services.guest import by_protocol
from peerauth.store.config import load_config
from peerauth.store.pairing import Pairing
from peerauth.store.peerdir import PeerDirectory
from peerauth.trust.certificate import Certificate
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.pairing import Stage, Window
from peerauth.trust.peers import check_name
from peerauth.trust.policy import EVERY_PEER
from tests.cli.running import CHECKOUT, DEADLINE_S, Result, environment
from tests.support.engine import Greeter, identity
from tests.support.workers import Home


def pins(home: Home) -> dict[str, list[Fingerprint]]:
    """Who is pinned in this home, as the disk has it."""
    return {peer.name: list(peer.pins) for peer in PeerDirectory(home.path).refresh()}


def pin(name: str) -> Fingerprint:
    """The fingerprint of this one's certificate."""
    return identity(name).certificate.fingerprint


WRONG = "abandon-abandon-ability"


class Waiting:
    """A `peerauth pair` that waits, with --json."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        shown = json.loads(process.stdout.readline())
        self.code: str = shown["code"]
        self.address: str = shown["address"]
        self._said = ""

    def wait_for(self, text: str) -> None:
        """Wait until it says this to people."""
        assert self.process.stderr is not None
        while text not in self._said:
            line = self.process.stderr.readline()
            assert line, f"{text!r} never came:\n{self._said}"
            self._said += line

    def end(self) -> Result:
        """Wait until it has ended; what it said behind its code."""
        out, err = self.process.communicate(timeout=DEADLINE_S)
        return Result(self.process.returncode, out, self._said + err)


@contextlib.contextmanager
def waiting(
    home: Home, *words: str, listen: str | None = "127.0.0.1:0", program: Sequence[str] = ("-m", "peerauth")
) -> Iterator[Waiting]:
    """Wait at an address of its own, or with the server that runs there (`listen` is None)."""
    where = () if listen is None else ("--listen", listen)
    with subprocess.Popen(
        [sys.executable, *program, "pair", "--json", "--home", str(home.home), *where, *words],
        cwd=CHECKOUT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        killer = threading.Timer(DEADLINE_S, process.kill)  # a line that never comes is not waited for
        killer.start()
        try:
            yield Waiting(process)
        finally:
            killer.cancel()
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)


@dataclass
class Open:
    """A server in this loop, and a window that is open without a `peerauth pair`."""

    home: Home
    server: Server
    address: Address
    pairing: Pairing
    window: Window
    events: list[Event]

    @property
    def now(self) -> Window:
        """The window as it is on disk."""
        seen = self.pairing.look()
        assert seen is not None
        return seen

    @property
    def stages(self) -> list[Stage]:
        """What has become of the guesses."""
        return [guess.stage for guess in self.now.guesses]


@contextlib.asynccontextmanager
async def open_window(place: Path, *, name: str | None = None, settings: str = "", **options: Any) -> AsyncIterator[Open]:  # noqa: ANN401
    """A node that can be paired with, for the length of the block."""
    home = Home(place)
    home.configure(settings)
    config = load_config(home.home)
    directory = PeerDirectory(config.peers)
    directory.refresh()
    events: list[Event] = []
    pairing = Pairing(home.home)
    with pairing.opened("node", name, ()) as window:
        server = Server(identity("node"), directory, events.append, config=config, **options)
        try:
            (address,) = server.listen(parse_address("127.0.0.1:0"), by_protocol(Greeter), EVERY_PEER)
            yield Open(home, server, address, pairing, window, events)
        finally:
            await server.stop(0)


class Initiator:
    """Somebody who pairs as the program does, and what came of it."""

    def __init__(self, who: str = "alice") -> None:
        self.who = who
        self.pinned: list[Fingerprint] = []

    def _pin(self, certificate: Certificate, name: str) -> str:
        check_name(name)
        self.pinned.append(certificate.fingerprint)
        return name

    async def __call__(self, address: Address, code: str) -> str:
        """`paired`, or the code of the error."""
        try:
            await pair(identity(self.who), address, code, self.who, self._pin)
        except PeerAuthError as error:
            self.error = error
            return error.code
        return "paired"


def talking(address: Address, who: str = "alice") -> contextlib.AbstractAsyncContextManager[Line]:
    """A line to the node on which anything can be said."""
    return conversation(identity(who), address, anyone, hear_anyone=True)


def exchange(line: Line, code: str, *, me: str = "alice", them: str = "node") -> Exchange:
    """The initiator's part, as it should be unless told otherwise."""
    return Exchange("initiator", code, pin(me), pin(them), line.session.channel_binding())
