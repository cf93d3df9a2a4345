"""Threat: a refusal that never arrives, because its socket is closed while the client is still writing."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from contextlib import suppress

from tests.support.dropin import mint
from tests.support.engine import Caller, Yard, hear_line, identity, on_loops, running

TIMES = 50
BODY = b"x" * 3_000_000


def post(caller: Caller, port: int) -> str:
    with suppress(ConnectionError, ssl.SSLEOFError):
        tls = caller.open(port)
        try:
            tls.sendall(b"POST / HTTP/1.1\r\nContent-Length: 3000000\r\n\r\n")
            try:
                tls.sendall(BODY)
            except ssl.SSLError as error:
                if error.reason and "ALERT" in error.reason:
                    return error.reason
            except ConnectionError:
                pass
            return hear_line(tls)  # a client whose write fails must still read
        except ssl.SSLError as error:
            return error.reason or "?"
        finally:
            tls.close()
    return "lost"


@on_loops()
async def test_refusal_reaches_a_client_that_is_still_writing(yard: Yard) -> None:
    yard.pin("alice")
    stranger = Caller(mint("stranger"))
    async with running(yard) as node:
        heard: Counter[str] = Counter()
        for _ in range(TIMES // 5):
            heard.update(await asyncio.gather(*(asyncio.to_thread(post, stranger, node.port) for _ in range(5))))
        assert heard == {"TLSV1_ALERT_UNKNOWN_CA": TIMES}
        assert await asyncio.to_thread(post, Caller(identity("alice")), node.port) == "hello alice"
