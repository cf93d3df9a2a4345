"""config.toml, parsed once into frozen values. An unknown key is an error that names the nearest known one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from peerauth.address import Address
from peerauth.errors import BadInput, printable
from peerauth.store.document import Document, together
from peerauth.store.files import read_bounded
from peerauth.store.kinds import Command, Hello, Kind, OnUnknown, check_on_unknown, read_kind
from peerauth.store.nodetable import name_setting, read_node
from peerauth.store.schema import Table, parse_span, parse_toml, read_acceptance, read_address
from peerauth.store.socketfile import SocketFile, read_socket_file
from peerauth.store.tunnels import Tunnel, read_tunnel
from peerauth.trust.peers import Acceptance, check_name
from peerauth.trust.policy import Policy

if TYPE_CHECKING:
    from peerauth.http.routes import Routes
    from peerauth.store.places import At

FILE_NAME = "config.toml"
MAXIMUM_BYTES = 1 << 20
MOST_WORKERS = 64
Doors = list[tuple[Table, Address]]  # what listens so far, and where
_DAY, _CENTURY = 86_400.0, 36_500 * 86_400.0  # seconds


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what others can make this node hold or wait for, and the processes that bear it. Times in seconds."""

    handshake_timeout: float = 10.0
    max_handshakes: int = 1024
    max_connections: int = 10_000
    drain: float = 5.0
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Service:
    """One `[[serve]]` block: where it listens, what it is, and whom it is for; with routes, for whom each path is.

    `on_unknown`: what is done with everybody else.
    """

    name: str
    listen: Address
    kind: Kind = field(default_factory=Hello)
    policy: Policy = field(default_factory=Policy)
    on_unknown: OnUnknown = "refuse"
    routes: Routes | None = None
    file: SocketFile = field(default_factory=SocketFile)

    @property
    def policies(self) -> tuple[Policy, ...]:
        """Its own, and those of its routes."""
        return (self.policy, *(route.policy for route in self.routes or ()))

    @property
    def backend(self) -> str | None:
        """The path of the socket at which its command serves; None while it has none."""
        return self.kind.backend.path if isinstance(self.kind, Command) and self.kind.backend else None


@dataclass(frozen=True, slots=True)
class AutoRotation:
    """`[rotation]`: how old a certificate gets before `serve` makes the next one, and the terms of that."""

    every: timedelta
    deadline: timedelta = timedelta(days=7)
    overlap: timedelta = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Config:
    """What a node is and what it serves. Paths are absolute."""

    path: Path
    name: str
    key: Path
    certificate: Path
    peers: Path
    min_tls: Literal["1.2", "1.3"] = "1.3"
    services: tuple[Service, ...] = ()
    groups: Mapping[str, list[str]] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    remember: bool = True  # who was refused, and the certificates of strangers
    accept: Acceptance = "auto"  # what is done when a peer says which certificate comes next, unless its notes say
    rotation: AutoRotation | None = None
    tunnels: tuple[Tunnel, ...] = ()
    digest: str = field(default="", compare=False)  # SHA-256 of the file, in hexadecimal


def load_config(home: Path) -> Config:
    """Read `home`/config.toml. Raises BadInput: `no-config`, `bad-toml`, `unknown-setting`, `bad-setting`."""
    return parse_config(read_config(home), home)


def read_config(home: Path) -> bytes:
    """What is in `home`/config.toml. Raises BadInput("no-config"), or what keeps it from being read."""
    path = home / FILE_NAME
    try:
        return read_bounded(path, MAXIMUM_BYTES)
    except BadInput as error:
        if error.code != "no-such-file":
            raise
        from peerauth.store.no_home import no_home  # noqa: PLC0415 - nobody needs it where there is a node

        raise no_home(home, FILE_NAME) from error


def peers_of(home: Path) -> Path:
    """Where the peers of this node are, whatever is wrong with the rest of config.toml. Raises BadInput as `load_config`."""
    peers = read_node(parse_toml(read_config(home), home / FILE_NAME)).peers
    assert peers is not None, "what is wrong with it was raised"
    return peers


