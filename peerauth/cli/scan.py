"""`peer scan`: look at the certificate that a server presents; pin it only when told to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peerauth.address import DEFAULT_PORT, Address, parse_address
from peerauth.cli.command import command, option
from peerauth.cli.describe import aligned, certificate_facts, certificate_lines
from peerauth.cli.node import load_peers
from peerauth.cli.ui import Ui
from peerauth.errors import BadInput, TrustRefused, UsageError

if TYPE_CHECKING:
    from peerauth.store.peerdir import PeerDirectory
    from peerauth.trust.certificate import Certificate


@command
def scan(
    ui: Ui,
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", show_default=False)],
    add: Annotated[str | None, typer.Option("--add", metavar="NAME", help="Pin it as this peer, if confirmed.")] = None,
    expect: Annotated[
        str | None,
        typer.Option("--expect", metavar="FINGERPRINT", help="What its owner told you; anything else is refused."),
    ] = None,
) -> None:
    """Show the certificate that a server presents. Nothing is pinned without --add and --expect, or your yes."""
    from peerauth.client.dial import anonymous_certificate
    from peerauth.store.config import load_config
    from peerauth.trust.certificate import Certificate
    from peerauth.trust.fingerprint import Fingerprint
    from peerauth.trust.peers import check_name

    with option("--expect"):
        expected = Fingerprint.parse(expect) if expect is not None else None
    if add is not None:
        with option("--add"):
            check_name(add)
    try:
        directory = load_peers(ui, load_config(ui.home).peers)
    except BadInput:
        if add is not None:
            raise
        directory = None  # looking needs no node
    with option("HOST:PORT"):
        named = directory.current.get(address) if directory is not None else None
        where = parse_address(named.address if named and named.address else address, default_port=DEFAULT_PORT)
    certificate = Certificate(anonymous_certificate(where))
    if expected is not None and certificate.fingerprint != expected:
        raise TrustRefused(
            "not-expected",
            f"{where} presents {certificate.fingerprint}, not the expected {expected}",
            "someone may stand in between; nothing was pinned",
        )
    holder = directory.current.known(certificate) if directory is not None else None
    by_key = holder is not None and certificate.fingerprint not in holder.pins
    facts = {"address": str(where), "pinned_as": holder.name if holder else None, "pinned_by_key": by_key}
    _show(ui, certificate, facts, only=add is None)
    if add is not None and directory is not None:
        confirmed = expected is not None or holder is not None
        _pin(ui, directory, add, certificate, where, confirmed=confirmed)
    elif holder is None:
        ui.say(f"nothing was pinned; to pin it: peerauth peer scan {where} --add NAME --expect FINGERPRINT")


def _show(ui: Ui, certificate: Certificate, facts: dict[str, Any], *, only: bool) -> None:
    now = datetime.now(UTC)
    if ui.json:
        if only:
            ui.emit({**facts, **certificate_facts(certificate, now)})
        return
    pinned = f"as {facts['pinned_as']}{', by its key' if facts['pinned_by_key'] else ''}" if facts["pinned_as"] else "no"
    ui.data(aligned([*certificate_lines(certificate, now), ("pinned", pinned)]))


def _pin(ui: Ui, directory: PeerDirectory, name: str, certificate: Certificate, where: Address, *, confirmed: bool) -> None:
    from peerauth.trust.peers import PeerSettings

    if not confirmed and not ui.confirm(f"Is this the fingerprint that its owner told you? Pin it as {name}?"):
        raise UsageError(
            "not-confirmed",
            "nothing was pinned: nobody said that this is the right certificate",
            "ask its owner for `peerauth id --fingerprint`, then: "
            f"peerauth peer scan {where} --add {name} --expect FINGERPRINT",
        )
    known = name in directory.current
    changed = directory.add(name, [certificate], None if known else PeerSettings(address=str(where)))
    if ui.json:
        facts = certificate_facts(certificate, datetime.now(UTC))
        ui.emit({"address": str(where), "pinned_as": name, "changed": changed, **facts})
    else:
        ui.say(f"{name} is pinned" + ("" if changed else " already") + f"; to reach it: peerauth connect {name}")
