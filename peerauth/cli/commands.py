"""The commands by name: each with its module and function, and the first sentence of its help."""

from __future__ import annotations

PROGRAM = "peerauth"
COMMANDS = {
    "keygen": ("keygen:keygen", "Make this node's private key and certificate, config.toml and peers/."),
    "id": ("identity:identity", "Show this node's name, fingerprint and validity."),
    "serve": ("serve:serve", "Run the services of config.toml, or the one described by the options, for pinned peers only."),
    "up": ("up:up", "Run every service and every tunnel of config.toml, and follow it when it changes."),
    "status": (
        "status:status",
        "Show how this node stands: its certificate, its peers, its services, and the server that runs here.",
    ),
    "connect": ("connect:connect", "Reach a peer: standard input goes there, what it answers comes to standard output."),
    "get": ("get:get", "Ask a peer for something over HTTPS."),
    "check": ("check:check", "See whether a peer and this node admit each other, and if not, why, and what to type."),
    "pair": ("pair:pair", "Pair with another node by a short code: both pin each other."),
    "why": ("why:why", "Show the last refusals: who came, why it was refused, and what to type."),
    "invite": ("invite:invite", "Make an invitation: a token by which a new node joins in one step, with `peerauth join`."),
    "join": ("join:join", "Join the node that made this invitation: it pins this node, and this node pins it."),
    "rotate": ("rotate:rotate", "Replace this node's key and certificate without losing a connection or a peer."),
    "demo": (
        "demo:demo",
        "Watch it work: two nodes pin each other, a stranger is refused, a removed peer's connection ends.",
    ),
}
PEER_COMMANDS = {
    "add": ("peer_add:add", "Admit peers: pin the certificates in these files."),
    "remove": ("peer:remove", "Take peers out of the list; a running server ends their connections."),
    "list": ("peer:list_peers", "List the peers that this node admits."),
    "show": ("peer:show", "Show everything that is known about a peer."),
    "rename": ("peer:rename", "Give a peer another name."),
    "pending": ("pending:pending", "List the strangers who tried to come in."),
    "approve": ("pending:approve", "Admit a stranger who tried to come in: pin the certificate that it showed."),
    "deny": ("pending:deny", "Do not list a stranger as pending again, although it may go on trying."),
    "scan": ("scan:scan", "Show the certificate that a server presents."),
}