def parse_config(data: bytes, home: Path) -> Config:
    """The configuration in these bytes; relative paths are relative to `home`. Raises BadInput with every mistake."""
    try:
        return replace(_read(parse_toml(data, home / FILE_NAME), home, []), digest=hashlib.sha256(data).hexdigest())
    except BadInput as error:
        _, document, _ = examine_config(data, home)
        raise together(document.mistakes) if document.mistakes else error from None


def examine_config(data: bytes, home: Path) -> tuple[Config, Document, dict[Address, At]]:
    """The same with every mistake, in the document; the configuration without what is wrong, its name empty where that is.

    And where the blocks stand, by the address that each listens at.
    """
    document = parse_toml(data, home / FILE_NAME, gathering=True)
    doors: Doors = []
    config = _read(document, home, doors)
    return config, document.document, {address: table.at for table, address in doors}


def _read(document: Table, home: Path, doors: Doors) -> Config:
    node = read_node(document)
    groups = _groups(document.table("groups"))
    blocks = document.tables("serve")
    services = [_service(table, groups, doors) for table in blocks]
    _no_name_twice(blocks, services)
    tunnels = [_tunnel(table, doors) for table in document.tables("tunnel")]
    _no_door_twice(doors)
    limits = _limits(document.table("limits"))
    refusals = document.table("refusals")
    remember = refusals.flag("remember", default=True)
    refusals.done()
    accept, rotation = _rotation(document.table("rotation"))
    document.done()
    return Config(
        home / FILE_NAME,
        node.name or "",
        node.key or home,
        node.certificate or home,
        node.peers or home,
        node.min_tls,
        tuple(service for service in services if service is not None),
        groups,
        limits,
        remember,
        accept,
        rotation,
        tuple(tunnel for tunnel in tunnels if tunnel is not None),
    )


def _groups(table: Table) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for group in table.keys():  # noqa: SIM118 - a Table is no mapping
        groups[group] = []
        for member in table.texts(group) or []:
            try:
                groups[group].append(_member(table, group, member))
            except BadInput as error:
                table.note(error)
    return groups


def _member(table: Table, group: str, member: str) -> str:
    if member.startswith("@"):
        raise table.error(group, "may not contain another group")
    return member if member.startswith("tag:") else name_setting(table, group, member)


def _service(table: Table, groups: dict[str, list[str]], doors: Doors) -> Service | None:
    listen = table.attempt(lambda: read_address(table, "listen"))
    if listen is None:
        table.wrong("listen", "is missing", 'for instance: listen = "0.0.0.0:8443"')
    else:
        doors.append((table, listen))
    name = table.attempt(lambda: name_setting(table, "name", table.text("name") or "default"))
    kind = table.attempt(lambda: read_kind(table))
    file = table.attempt(lambda: read_socket_file(table, listen or Address(path="/")))
    policy = table.attempt(lambda: _policy(table, name or "default", groups))
    on_unknown = table.attempt(lambda: _on_unknown(table, kind))
    routes = table.attempt(lambda: _routes(table, name or "default", groups, kind))
    table.done()
    if listen is None or name is None or kind is None or file is None or policy is None or on_unknown is None:
        return None
    return Service(name, listen, kind, policy, on_unknown, routes, file)


def _on_unknown(table: Table, kind: Kind | None) -> OnUnknown:
    explains = table.choice("on_unknown", ("refuse", "explain"), "refuse") == "explain"
    with table.about("on_unknown"):
        return check_on_unknown("explain" if explains else "refuse", kind or Hello())


def _routes(table: Table, name: str, groups: dict[str, list[str]], kind: Kind | None) -> Routes | None:
    if not table.has("routes"):
        return None
    from peerauth.store.web import read_routes  # noqa: PLC0415 - most commands read config.toml and no HTTP

    speaks_http = kind is None or kind.speaks_http
    return read_routes(table, lambda allow: make_policy(name, allow, groups), speaks_http=speaks_http)


def _policy(table: Table, name: str, groups: dict[str, list[str]]) -> Policy:
    allow = table.texts("allow")
    for entry in allow or []:
        try:
            with table.about("allow"):
                make_policy(name, [entry], groups)
        except BadInput as error:
            table.note(error)
            allow = None
    return make_policy(name, allow, groups)


