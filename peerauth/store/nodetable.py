"""The block [node] of config.toml: who this node is, and where its files are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from peerauth.store.schema import Table
from peerauth.trust.peers import check_name


@dataclass(frozen=True, slots=True)
class NodeTable:
    """What it says. None, where mistakes are gathered: that was one."""

    name: str | None
    key: Path | None
    certificate: Path | None
    peers: Path | None
    min_tls: Literal["1.2", "1.3"]


def read_node(document: Table) -> NodeTable:
    """The block of this document. Raises BadInput, unless mistakes are gathered."""
    node = document.table("node")
    name = node.attempt(lambda: _name(node))
    key = node.attempt(lambda: node.path("key", f"{name}.key"))
    certificate = node.attempt(lambda: node.path("certificate", f"{name}.crt"))
    peers = node.attempt(lambda: node.path("peers", "peers"))
    min_tls = node.choice("min_tls", ("1.2", "1.3"), "1.3")
    node.done()
    return NodeTable(name, key, certificate, peers, "1.2" if min_tls == "1.2" else "1.3")


def _name(node: Table) -> str:
    name = node.text("name")
    if name is None:
        raise node.error("name", "is missing", 'write: [node]\nname = "this-machine"')
    return name_setting(node, "name", name)


def name_setting(table: Table, key: str, name: str) -> str:
    """`name`, the value of `key`, if it is a name. Raises BadInput, which says where it stands."""
    with table.about(key):
        return check_name(name)
