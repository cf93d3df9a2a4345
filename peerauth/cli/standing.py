"""How this node stands, as `status` finds it: what there is, what waits, and what needs a person."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peerauth.errors import BadInput, PeerAuthError
from peerauth.trust import expiry
from peerauth.trust.expiry import Ending

if TYPE_CHECKING:
    from peerauth.store.config import Config, Service
    from peerauth.store.invitations import Invitation
    from peerauth.store.peerdir import PeerDirectory
    from peerauth.store.pending import Stranger
    from peerauth.store.records import Problem
    from peerauth.trust.fingerprint import Fingerprint

_HORIZON = timedelta(days=60)  # who ends later is only counted


@dataclass(frozen=True)
class Rotation:
    """A rotation under way: what is presented next, when at the latest, and which peers, by name, have not accepted yet."""

    next: Fingerprint
    deadline: datetime | None
    waiting: tuple[str, ...]


@dataclass(frozen=True)
class Status:
    """What was found. `attention`: what needs a person, each with what to type.

    `mistakes`: what is wrong with config.toml; then `config` is what a server that runs here says that this node is.
    """

    config: Config
    now: datetime
    own: Ending | None
    peers: int
    near: tuple[Ending, ...]  # those that end within the horizon or have ended, the first first
    problems: tuple[Problem, ...]
    allowed: tuple[tuple[Service, int], ...]
    serving: bool
    servers: tuple[dict[str, Any], ...]
    pending: tuple[Stranger, ...]
    invitations: tuple[Invitation, ...]  # those that somebody may still come in by
    rotation: Rotation | None
    mistakes: tuple[PeerAuthError, ...]
    attention: list[tuple[str, str | None]] = field(default_factory=list)

    def within(self, days: int) -> list[Ending]:
        """The peers whose certificates end within so many days; those that have ended are not among them."""
        levels = ((ending, expiry.level(ending.not_after, self.now)) for ending in self.near)
        return [ending for ending, level in levels if level is not None and 0 < level <= days]

    @property
    def expired(self) -> list[Ending]:
        """The peers whose certificates have ended."""
        return [ending for ending in self.near if expiry.level(ending.not_after, self.now) == expiry.EXPIRED]


def read(home: Path) -> tuple[Config, tuple[PeerAuthError, ...]]:
    """What this node is, by config.toml; where that has mistakes, by a server that runs here, and the mistakes."""
    from peerauth.store.config import load_config

    try:
        return load_config(home), ()
    except BadInput as error:
        config = running(home)
        if config is None:
            raise
        return config, (error, *error.also)


def running(home: Path) -> Config | None:
    """What a server that runs here says that this node is: its name and its files."""
    from peerauth.server.window import NODE, look
    from peerauth.store.config import FILE_NAME, Config

    for server in look(home):
        node = server.get("node")
        found = [node.get(key) for key in NODE] if isinstance(node, dict) else [None]
        if all(isinstance(value, str) for value in found):
            name, key, certificate, peers = map(str, found)
            return Config(home / FILE_NAME, name, Path(key), Path(certificate), Path(peers))
    return None


def find(config: Config, mistakes: tuple[PeerAuthError, ...], now: datetime) -> Status:
    """Look at everything. What cannot be read is in `attention`."""
    from peerauth.cli.strangers import waiting
    from peerauth.server.window import look
    from peerauth.store.invitations import Invitations
    from peerauth.store.peerdir import PeerDirectory
    from peerauth.store.state import SERVING, State

    directory = PeerDirectory(config.peers)
    directory.refresh()
    home = config.path.parent
    state = State(home)
    near = sorted(directory.endings(now + _HORIZON), key=lambda ending: (ending.seconds, ending.name))
    own, attention = _own(config, now)
    rotation, trouble = _rotation(config, directory)
    attention += trouble
    serving, servers = state.is_alive(SERVING, many=True), look(home)
    found = Status(
        config,
        now,
        own,
        len(directory.current),
        tuple(near),
        directory.problems,
        tuple((service, sum(map(service.policy.allows, directory.current))) for service in config.services),
        serving or bool(servers),
        tuple(servers),
        tuple(stranger for stranger in waiting(state, directory) if stranger.denied is None),
        tuple(invitation for invitation in Invitations(state).all() if invitation.over(now) is None),
        rotation,
        mistakes,
        [*((mistake.message, mistake.hint) for mistake in mistakes), *attention],
    )
    attention = found.attention
    if not mistakes:
        attention += [_stale(server) for server in servers if server.get("config") not in {None, config.digest}]
    for ending in (*found.expired, *found.within(expiry.URGENT)):
        text = f"the certificate of {ending.name} {expiry.sentence(ending.not_after, now)}"
        attention.append((text, expiry.advice(ending.name, ending.not_after, now)))
    attention += [(problem.message, None) for problem in found.problems]
    attention += [("a server runs here and does not answer", None) for server in servers if not server]
    return found


def _stale(server: dict[str, Any]) -> tuple[str, str | None]:
    pid = server.get("pid")
    hint = f"to have it read again: kill -HUP {pid}" if isinstance(pid, int) else None
    return "config.toml was changed since the server read it", hint


def _own(config: Config, now: datetime) -> tuple[Ending | None, list[tuple[str, str | None]]]:
    """When this node's certificate ends; and what a person has to do about it."""
    from peerauth.store.home import read_own_certificate

    try:
        certificate = read_own_certificate(config)
    except BadInput as error:
        return None, [(error.message, error.hint)]
    own = Ending(config.name, certificate.fingerprint, int(certificate.not_after.timestamp()))
    level = expiry.level(own.not_after, now)
    if level is None or level > expiry.URGENT:
        return own, []
    text = f"this node's certificate {expiry.sentence(own.not_after, now)}"
    return own, [(text, expiry.advice(None, own.not_after, now))]


def _rotation(config: Config, directory: PeerDirectory) -> tuple[Rotation | None, list[tuple[str, str | None]]]:
    """The rotation under way; and what a person has to do where that cannot be read."""
    from peerauth.store.home import read_own_certificate
    from peerauth.store.succession import read_succession

    try:
        succession = read_succession(config)
        errand = succession.under_way
        if errand is None or errand.statement.new == read_own_certificate(config):
            return None, []
    except BadInput as error:
        return None, [(error.message, error.hint)] if error.code == "bad-rotation" else []
    waiting = tuple(peer.name for peer in directory.current if errand.is_for(peer) and not errand.accepted_by(peer))
    return Rotation(errand.statement.new.fingerprint, succession.deadline, waiting), []