def _tunnel(table: Table, doors: Doors) -> Tunnel | None:
    tunnel = read_tunnel(table)
    if tunnel is not None:
        doors.append((table, tunnel.listen))
    return tunnel


def _no_name_twice(blocks: list[Table], services: list[Service | None]) -> None:
    known: dict[str, Table] = {}
    for table, service in zip(blocks, services, strict=True):
        if service is None or (other := known.setdefault(service.name, table)) is table:
            continue
        where = f" (line {line})" if (line := other.line("name")) else ""
        text = f"is '{service.name}'" if table.has("name") else f"is not set, so it is '{service.name}'"
        table.wrong("name", f"{text}, and so is that of another block{where}", "give each its own: name = ...")


def _no_door_twice(doors: Doors) -> None:
    for number, (table, address) in enumerate(doors):
        for other, taken in doors[:number]:
            if address.overlaps(taken):
                where = f" (line {line})" if (line := other.line("listen")) else ""
                another = "another block listens" if address == taken else f"another block listens at {taken}"
                table.wrong("listen", f"is {address}, and {another}{where}", "give each its own port")
                break


def policy_for(config: Config, service: str, allow: list[str] | None) -> Policy:
    """The policy of a service that is described on the command line. Raises BadInput."""
    return make_policy(service, allow, config.groups)


def reserved_names(config: Config, policies: Iterable[Policy] = ()) -> frozenset[str]:
    """The names that a service or a group is made for: nobody takes one of them for themselves."""
    served = (policy for service in config.services for policy in service.policies)
    allowed = [policy.names or frozenset() for policy in (*policies, *served)]
    members = (member for group in config.groups.values() for member in group if not member.startswith("tag:"))
    return frozenset().union(*allowed, members)


def make_policy(service: str, allow: list[str] | None, groups: Mapping[str, list[str]]) -> Policy:
    """An allow-list of peer names, `tag:NAME` and `@group`; None allows every pinned peer.

    Raises BadInput("no-such-group") or BadInput("bad-name").
    """
    if allow is None:
        return Policy(service)
    members: list[str] = []
    for entry in allow:
        if not entry.startswith("@"):
            members.append(entry)
        elif entry[1:] in groups:
            members += groups[entry[1:]]
        else:
            known = ", ".join(sorted(groups)) or "none is defined"
            raise BadInput("no-such-group", f"[groups] does not define '{printable(entry[1:], 40)}'", f"known: {known}")
    tags = {member[4:] for member in members if member.startswith("tag:")}
    names = {check_name(member) for member in members if not member.startswith("tag:")}
    return Policy(service, frozenset(names), frozenset(tags))


def _limits(table: Table) -> Limits:
    default = Limits()
    limits = Limits(
        handshake_timeout=table.seconds("handshake_timeout", default.handshake_timeout, 0.1, 300),
        max_handshakes=table.whole("max_handshakes", default.max_handshakes, 1, 100_000),
        max_connections=table.whole("max_connections", default.max_connections, 1, 1_000_000),
        drain=table.seconds("drain", default.drain, 0, 3600),
        workers=table.whole("workers", default.workers, 1, MOST_WORKERS),
    )
    table.done()
    return limits


def check_every(text: str) -> str:
    """`text`, if a certificate may be so old before the next one is made. Raises BadInput("bad-span")."""
    span = parse_span(text)
    if span is None or not _DAY <= span.total_seconds() <= _CENTURY:
        raise BadInput("bad-span", f"it is a time such as 60d, between 1 and {_CENTURY / _DAY:g} days")
    return text.strip()


def _rotation(table: Table) -> tuple[Acceptance, AutoRotation | None]:
    default = AutoRotation(timedelta())
    accept = read_acceptance(table, "accept") or "auto"
    every = table.seconds("every", 0, 0, _CENTURY)
    deadline = table.seconds("deadline", default.deadline.total_seconds(), 0, _CENTURY)
    overlap = table.seconds("overlap", default.overlap.total_seconds(), 0, _CENTURY)
    table.done()
    if not every:
        return accept, None
    if every < _DAY:
        table.wrong("every", f"must be between 1 and {_CENTURY / _DAY:g} days")
        return accept, None
    return accept, AutoRotation(timedelta(seconds=every), timedelta(seconds=deadline), timedelta(seconds=overlap))
