"""A peer's `.toml`: what a person noted about a peer beside its certificate, read and written."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import tomli_w

from peerauth.address import parse_address
from peerauth.errors import BadInput, printable
from peerauth.store.schema import Table, parse_toml, read_acceptance
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import Network, PeerSettings


def parse_settings(data: bytes, path: Path) -> PeerSettings:
    """The settings in a peer's `.toml`. Raises BadInput naming the file and the field."""
    table = parse_toml(data, path)
    address = table.text("address")
    if address is not None:
        try:
            parse_address(address)
        except BadInput as error:
            raise table.error("address", f"is not usable: {error.message}", error.hint) from error
    most = table.whole("max_connections", 0, 0, 1_000_000)
    settings = PeerSettings(
        note=table.text("note") or "",
        tags=tuple(table.texts("tags") or ()),
        address=address,
        pin="key" if table.choice("pin", ("cert", "key"), "cert") == "key" else "cert",
        sources=tuple(_network(table.error, text) for text in table.texts("from") or ()),
        until=table.moment("until"),
        max_connections=most or None,
        rotation=read_acceptance(table, "rotation"),
        rotated=table.moment("rotated"),
        retire=_retire(table.table("retire")),
        follows=_follows(table.table("follows")),
    )
    table.done()
    return settings


def _retire(table: Table) -> tuple[tuple[Fingerprint, datetime], ...]:
    dates = [(_pin(table, key, key), table.moment(key)) for key in table.keys()]  # noqa: SIM118 - a Table is no mapping
    return tuple(sorted((pin, moment) for pin, moment in dates if moment is not None))


def _follows(table: Table) -> tuple[tuple[Fingerprint, Fingerprint], ...]:
    found = [(_pin(table, key, key), _pin(table, key, table.text(key) or "")) for key in table.keys()]  # noqa: SIM118
    return tuple(sorted(found))


def _pin(table: Table, key: str, text: str) -> Fingerprint:
    try:
        return Fingerprint.parse(text)
    except BadInput as error:
        raise table.error(printable(key, 100), f"is not usable: {error.message}", error.hint) from error


def _network(error: Callable[..., BadInput], text: str) -> Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise error("from", "must be addresses or CIDR networks", 'for instance ["10.0.0.0/8", "2001:db8::1"]') from None


def format_settings(settings: PeerSettings) -> bytes:
    """The same settings as a `.toml`, with nothing in it that is not set."""
    values: dict[str, Any] = {
        "note": settings.note,
        "tags": list(settings.tags),
        "address": settings.address,
        "pin": None if settings.pin == "cert" else settings.pin,
        "from": [str(network) for network in settings.sources],
        "until": settings.until.astimezone(UTC) if settings.until else None,
        "max_connections": settings.max_connections,
        "rotation": settings.rotation,
        "rotated": settings.rotated.astimezone(UTC) if settings.rotated else None,
        "retire": {str(pin): moment.astimezone(UTC) for pin, moment in settings.retire},
        "follows": {str(new): str(old) for new, old in settings.follows},
    }
    return tomli_w.dumps({key: value for key, value in values.items() if value}).encode()
