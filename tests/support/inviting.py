"""Invitations for tests: a node that invites, and nodes that join, over real connections."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from peerauth.address import Address
from peerauth.client.control import conversation, exactly
from peerauth.client.invitation import Joining, Welcome
from peerauth.control.invitation import Join, Joined
from peerauth.control.line import Declined, Line
from peerauth.errors import PeerAuthError
from peerauth.store.config import load_config
from peerauth.store.invitations import Invitation, Invitations
from peerauth.store.peerdir import PeerDirectory
from peerauth.store.state import State
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.identity import Identity
from peerauth.trust.invitation import SECRET, Token, make_token
from tests.support.engine import Running, identity, running
from tests.support.workers import Home

HOUR = timedelta(hours=1)


def book_of(home: Path) -> Invitations:
    """The invitations of the node that lives there."""
    return Invitations(State(home))


def invite(
    home: Path,
    *ports: int,
    uses: int = 1,
    name: str | None = None,
    tags: tuple[str, ...] = (),
    ttl: timedelta = HOUR,
    own: Identity | None = None,
) -> Token:
    """An invitation of the node that lives there, to these ports of 127.0.0.1; over already with a `ttl` below nothing."""
    now = datetime.now(UTC).replace(microsecond=0)
    pin = (own or identity("node")).certificate.fingerprint
    token = make_token(os.urandom(SECRET), pin, now + ttl, [Address("127.0.0.1", port) for port in ports or (1,)])
    book_of(home).add(Invitation(token.id, token.verifier, now, token.expires, uses, name, tags), now)
    return token


@contextlib.asynccontextmanager
async def inviting(home: Home, host: str = "127.0.0.1") -> AsyncIterator[Running]:
    """The node that lives there, serving at `host` in this loop; what stands in its config.toml counts."""
    async with running(home, own=home.own, config=load_config(home.home), host=host) as node:
        yield node


async def join(
    who: Identity | str, token: Token, *, name: str | None = None, address: str | None = None, wait: float = 0
) -> Welcome:
    """Join as this one, as the program does."""
    own = identity(who) if isinstance(who, str) else who
    wanted = name or (who if isinstance(who, str) else "joiner")
    return await Joining(own, token, wanted, address, lambda _: None).join(wait, lambda _: None)


async def refused(
    who: Identity | str, token: Token, *, name: str | None = None, address: str | None = None
) -> PeerAuthError:
    """The error that joining ends with."""
    try:
        welcome = await join(who, token, name=name, address=address)
    except PeerAuthError as error:
        return error
    raise AssertionError(f"it was let in: {welcome.answer}")


async def say(port: int, who: Identity, message: Callable[[Line], Join]) -> Joined | str:
    """Send what `message` makes of the connection to the node; the answer, or the code and reason of its no."""
    pin = identity("node").certificate.fingerprint
    async with conversation(who, Address("127.0.0.1", port), exactly(pin)) as line:
        await line.send(message(line))
        try:
            return await line.receive(Joined)
        except Declined as no:
            return f"{no.code}: {no.reason}"


def proper(token: Token, who: Identity, name: str = "joiner") -> Callable[[Line], Join]:
    """What a joiner with the token says."""
    own = who.certificate.fingerprint
    return lambda line: Join(token.id, token.prove(line.session.channel_binding(), own), name)


def pinned(home: Home) -> dict[str, Fingerprint]:
    """Who is pinned, as it is on the disk now."""
    return {peer.name: peer.pins[0] for peer in PeerDirectory(home.path).refresh()}


def users(home: Path, token: Token) -> list[str | None]:
    """As whom this invitation was used; None for whoever has not finished."""
    (known,) = [known for known in book_of(home).all() if known.id == token.id]
    return [use.name for use in known.used.values()]
