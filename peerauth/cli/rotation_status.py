"""Who knows of a rotation, and what comes next, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from peerauth.cli.ui import Cell, Ui
from peerauth.store.config import Config
from peerauth.store.home import read_own_certificate
from peerauth.trust.errands import Errand, Outcome, Succession
from peerauth.trust.expiry import span
from peerauth.trust.peers import Peer, PeerSet

_SAID = {
    Outcome.ACCEPTED: Cell("has accepted"),
    Outcome.ASKED: Cell("a person there is asked", "yellow"),
    Outcome.REFUSED: Cell("says no", "red"),
    Outcome.HEARD: Cell("has asked for it"),
    Outcome.UNANSWERED: Cell("did not answer", "yellow"),
    Outcome.UNREACHABLE: Cell("not reached", "yellow"),
}
_UNTOLD = {True: Cell("not told yet", "yellow"), False: Cell("no address: hears of it when it connects", "yellow")}


def show_status(ui: Ui, config: Config, peers: PeerSet, succession: Succession) -> None:
    """Show how it stands."""
    now, own = datetime.now(UTC), read_own_certificate(config)
    rows = list(_rows(succession, peers))
    errand = succession.under_way
    pending = errand is not None and errand.statement.new != own
    if ui.json:
        ui.emit(
            {
                "phase": "telling" if pending else "done",
                "fingerprint": own.fingerprint,
                "next": errand.statement.new.fingerprint if errand and pending else None,
                "deadline": succession.deadline if pending else None,
                "retire": succession.errands[-1].statement.retire if succession.errands else None,
                "peers": [_data(one, peer) for one, peer in rows],
            }
        )
        return
    if rows:
        ui.table(["peer", "about", "", "since", "why"], [_row(one, peer, now) for one, peer in rows])
    if errand is not None and pending:
        new = errand.statement.new
        ui.say(f"the next certificate is {new.fingerprint} ({new.key_type}, valid until {new.not_after:%Y-%m-%d})")
        ui.say(f"it is presented when all have accepted it, at the latest on {succession.deadline:%Y-%m-%d %H:%M} UTC;")
        ui.say("a running `peerauth serve` goes on telling the others; to tell them now: peerauth rotate")
    else:
        ui.say(f"this node presents {own.fingerprint}; no other certificate is under way")
        missing = sorted({peer.name for one, peer in rows if not one.answered_by(peer)})
        if missing:
            ui.say(f"still to hear of it: {', '.join(missing)}; a running `peerauth serve` goes on telling them,")
            ui.say("and they hear of it when they connect to this node, or this node to them")


def _rows(succession: Succession, peers: PeerSet) -> Iterator[tuple[Errand, Peer]]:
    return ((errand, peer) for errand in succession.errands for peer in peers if errand.is_for(peer))


def _row(errand: Errand, peer: Peer, now: datetime) -> list[str | Cell]:
    reply = errand.reply(peer)
    about = str(errand.statement.kind)
    if reply is None:
        return [peer.name, about, _UNTOLD[peer.address is not None], "", ""]
    return [peer.name, about, _SAID[reply.outcome], f"{span(now - reply.when)} ago", reply.code or ""]


def _data(errand: Errand, peer: Peer) -> dict[str, Any]:
    reply = errand.reply(peer)
    return {
        "peer": peer.name,
        "kind": errand.statement.kind,
        "old": errand.statement.old.fingerprint,
        "new": errand.statement.new.fingerprint,
        "outcome": reply.outcome if reply else None,
        "when": reply.when if reply else None,
        "code": reply.code if reply else None,
        "address": peer.address,
    }
