"""`up --check`: what would run, and everything that is wrong with it, in the order of config.toml."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from peerauth.cli.secret import NODE_KEY
from peerauth.cli.ui import Ui
from peerauth.errors import PeerAuthError, counted
from peerauth.store.config import FILE_NAME

if TYPE_CHECKING:
    from peerauth.server.examine import Examined, Finding


def examine(ui: Ui, passphrase_file: Path | None) -> None:
    """Say what was found; exit code 1 when something is wrong."""
    from peerauth.server.examine import examine as look

    found = look(ui.home, datetime.now(UTC), NODE_KEY.given(passphrase_file))
    if ui.json:
        ui.emit(_facts(ui, found))
    else:
        for text in _would_run(found):
            ui.data(text)
        for warning in found.warnings:
            ui.warn(_placed(ui, warning), warning.hint)
        for mistake in found.mistakes:
            ui.error(PeerAuthError(mistake.code, _placed(ui, mistake), mistake.hint))
        if found.mistakes:
            ui.notice(
                f"{counted(len(found.mistakes), 'mistake')} in {ui.path(ui.home / FILE_NAME)}: it would not run as it is"
            )
    if found.mistakes:
        raise typer.Exit(1)


def _placed(ui: Ui, finding: Finding) -> str:
    line = "" if finding.line is None else f":{finding.line}"
    return f"{ui.path(ui.home / FILE_NAME)}{line}: {finding.text}"


def _would_run(found: Examined) -> Iterable[str]:
    name = found.config.name or "this node"
    yield from (f"{name} {one.kind} on {one.listen}, as '{one.name}'" for one in found.config.services)
    yield from (f"{one.listen} {one}, as '{one.name}'" for one in found.config.tunnels)


def _facts(ui: Ui, found: Examined) -> dict[str, Any]:
    services, tunnels = found.config.services, found.config.tunnels
    return {
        "file": str(ui.home / FILE_NAME),
        "services": [{"name": s.name, "listen": s.listen, "does": str(s.kind), "target": s.kind.leads_to} for s in services],
        "tunnels": [
            {"name": t.name, "listen": t.listen, "peer": t.peer, "address": t.address and str(t.address)} for t in tunnels
        ],
        "mistakes": [_as_data(finding) for finding in found.mistakes],
        "warnings": [_as_data(finding) for finding in found.warnings],
    }


def _as_data(finding: Finding) -> dict[str, Any]:
    return {"code": finding.code, "line": finding.line, "message": finding.text, "hint": finding.hint}
