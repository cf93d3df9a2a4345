"""`status`: how this node stands, for a person, for a program, and for a monitoring system."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peerauth.cli.command import command
from peerauth.cli.standing import Status, find, read
from peerauth.cli.ui import Ui
from peerauth.errors import UsageError, counted, printable
from peerauth.trust import expiry
from peerauth.trust.expiry import Ending

if TYPE_CHECKING:
    from peerauth.store.config import Service

NEEDS_A_PERSON = 1  # exit code with --check
_SHOWN = 20  # of peers and problems, for a person
_NOT_TAKEN_OVER = "cannot be used as it is, and was not taken over: what runs goes by what it was before"


@command
def status(
    ui: Ui,
    *,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 when something needs a person.")] = False,
    metrics: Annotated[bool, typer.Option("--metrics", help="Print metrics for Prometheus, in its text format.")] = False,
) -> None:
    """Show how this node stands: its certificate, its peers, its services, and the server that runs here.

    Who waits to be approved, open invitations and a rotation under way are said where there are any.
    """
    if metrics and ui.json:
        raise UsageError("usage", "--metrics and --json exclude each other: choose one")
    found = find(*read(ui.home), datetime.now(UTC))
    if metrics:
        from peerauth.cli.metrics import exposition

        ui.data(exposition(found))
    elif ui.json:
        ui.emit(_facts(found))
    else:
        from peerauth.cli.describe import aligned

        ui.data(aligned(_lines(ui, found)))
    if check and found.attention:
        raise typer.Exit(NEEDS_A_PERSON)


def _ending_facts(ending: Ending, now: datetime) -> dict[str, Any]:
    left = expiry.days_left(ending.not_after, now)
    return {"name": ending.name, "fingerprint": ending.fingerprint, "expires": ending.not_after, "days_left": left}


def _facts(found: Status) -> dict[str, Any]:
    """Everything, for programs."""
    now = found.now
    return {
        "name": found.config.name,
        "home": found.config.path.parent,
        "config_mistakes": [
            {"code": mistake.code, "message": mistake.message, "hint": mistake.hint} for mistake in found.mistakes
        ],
        "certificate": None if found.own is None else _ending_facts(found.own, now),
        "peers": found.peers,
        "expired": [_ending_facts(ending, now) for ending in found.expired],
        "expiring": [_ending_facts(ending, now) for ending in found.within(max(expiry.LEVELS))],
        "problems": [{"code": problem.code, "message": problem.message} for problem in found.problems],
        "services": [
            {"name": service.name, "listen": service.listen, "target": service.kind.leads_to, "peers": count}
            for service, count in found.allowed
        ],
        "tunnels": [
            {
                "name": tunnel.name,
                "listen": tunnel.listen,
                "peer": tunnel.peer,
                "address": None if tunnel.address is None else str(tunnel.address),
            }
            for tunnel in found.config.tunnels
        ],
        "serving": found.serving,
        "servers": found.servers,
        "pending": len(found.pending),
        "invitations": len(found.invitations),
        "rotation": None
        if found.rotation is None
        else {
            "next": found.rotation.next,
            "deadline": found.rotation.deadline,
            "not_accepted": found.rotation.waiting,
        },
        "attention": [text for text, _ in found.attention],
    }


def _lines(ui: Ui, found: Status) -> list[tuple[str, str]]:
    """The same for a person, with what matters of it."""
    own = found.own
    lines = [
        ("name", found.config.name),
        ("home", ui.path(found.config.path.parent)),
        *([("config.toml", _NOT_TAKEN_OVER)] if found.mistakes else []),
        ("fingerprint", str(own.fingerprint) if own else "none"),
        ("certificate", expiry.sentence(own.not_after, found.now) if own else "none that can be used"),
        ("peers", _peers(found)),
    ]
    urgent = set(found.within(expiry.URGENT))
    soon = [ending for ending in found.within(max(expiry.LEVELS)) if ending not in urgent]
    lines += [("soon", f"{ending.name} {expiry.sentence(ending.not_after, found.now)}") for ending in soon[:_SHOWN]]
    lines += [("service", _service(service, count)) for service, count in found.allowed]
    if not found.allowed and not found.config.tunnels and not found.mistakes:
        lines.append(("service", "none in config.toml; serve says hello"))
    lines += [("tunnel", f"{tunnel.name} on {tunnel.listen} {tunnel}") for tunnel in found.config.tunnels]
    lines += [("serving", _server(server)) for server in found.servers]
    if not found.servers:
        lines.append(("serving", "yes; it cannot be asked how it stands" if found.serving else "no"))
    lines += [(label, ui.here(text)) for label, text in _under_way(found)]
    lines += [("attention", ui.here(f"{text}; {hint}") if hint else text) for text, hint in found.attention[:_SHOWN]]
    if len(found.attention) > _SHOWN:
        lines.append(("attention", f"and {len(found.attention) - _SHOWN} more, which --json lists"))
    return lines


def _under_way(found: Status) -> list[tuple[str, str]]:
    """What waits, for others or for a person: only what there is."""
    lines = []
    if found.pending:
        lines.append(("pending", f"{len(found.pending)} to be approved or denied; to see who: peerauth peer pending"))
    if found.invitations:
        ends = max(invitation.expires for invitation in found.invitations)
        text = f"{len(found.invitations)} open, until {ends:%Y-%m-%d %H:%M} UTC; to see them: peerauth invite --list"
        lines.append(("invitations", text))
    if found.rotation is not None:
        waits = len(found.rotation.waiting)
        told = f"{counted(waits, 'peer')} {'has' if waits == 1 else 'have'} not accepted" if waits else "all have accepted"
        when = f", at the latest on {found.rotation.deadline:%Y-%m-%d %H:%M} UTC" if found.rotation.deadline else ""
        text = f"{told} the next certificate; it is presented when all have{when}; to see who: peerauth rotate --status"
        lines.append(("rotation", text))
    return lines


def _peers(found: Status) -> str:
    soon, expired = len(found.within(max(expiry.LEVELS))), len(found.expired)
    parts = [str(found.peers) if found.peers else "nobody is admitted"]
    parts += [f"{soon} {'expires' if soon == 1 else 'expire'} soon"] if soon else []
    parts += [f"{expired} {'has' if expired == 1 else 'have'} expired"] if expired else []
    broken = len(found.problems)
    parts += [counted(broken, "problem")] if broken else []
    return ", ".join(parts)


def _service(service: Service, count: int) -> str:
    return f"{service.name} on {service.listen} {service.kind}, for {counted(count, 'peer')}"


def _server(server: dict[str, Any]) -> str:
    """A server that runs, in a line; what it says is not ours, and may be of another version."""
    if not server:
        return "yes, but it does not answer"
    running = (*_rows(server.get("services")), *_rows(server.get("tunnels")))
    places = ", ".join(f"{place['name']} on {place['address']}" for place in running)
    refused = server.get("refused")
    counts = refused.items() if isinstance(refused, dict) else ()
    said = ", ".join(f"{count} {code}" for code, count in counts) or "0"
    workers = f", {server.get('workers_ready')} of {server.get('workers')} workers" if server.get("workers") != 1 else ""
    text = (
        f"{places} (process {server.get('pid')} since {server.get('started')}{workers}); open connections: "
        f"{server.get('connections')}, admitted: {server.get('admitted')}, ended: {server.get('ended')}, refused: {said}"
    )
    return printable(text, 2000)


def _rows(value: object) -> Sequence[dict[str, Any]]:
    rows = value if isinstance(value, list) else []
    return [row for row in rows if isinstance(row, dict) and row.keys() >= {"name", "address"}]
