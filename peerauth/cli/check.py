"""`check`: whether a server and this node admit each other, and if not, on which side, why, and what to type."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peerauth.cli.command import command, option, unexpected
from peerauth.cli.connect import PeerOption
from peerauth.cli.node import load_peers, run
from peerauth.cli.secret import PassphraseFileOption, load_own
from peerauth.cli.ui import Cell, Ui
from peerauth.errors import PeerAuthError, UsageError

if TYPE_CHECKING:
    from peerauth.client.check import Report
    from peerauth.client.observe import Observation
    from peerauth.client.verdict import Ourselves
    from peerauth.trust.certificate import Certificate

_SERVICES = 10  # that are named


@command
def check(
    ui: Ui,
    to: Annotated[str | None, typer.Argument(metavar="PEER|HOST:PORT|unix:PATH", show_default=False)] = None,
    peer: PeerOption = None,
    max_wait: Annotated[
        float | None,
        typer.Option("--max-wait", metavar="SECONDS", help="How long to look at a server at most (10).", min=0.1, max=600),
    ] = None,
    warn: Annotated[
        int, typer.Option("--warn", metavar="DAYS", help="Warn when a certificate ends so soon.", min=0, max=36500)
    ] = 14,
    nagios: Annotated[bool, typer.Option("--nagios", help="One line and exit codes for monitoring plugins.")] = False,
    passphrase_file: PassphraseFileOption = None,
) -> None:
    """See whether a peer and this node admit each other, and if not, why, and what to type.

    Without an argument: every peer of whom it is noted where it is.
    """
    if nagios:
        raise typer.Exit(_for_monitoring(ui, to, peer, max_wait, warn, passphrase_file))
    ourselves, reports = _look(ui, to, peer, max_wait, passphrase_file)
    now = datetime.now(UTC)
    if ui.json:
        found = [_facts(report, ourselves, now, warn) for report in reports]
        ui.emit(found if to is None else found[0])
    elif to is None:
        ui.table(["peer", "address", "admitted", "as", "expires in", "round trip"], [_row(one, now) for one in reports])
    elif reports[0].seen is not None:
        _show(ui, ourselves, reports[0], now)
    if not ui.json:
        for report in reports:
            _say(ui, report, ourselves, now, warn)
        if to is not None and not reports[0].troubles:
            ui.data(reports[0].verdict)
    codes = {report.exit_code for report in reports}
    raise typer.Exit(3 if 3 in codes else max(codes))


def _look(
    ui: Ui, to: str | None, meant: str | None, seconds: float | None, passphrase_file: Path | None
) -> tuple[Ourselves, list[Report]]:
    from peerauth.client.check import check_all
    from peerauth.client.reaching import TIMEOUT
    from peerauth.client.target import everybody, locate
    from peerauth.client.verdict import Ourselves

    if to is None and meant is not None:
        raise UsageError(
            "usage", "--peer says who is at an address, and there is none", "peerauth check HOST:PORT --peer NAME"
        )
    own = load_own(ui, passphrase_file)
    config, identity = own.config, own.identity
    peers = load_peers(ui, config.peers).current
    with option("PEER", "bad-address"):
        targets = everybody(peers) if to is None else [locate(to, peers, meant)]
    ourselves = Ourselves(config.name, identity, ui.path(config.certificate), peers, config.min_tls)
    with ui.spinner(f"looking at {to or f'{len(targets)} peers'}"):
        return ourselves, run(check_all(ourselves, targets, seconds or TIMEOUT))


def _for_monitoring(
    ui: Ui, to: str | None, meant: str | None, seconds: float | None, days: int, passphrase_file: Path | None
) -> int:
    from peerauth.cli.nagios import tell, unknown

    if ui.json:
        return unknown(ui, UsageError("usage", "--nagios and --json are two ways to say the same: choose one"))
    try:
        ourselves, reports = _look(ui, to, meant, seconds, passphrase_file)
        return tell(ui, ourselves, reports, datetime.now(UTC), days)
    except PeerAuthError as error:
        return unknown(ui, error)
    except (BrokenPipeError, typer.Exit):
        raise
    except Exception as error:  # noqa: BLE001 - any other exit code would be taken for a state of the server
        return unknown(ui, unexpected(error))


def _show(ui: Ui, ourselves: Ourselves, report: Report, now: datetime) -> None:
    """What was seen of one server, for people."""
    from peerauth.cli.describe import aligned, validity

    seen, here, there, theirs = report.seen, report.here, report.there, report.certificate
    assert seen is not None
    assert here is not None
    assert there is not None
    pinned = f"as {here.pinned_as}" if here.pinned_as else "no"
    if here.error and here.error.code != "unknown":
        pinned += f", and not admitted ({here.error.code})"
    lines = [("server", report.who)]
    if theirs is not None:
        lines += [("fingerprint", str(theirs.fingerprint)), ("valid", validity(theirs, now))]
    lines += [("pinned here", pinned), ("admits us", there.how), ("services", _first(there.services))]
    lines += [("TLS", ", ".join(part for part in (seen.version, seen.group, seen.cipher) if part))]
    lines += [("protocol", seen.protocol), ("times", _times(seen)), ("clock", _clock(seen.skew))]
    own = ourselves.certificate
    lines += [("we are", f"{ourselves.name}, {own.fingerprint}"), ("our validity", validity(own, now))]
    ui.data(aligned([(label, text) for label, text in lines if text]))


def _first(services: Sequence[str]) -> str:
    more = f" and {len(services) - _SERVICES} more" if len(services) > _SERVICES else ""
    return ", ".join(services[:_SERVICES]) + more


def _say(ui: Ui, report: Report, ourselves: Ourselves, now: datetime, days: int) -> None:
    """What keeps the two apart, or soon will."""
    from peerauth.client.check import concerns

    for concern in concerns(report, ourselves, now, days):
        ui.warn(concern.text, concern.hint)
    for trouble in report.troubles:
        ui.error(trouble)


def _times(seen: Observation) -> str:
    trip = f"round trip {seen.round_trip * 1000:.1f} ms, " if seen.round_trip is not None else ""
    return f"{trip}connected in {seen.connecting * 1000:.1f} ms, handshake {seen.handshake * 1000:.1f} ms"


def _clock(skew: float | None) -> str:
    if skew is None:
        return ""
    seconds = round(abs(skew))
    return "as ours" if seconds < 2 else f"{seconds} s {'ahead of' if skew > 0 else 'behind'} ours"


def _row(report: Report, now: datetime) -> list[str | Cell]:
    """One of several servers."""
    from peerauth.cli.describe import in_time

    seen, there, theirs = report.seen, report.there, report.certificate
    if seen is None:
        state = Cell("not reached", "red")
    elif report.troubles:
        sides = [side for side, verdict in (("here", report.here), ("there", there)) if verdict and verdict.error]
        state = Cell(f"no, {' and '.join(sides)}" if sides else "no", "red")
    else:
        state = Cell("yes" if there and there.certain else "as it seems")
    named = (there.name or "") if there else ""
    trip = f"{seen.round_trip * 1000:.1f} ms" if seen and seen.round_trip is not None else ""
    return [report.peer or "", str(report.address), state, named, in_time(theirs, now) if theirs else "", trip]


def _facts(report: Report, ourselves: Ourselves, now: datetime, days: int) -> dict[str, Any]:
    """A report for programs; every key is always there."""
    from peerauth.client.check import concerns

    seen, here, there, theirs, troubles = report.seen, report.here, report.there, report.certificate, report.troubles
    return {
        "address": str(report.address),
        "peer": report.peer,
        "ok": not troubles,
        "error": _error(troubles[0] if troubles else None),
        "warnings": [concern.text for concern in concerns(report, ourselves, now, days)],
        "here": here and {"admitted": here.error is None, "pinned_as": here.pinned_as, "error": _error(here.error)},
        "there": there
        and {
            "admitted": there.admitted,
            "certain": there.certain,
            "how": there.how,
            "as": there.name,
            "services": there.services,
            "code": there.code,
            "error": _error(there.error),
        },
        "certificate": theirs and _certificate(theirs, now),
        "ourselves": {"name": ourselves.name, **_certificate(ourselves.certificate, now)},
        "tls": seen
        and {
            "version": seen.version,
            "key_exchange": seen.group,
            "cipher": seen.cipher,
            "protocol": seen.protocol or None,
            "asks_for_certificate": seen.asked,
            "alert": seen.alert,
            "http_status": seen.status,
        },
        "seconds": seen
        and {
            "connect": round(seen.connecting, 6),
            "handshake": round(seen.handshake, 6),
            "round_trip": None if seen.round_trip is None else round(seen.round_trip, 6),
            "clock_skew": None if seen.skew is None else round(seen.skew),
        },
    }


def _certificate(certificate: Certificate, now: datetime) -> dict[str, Any]:
    return {
        "fingerprint": certificate.fingerprint,
        "not_before": certificate.not_before,
        "not_after": certificate.not_after,
        "days_left": (certificate.not_after - now).days,
    }


def _error(error: PeerAuthError | None) -> dict[str, str | None] | None:
    return None if error is None else {"code": error.code, "message": error.message, "hint": error.hint}
