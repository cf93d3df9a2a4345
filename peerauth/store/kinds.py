"""What a service can be: one kind for each key of `[[serve]]` that says so, and the hello service without any."""

from __future__ import annotations

from collections.abc import Callable

from peerauth.errors import BadInput
from peerauth.store.kind import Hello, Kind, OnUnknown, check_on_unknown
from peerauth.store.kind_app import App, Interface, app, read_app
from peerauth.store.kind_command import Command, read_command, run
from peerauth.store.kind_http import Http, http, read_http
from peerauth.store.kind_relay import Relay, read_relay, relay
from peerauth.store.kind_root import Root, read_root, root
from peerauth.store.schema import Table

__all__ = [
    "App",
    "Command",
    "Hello",
    "Http",
    "Interface",
    "Kind",
    "OnUnknown",
    "Relay",
    "Root",
    "app",
    "check_on_unknown",
    "http",
    "read_kind",
    "relay",
    "root",
    "run",
]

# At most one of these keys is there. Each reads its value, and what goes with it.
_KINDS: dict[str, Callable[[Table], Kind]] = {
    "target": read_relay,
    "http": read_http,
    "app": read_app,
    "root": read_root,
    "command": read_command,
}


def read_kind(table: Table) -> Kind:
    """What the service of this table is. Raises BadInput("bad-setting")."""
    given = [key for key in _KINDS if table.has(key)]
    if not given:
        return Hello()
    first, *more = given
    if more:
        raise table.error(first, f"and {more[0]} are two different things to be", "write one [[serve]] block for each")
    try:
        return _KINDS[first](table)
    except BadInput:
        if table.has(first):
            raise
        return Hello()  # while mistakes are gathered: what is wrong with its value was said, and it counts as not set
