"""What `rotate` does: begin, tell, switch, take back; each step is on disk before the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from peerauth.cli.keygen import made_aside
from peerauth.cli.node import run
from peerauth.cli.rotation_status import show_status
from peerauth.cli.ui import Ui
from peerauth.client import carrying
from peerauth.client.carrying import Carrier, News, terms_of
from peerauth.client.telling import tell_all
from peerauth.store.own import Own
from peerauth.store.peerdir import PeerDirectory
from peerauth.store.succession import Terms, abort, begin, put_off, read_succession, recover, switch
from peerauth.trust.continuity import Kind
from peerauth.trust.errands import Errand, Reply, Succession
from peerauth.trust.identity import KeyType, successor
from peerauth.trust.peers import Peer

_WEEK = timedelta(days=7)
_COMPROMISED = (
    "this node presents a new certificate now. Peers that are told drop the old one at once, and each must admit the new "
    "one by a person's hand, because the word of a stolen key is worth nothing"
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the options say; None: as it is now, or as it was."""

    kind: str | None
    days: int | None
    names: tuple[str, ...]
    deadline: timedelta | None
    overlap: timedelta
    compromised: bool


def carry_out(ui: Ui, own: Own, directory: PeerDirectory, wanted: Wanted, *, wait: bool) -> None:
    """Begin a rotation, or go on with the one under way; a key that is in other hands is not waited for."""
    before = recover(own.config)
    own.look()  # a switch that was killed is finished now
    errand = before.under_way
    if errand is None or (wanted.compromised and errand.statement.kind is Kind.NEXT):
        _start(ui, own, wanted)
    else:
        if wanted.kind or wanted.days or wanted.names:
            ui.warn("a rotation is under way and goes on; what its next certificate is like was said when it began")
        if wanted.deadline is not None:
            put_off(own.config, _now() + wanted.deadline)
    _go_on(ui, own, directory, wait=wait)


def _start(ui: Ui, own: Own, wanted: Wanted) -> None:
    """Write down what comes next; where the old key is in other hands, switch before anything else."""
    now, kind = _now(), KeyType(wanted.kind) if wanted.kind else None
    name, names = own.config.name, wanted.names
    new = made_aside(ui, lambda: successor(own.identity, name, now, kind=kind, days=wanted.days, names=names))
    deadline = _WEEK if wanted.deadline is None else wanted.deadline
    terms = terms_of(Kind.NEXT, own.identity.certificate, now, deadline, wanted.overlap)
    if wanted.compromised:
        terms = Terms(Kind.COMPROMISED, now, now, now)
    begin(own.config, own.identity, new, own.passphrase, terms)
    if wanted.compromised:
        _say_kept(ui, switch(own.config))
        own.look()
        file, pin = own.config.certificate.name, own.identity.certificate.fingerprint
        ui.warn(
            _COMPROMISED,
            f"on each that was told: peerauth peer approve {pin}; on others, with {file}: peerauth peer add {file}",
        )


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _go_on(ui: Ui, own: Own, directory: PeerDirectory, *, wait: bool) -> None:
    """Tell everybody who does not know yet, switch if it is time, and show how it stands."""
    told, shown = run(_tell(ui, own, directory))
    if told.due(directory.current, datetime.now(UTC)):
        _say_kept(ui, switch(own.config, directory.current))
        own.look()
    elif wait and told.under_way is not None:
        shown = run(_wait(ui, own, directory))
    show_status(ui, own.config, directory.current, shown)


async def _tell(ui: Ui, own: Own, directory: PeerDirectory) -> tuple[Succession, Succession]:
    """How it stands then; and the same with what is over by now, for a person to see."""
    succession, peers = read_succession(own.config), directory.current
    whom = list(succession.missing(peers))
    replies: dict[bytes, dict[str, Reply | None]] = {}

    def heard(peer: Peer, errands: list[Errand], reply: Reply) -> None:
        for errand in errands:
            replies.setdefault(errand.statement.data, {})[peer.name] = reply

    with ui.spinner(f"telling {len(whom)} peer{'' if len(whom) == 1 else 's'}"):
        told = await tell_all(own, peers, succession, whom, heard)
    return told, succession.noted(replies)


async def _wait(ui: Ui, own: Own, directory: PeerDirectory) -> Succession:
    """Go on until the next identity is presented, by us or by somebody else; how it stood before that."""

    def say(news: News) -> None:
        if news.problem:
            ui.warn(news.text)
        else:
            ui.say(news.text)

    carrier = Carrier(own, directory, say)
    while read_succession(own.config).under_way is not None:
        await asyncio.sleep(carrying.LOOK)
        await asyncio.to_thread(directory.refresh)
        await carrier.step()
    await asyncio.to_thread(own.look)
    return carrier.last


def take_back(ui: Ui, own: Own, directory: PeerDirectory) -> None:
    """Withdraw what was said, and tell so those who may have heard it; typed again, those who were away."""
    before = recover(own.config)
    own.look()
    if before.under_way is not None or not any(one.statement.kind is Kind.WITHDRAWN for one in before.errands):
        abort(own.config, own.identity, own.passphrase, directory.current, _now())
    ui.say("the rotation is taken back; the certificate stays as it is")
    _, shown = run(_tell(ui, own, directory))
    show_status(ui, own.config, directory.current, shown)


def _say_kept(ui: Ui, kept: Iterable[Path]) -> None:
    for path in kept:
        ui.say(f"kept the old pair: {ui.path(path)}")
