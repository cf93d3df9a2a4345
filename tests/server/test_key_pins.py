"""`pin = "key"`: a peer whose software renews its certificate over the same key, against a server that runs."""

from __future__ import annotations

import ssl
from asyncio import to_thread
from datetime import timedelta

import pytest

from peerauth.trust.identity import Identity, KeyType, PrivateKey, new_key, self_signed
from tests.support.dropin import DEADLINE_S, NOW
from tests.support.engine import Caller, Yard, hear_line, how_it_ends, on_loops, running

DAY = timedelta(days=1)
KEY = new_key(KeyType.P256)
BY_KEY, BY_CERTIFICATE = 'pin = "key"\n', 'pin = "cert"\n'


def made(key: PrivateKey = KEY, *, start: timedelta = 0 * DAY, days: int = 90) -> Identity:
    """A certificate as the software makes one now and then, over the key that it keeps."""
    return self_signed(key, "web", NOW + start, days=days)


FIRST, SECOND, LATER = made(), made(days=91), made(days=92)
OTHER = made(new_key(KeyType.P256))
EXPIRED = made(start=-30 * DAY, days=10)


@pytest.fixture
def yard(tmp_path_factory: pytest.TempPathFactory) -> Yard:
    return Yard(tmp_path_factory.mktemp("node") / "peers")


def greeted(tls: ssl.SSLSocket) -> str:
    tls.settimeout(DEADLINE_S)
    return hear_line(tls)


def echoed(tls: ssl.SSLSocket) -> bool:
    tls.sendall(b"ping\n")
    return hear_line(tls) == "ping"


@on_loops("uvloop")
async def test_a_renewed_certificate_is_admitted_and_another_key_is_not(yard: Yard) -> None:
    yard.pin("web", FIRST, settings=BY_KEY)
    async with running(yard) as node:
        for one in (FIRST, SECOND, LATER):
            assert await to_thread(Caller(one).hear, node.port) == "hello web"
        assert await to_thread(Caller(OTHER).hear, node.port) == "TLSV1_ALERT_UNKNOWN_CA"
        said = (await node.hears("refused", code="unknown")).message
        assert str(OTHER.certificate.key_fingerprint) in said
        assert str(OTHER.certificate.fingerprint) in said


@on_loops("uvloop")
async def test_where_the_certificate_is_pinned_a_renewed_one_is_a_stranger(yard: Yard) -> None:
    """The twin of the test above; and of no stranger a key is shown, where no key is pinned."""
    yard.pin("web", FIRST)
    async with running(yard) as node:
        assert await to_thread(Caller(FIRST).hear, node.port) == "hello web"
        assert await to_thread(Caller(SECOND).hear, node.port) == "TLSV1_ALERT_UNKNOWN_CA"
        assert "over the key" not in (await node.hears("refused", code="unknown")).message


@on_loops("uvloop")
async def test_the_dates_of_what_is_presented_count_and_not_those_of_the_file(yard: Yard) -> None:
    yard.pin("web", EXPIRED, settings=BY_KEY)
    async with running(yard) as node:
        assert await to_thread(Caller(FIRST).hear, node.port) == "hello web"
        assert await to_thread(Caller(EXPIRED).hear, node.port) == "SSLV3_ALERT_CERTIFICATE_EXPIRED"
        refused = await node.hears("refused", code="expired")
        assert "renew the certificate over the same key" in str(refused.hint)
        assert node.told("expires") == []


@on_loops("uvloop")
async def test_live_connections_stay_while_the_key_is_the_same(yard: Yard) -> None:
    """The file may get the newer certificate, or the older; with another key in it they end."""
    yard.pin("web", FIRST, settings=BY_KEY)
    async with running(yard) as node:
        old, new = [await to_thread(Caller(one).open, node.port) for one in (FIRST, SECOND)]
        assert [await to_thread(greeted, tls) for tls in (old, new)] == ["hello web", "hello web"]
        yard.pin("web", LATER)
        await node.hears("peer-changed", peer="web")
        assert [await to_thread(echoed, tls) for tls in (old, new)] == [True, True]
        assert node.told("ended") == []
        yard.pin("web", OTHER)
        await node.until(lambda: len(node.told("ended", peer="web", code="unknown")) == 2)
        assert [await to_thread(how_it_ends, tls) for tls in (old, new)] == ["cut", "cut"]
        old.close()
        new.close()


@on_loops("uvloop")
async def test_pinning_the_certificate_again_ends_connections_with_others_over_its_key(yard: Yard) -> None:
    yard.pin("web", FIRST, settings=BY_KEY)
    async with running(yard) as node:
        first, second = [await to_thread(Caller(one).open, node.port) for one in (FIRST, SECOND)]
        assert [await to_thread(greeted, tls) for tls in (first, second)] == ["hello web", "hello web"]
        yard.place("web.toml", BY_CERTIFICATE)
        ended = await node.hears("ended", peer="web")
        assert ended.fingerprint == str(SECOND.certificate.fingerprint)
        assert await to_thread(how_it_ends, second) == "cut"
        assert await to_thread(echoed, first)
        assert await to_thread(Caller(SECOND).hear, node.port) == "TLSV1_ALERT_UNKNOWN_CA"
        first.close()
        second.close()


@on_loops("uvloop")
async def test_a_session_is_resumed_by_the_certificate_that_it_began_with(yard: Yard) -> None:
    """While the key is pinned; once it is not, the same ticket is good for nothing."""
    yard.pin("web", FIRST, settings=BY_KEY)
    async with running(yard) as node:
        caller = Caller(SECOND)
        heard, ticket, _ = await to_thread(caller.visit, node.port)
        assert heard == "hello web"
        heard, again, resumed = await to_thread(lambda: caller.visit(node.port, session=ticket))
        assert (heard, resumed) == ("hello web", True)
        yard.place("web.toml", BY_CERTIFICATE)
        await node.hears("peer-changed", peer="web")
        heard, _, _ = await to_thread(lambda: caller.visit(node.port, session=again))
        assert heard == "TLSV1_ALERT_UNKNOWN_CA"


@on_loops("uvloop")
async def test_two_peers_with_one_pinned_key_are_a_problem_that_is_named(yard: Yard) -> None:
    yard.pin("web", FIRST, settings=BY_KEY)
    async with running(yard) as node:
        yard.pin("copy", SECOND, settings=BY_KEY)
        problem = await node.hears("problem", code="same-certificate")
        assert problem.message == "web has the same pinned key as copy; whoever holds it is known as copy"
