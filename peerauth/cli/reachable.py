"""Where others reach this node, as far as this node can know."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from typing import TYPE_CHECKING

from peerauth.address import DEFAULT_PORT, Address, parse_address
from peerauth.cli.command import option
from peerauth.errors import BadInput, UsageError

if TYPE_CHECKING:
    from peerauth.store.config import Config


def reachable(config: Config, given: str | None = None) -> Address:
    """The address that was `given` with --address, or the first of TCP at which this node listens."""
    if given is not None:
        with option("--address"):
            address = parse_address(given, default_port=DEFAULT_PORT)
            if address.path is not None or not address.host:
                raise UsageError("usage", "--address is what others type to reach this node: HOST:PORT")
            return address
    return named(next((address for address in listening(config) if address.path is None), Address("", DEFAULT_PORT)))


def listening(config: Config) -> list[Address]:
    """Where the services of config.toml listen; without any, the server that runs here, or else `serve` would."""
    if config.services:
        return [service.listen for service in config.services]
    from peerauth.server.window import look

    found = []
    for server in look(config.path.parent):
        rows = server.get("services")
        for row in rows if isinstance(rows, list) else ():  # what a server says may be of another version
            with contextlib.suppress(BadInput, KeyError, TypeError, AttributeError):
                found.append(parse_address(row["address"]))
    return found or [Address("", DEFAULT_PORT)]


def named(listen: Address) -> Address:
    """What to type elsewhere to reach what listens here: of every interface, the machine's name."""
    return Address(socket.gethostname(), listen.port) if is_every_interface(listen) else listen


def is_every_interface(address: Address) -> bool:
    """Whether this is an address of all interfaces: no host, 0.0.0.0 or ::."""
    if address.path is not None:
        return False
    try:
        return not address.host or ipaddress.ip_address(address.host).is_unspecified
    except ValueError:
        return False
