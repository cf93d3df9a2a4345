"""`peer scan`: look at the certificate that a server presents; pin it only when told to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from peerauth.address import DEFAULT_PORT, parse_address
from peerauth.cli.command import command, option
from peerauth.cli.describe import aligned, certificate_facts, certificate_lines
from peerauth.cli.node import load_peers
from peerauth.cli.ui import Ui
from peerauth.errors import TrustRefused, UsageError


@command
def scan(
    ui: Ui,
    address: Annotated[str, typer.Argument(metavar="HOST:PORT", show_default=False)],
    add: Annotated[str | None, typer.Option("--add", metavar="NAME", help="Pin it as this peer, if confirmed.")] = None,
    expect: Annotated[
        str | None, typer.Option("--expect", metavar="FINGERPRINT", help="What its owner told you; anything else is refused.")
    ] = None,
) -> None:
    """Show the certificate that a server presents. Nothing is pinned without --add and --expect, or your yes."""
    from peerauth.client.dial import anonymous_certificate
    from peerauth.errors import BadInput
    from peerauth.store.config import load_config
    from peerauth.trust.certificate import Certificate
    from peerauth.trust.fingerprint import Fingerprint
    from peerauth.trust.peers import PeerSettings, check_name

    with option("HOST:PORT"):
        where = parse_address(address, default_port=DEFAULT_PORT)
    with option("--expect"):
        expected = Fingerprint.parse(expect) if expect is not None else None
    if add is not None:
        with option("--add"):
            check_name(add)
    now = datetime.now(UTC)
    directory = load_peers(ui, load_config(ui.home).peers) if add is not None else None
    certificate = Certificate(anonymous_certificate(where))
    if expected is not None and certificate.fingerprint != expected:
        raise TrustRefused(
            "not-expected",
            f"{where} presents {certificate.fingerprint}, not the expected {expected}",
            "someone may stand in between; nothing was pinned",
        )
    if directory is None:
        try:
            directory = load_peers(ui, load_config(ui.home).peers)
        except BadInput:
            directory = None  # looking needs no node
    holder = directory.current.holder(certificate.fingerprint) if directory is not None else None
    facts = certificate_facts(certificate, now)
    if not (ui.json and add):
        if ui.json:
            ui.emit({"address": str(where), "pinned_as": holder.name if holder else None, **facts})
        else:
            ui.data(aligned([*certificate_lines(certificate, now), ("pinned", f"as {holder.name}" if holder else "no")]))
    if add is None or directory is None:
        if holder is None:
            ui.say(f"nothing was pinned; to pin it: peerauth peer scan {where} --add NAME --expect FINGERPRINT")
        return
    if expected is None and holder is None and not ui.confirm(f"Is this the fingerprint that its owner told you? Pin it as {add}?"):
        raise UsageError(
            "not-confirmed",
            "nothing was pinned: nobody said that this is the right certificate",
            f"ask its owner for `peerauth id --fingerprint`, then: peerauth peer scan {where} --add {add} --expect FINGERPRINT",
        )
    changed = directory.add(add, [certificate], PeerSettings(address=str(where)) if holder is None else None)
    if ui.json:
        ui.emit({"address": str(where), "pinned_as": add, "changed": changed, **facts})
    else:
        ui.say(f"{add} is pinned" + ("" if changed else " already") + f"; to reach it: peerauth connect {add}")
