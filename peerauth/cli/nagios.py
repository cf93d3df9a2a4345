"""What monitoring reads: one line with a state, and performance data behind it; the state is the exit code, too.

As the Monitoring Plugins Development Guidelines have it. The line is on standard output; more lines may follow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import IntEnum
from typing import TYPE_CHECKING

from peerauth.cli.ui import Ui
from peerauth.errors import PeerAuthError, printable

if TYPE_CHECKING:
    from peerauth.client.check import Report
    from peerauth.client.verdict import Ourselves

_LONGEST = 1000  # characters of a line


class State(IntEnum):
    """The exit codes of a plugin."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


def unknown(ui: Ui, error: PeerAuthError) -> int:
    """Say that nothing could be found out, because of us; the exit code."""
    ui.data(f"{State.UNKNOWN.name} - {_plain(ui.here(str(error)))}")
    return State.UNKNOWN


def tell(ui: Ui, ourselves: Ourselves, reports: Sequence[Report], now: datetime, days: int) -> int:
    """Say how it stands; the exit code."""
    found = [(report, *_state(report, ourselves, now, days)) for report in reports]
    judged = [(report, state, ui.here(text)) for report, state, text in found]
    worst = max(state for _, state, _ in judged)
    data = " ".join(_performance(report, ourselves, now, days, alone=len(judged) == 1) for report, _, _ in judged)
    if len(judged) == 1:
        text = judged[0][2]
    else:
        bad = [report.who for report, state, _ in judged if state]
        text = f"{len(judged) - len(bad)} of {len(judged)} peers are well" + (f"; not {', '.join(bad)}" if bad else "")
    ui.data(f"{worst.name} - {_plain(text)} | {data}".rstrip(" |"))
    if len(judged) > 1:
        for _, state, text in judged:
            ui.data(f"{state.name} - {_plain(text)}")
    return worst


def _state(report: Report, ourselves: Ourselves, now: datetime, days: int) -> tuple[State, str]:
    from peerauth.client.check import concerns

    if report.troubles:
        return State.CRITICAL, "; ".join(map(str, report.troubles))
    found = concerns(report, ourselves, now, days)
    if found:
        state = State.CRITICAL if any(concern.critical for concern in found) else State.WARNING
        return state, "; ".join(concern.text for concern in found)
    return State.OK, report.verdict


def _performance(report: Report, ourselves: Ourselves, now: datetime, days: int, *, alone: bool) -> str:
    """`label=value[unit];[warn];[crit]`; a range `14:` is left by what is below it."""
    seen, theirs = report.seen, report.certificate
    if seen is None:
        return ""
    own = ourselves.certificate
    values = {"days_left": f"{(theirs.not_after - now).days};{days}:;1:"} if theirs else {}
    values["own_days_left"] = f"{(own.not_after - now).days};{days}:;1:"
    values["handshake"] = f"{seen.handshake:.6f}s"
    if seen.round_trip is not None:
        values["round_trip"] = f"{seen.round_trip:.6f}s"
    if seen.skew is not None:
        values["clock_skew"] = f"{round(seen.skew)}s"
    prefix = "" if alone else f"{report.peer}_"
    return " ".join(f"{prefix}{label}={value}" for label, value in values.items())


def _plain(text: str) -> str:
    """On one line, and without the bar before which performance data begins."""
    return printable(" ".join(text.split()).replace("|", "/"), _LONGEST)
