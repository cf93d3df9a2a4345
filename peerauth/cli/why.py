"""`why`: the refusals that are remembered, in the words of the log."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peerauth.cli.command import command
from peerauth.cli.peer import open_peers
from peerauth.cli.strangers import pinned_as, same_key, say_if_off
from peerauth.cli.ui import Ui
from peerauth.errors import BadInput

if TYPE_CHECKING:
    from peerauth.store.peerdir import PeerDirectory
    from peerauth.store.refusals import Refusal
    from peerauth.trust.fingerprint import Fingerprint

    Asked = Mapping[Fingerprint, str | None]  # whose next certificate it is to be

_SHOWN = 20


@command
def why(
    ui: Ui,
    who: Annotated[
        str | None,
        typer.Argument(
            metavar="PEER|FINGERPRINT|ADDRESS",
            help="Only of this one; the beginning of a fingerprint will do.",
            show_default=False,
        ),
    ] = None,
    number: Annotated[
        int | None,
        typer.Option("--number", "-n", metavar="N", min=1, help="So many at most (20; in JSON all).", show_default=False),
    ] = None,
) -> None:
    """Show the last refusals: who came, why it was refused, and what to type.

    The newest comes first. They are in state/ of this node, whether or not a server runs.
    """
    from peerauth.store.pending import remembered, strangers
    from peerauth.store.state import State

    config, directory = open_peers(ui)
    state = State(config.path.parent)
    everything = remembered(state)
    if who is None:
        found = everything
    else:
        matches = _matching(who, directory)
        found = [refusal for refusal in everything if matches(refusal)]
    if not found:
        _say_none(ui, who, directory)
    if ui.json:
        ui.emit([_facts(refusal, directory) for refusal in found[:number]])
    elif found:
        shown = found[: number or _SHOWN]
        asked = {stranger.fingerprint: stranger.successor_of for stranger in strangers(state) if not stranger.denied}
        ui.data("\n\n".join(_text(ui, refusal, directory, asked) for refusal in shown))
        if len(found) > len(shown):
            ui.say(f"{len(found) - len(shown)} older ones are not shown: -n {len(found)}")
    say_if_off(ui, config)


def _say_none(ui: Ui, who: str | None, directory: PeerDirectory) -> None:
    """Say that there is nothing to show. Raises BadInput("no-such-peer") where it is not clear who is meant."""
    from peerauth.trust.peers import no_such_peer

    if who is None:
        ui.say("no refusals are remembered")
    elif who in directory.current or _prefix(who) is not None or _is_address(who):
        pinned = " (it is pinned)" if who in directory.current else ""
        ui.say(f"no refusal of {who} is remembered{pinned}")
    else:
        unknown = no_such_peer(who, directory.current)
        unknown.message += ", and nobody who was refused calls themselves so"
        raise unknown


def _matching(who: str, directory: PeerDirectory) -> Callable[[Refusal], bool]:
    """Whether a refusal is about `who`: a name, also one that is only claimed; a fingerprint; an address."""
    from peerauth.trust.explain import claimed_name

    peer = directory.current.get(who)
    pins = peer.pins if peer else ()
    prefix = _prefix(who)
    host = who.strip("[]")

    def matches(refusal: Refusal) -> bool:
        fingerprint = refusal.fingerprint
        return (
            refusal.peer == who
            or fingerprint in pins
            or (fingerprint is not None and prefix is not None and fingerprint.digest.hex().startswith(prefix))
            or refusal.address == who
            or refusal.address.rpartition(":")[0].strip("[]") == host
            or claimed_name(refusal.certificate).lower() == who
        )

    return matches


def _prefix(who: str) -> str | None:
    from peerauth.trust.fingerprint import parse_prefix

    try:
        return parse_prefix(who)
    except BadInput:
        return None


def _is_address(who: str) -> bool:
    from ipaddress import ip_address

    for text in (who.strip("[]"), who.rpartition(":")[0].strip("[]")):
        try:
            ip_address(text)
        except ValueError:
            continue
        return True
    return False


def _text(ui: Ui, refusal: Refusal, directory: PeerDirectory, asked: Asked) -> str:
    message, hint = refusal.told()
    since = f", {refusal.times} times since {refusal.since:%Y-%m-%dT%H:%M:%SZ}" if refusal.times > 1 else ""
    lines = [f"{refusal.last:%Y-%m-%dT%H:%M:%SZ} from {refusal.address} at '{refusal.service}'{since}", message]
    if hint:
        lines.append(ui.here(f"hint: {hint}"))
    lines += [ui.here(f"now:  {sentence}") for sentence in _now(refusal, directory, asked)]
    return "\n    ".join(lines)


def _now(refusal: Refusal, directory: PeerDirectory, asked: Asked) -> list[str]:
    """What can be said of a stranger today, from what is on the disk."""
    if refusal.certificate is None:
        return []
    name = pinned_as(refusal.certificate, directory)
    if name is not None:
        return [f"it is pinned as {name}"]
    peer = asked.get(refusal.fingerprint) if refusal.fingerprint else None
    if peer is not None:
        text = f"{peer} says that it is its next certificate; if its owner confirms the fingerprint"
        return [f"{text}: peerauth peer approve {refusal.fingerprint}"]
    twin = same_key(refusal.certificate, directory)
    return [f'its key is that of {twin}\'s pinned certificate: a renewed one, which pin = "key" admits'] if twin else []


def _facts(refusal: Refusal, directory: PeerDirectory) -> dict[str, Any]:
    from peerauth.trust.explain import claimed_name

    message, hint = refusal.told()
    holder = directory.current.holder(refusal.fingerprint) if refusal.fingerprint else None
    return {
        "code": refusal.code,
        "message": message,
        "hint": hint,
        "fingerprint": refusal.fingerprint,
        "peer": refusal.peer,
        "claim": claimed_name(refusal.certificate) or None,
        "pinned_as": holder.name if holder else None,
        "service": refusal.service,
        "address": refusal.address,
        "first": refusal.since,
        "last": refusal.last,
        "times": refusal.times,
        "key_proven": refusal.proven,
    }
