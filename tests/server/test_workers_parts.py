"""The small parts of several workers: pauses, what is said once, the lines between parent and worker."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest
from cryptography.hazmat.bindings.openssl.binding import Binding
from hypothesis import given
from hypothesis import strategies as st

from peerauth.audit import Event
from peerauth.server.channel import LONGEST_LINE, Inbox, Outbox, Reporter, as_event
from peerauth.server.contexts import Contexts, Speech
from peerauth.server.once import KEPT, Once
from peerauth.server.pauses import LONG_ENOUGH, PAUSES, Pauses
from peerauth.server.tally import Tally
from tests.support.engine import identity


def test_pauses_grow_to_half_a_minute_and_begin_anew_after_a_long_life() -> None:
    pauses = Pauses()
    assert [pauses.after(0.1) for _ in range(10)] == [0, 0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert pauses.after(LONG_ENOUGH - 0.1) == PAUSES[-1]
    assert pauses.after(LONG_ENOUGH) == 0
    assert pauses.after(0) == 0.5


def test_news_is_what_nobody_has_reported_as_often() -> None:
    now = [0.0]
    once = Once(lambda: now[0])
    assert once.is_news(1, "a")
    assert not once.is_news(2, "a")
    assert once.is_news(2, "a")
    assert not once.is_news(1, "a")
    assert once.is_news(3, "b")
    once.joins(4)
    assert once.is_news(4, "a"), "it reports what happened after it came"
    now[0] += KEPT / 2
    assert not once.is_news(1, "a")
    now[0] += KEPT / 2
    assert once.is_news(2, "b"), "an old report is no reason to keep quiet"
    assert not once.is_news(2, "a")
    now[0] += KEPT
    assert once.is_news(2, "a")
    assert len(once._counts) == 1


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from("ab")), max_size=60))
def test_a_report_is_said_as_often_as_the_worker_that_made_it_most(reports: list[tuple[int, str]]) -> None:
    once = Once(lambda: 0.0)
    said = [report for worker, report in reports if once.is_news(worker, report)]
    for report in "ab":
        assert said.count(report) == max(reports.count((worker, report)) for worker in (0, 1))


@given(
    st.lists(st.binary(max_size=50) | st.sampled_from([b'{"ready": true}', b'{"event": {}}', b"[1]", b"null"]), max_size=20)
)
def test_parent_understands_lines_however_they_are_cut_and_drops_junk(lines: list[bytes]) -> None:
    lines = [line.replace(b"\n", b"") for line in lines]
    ours, theirs = socket.socketpair()
    inbox, heard = Inbox(ours), []
    for byte in b"".join(line + b"\n" for line in lines):
        theirs.send(bytes([byte]))
        heard += list(inbox.read())
    assert heard.count(("ready", True)) == lines.count(b'{"ready": true}')
    assert heard.count(("event", {})) == lines.count(b'{"event": {}}')
    theirs.close()
    assert list(inbox.read()) == []
    assert inbox.ended
    ours.close()


def test_line_without_an_end_is_not_kept() -> None:
    ours, theirs = socket.socketpair()
    inbox = Inbox(ours)
    for _ in range(5):
        theirs.send(b"x" * (LONGEST_LINE // 2))
        assert list(inbox.read()) == []
        assert len(inbox._rest) <= LONGEST_LINE
    theirs.send(b'\n{"ready": true}\n')
    assert list(inbox.read()) == [("ready", True)]
    ours.close()
    theirs.close()


@pytest.mark.parametrize("value", [None, 1, "x", [], {}, {"event": "x"}, {"event": "x", "message": "y", "other": 1}])
def test_what_is_no_event_is_none(value: object) -> None:
    assert as_event(value, 1) is None
    assert as_event({"event": "x", "message": "y", "worker": 9}, 1) == Event("x", "y", worker=1)


def test_long_words_are_cut_before_they_travel() -> None:
    posted: list[tuple[str, object]] = []
    reporter = Reporter(lambda kind, value: posted.append((kind, value)), lambda: 0.0)
    reporter.report(Event("x", "m" * 100_000, hint="\n"))
    reporter.common(Event("x", "y"))
    for _ in range(30):
        reporter.refused(Event("refused", "z"))
    reporter.flush()
    assert len(json.dumps(posted[0])) < 1000
    assert posted[1] == ("common", {"event": "x", "message": "y"})
    assert [kind for kind, _ in posted[2:]] == ["refused"] * 20 + ["left_out"]
    assert posted[-1][1] == 10


def test_worker_never_waits_and_says_how_much_it_dropped() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        outbox, inbox = Outbox(theirs), Inbox(ours)
        for number in range(5000):
            outbox.post("event", {"number": number, "text": "x" * 200})
        heard: list[tuple[str, Any]] = []
        while not heard or heard[-1][0] != "dropped":
            heard += list(inbox.read())
            await asyncio.sleep(0)
        numbers = [value["number"] for kind, value in heard if kind == "event"]
        assert numbers == list(range(len(numbers)))
        assert heard[-1][1] == 5000 - len(numbers) > 0
        await asyncio.to_thread(outbox.post, "log", "from a thread")
        while heard[-1] != ("log", "from a thread"):
            heard += list(inbox.read())
            await asyncio.sleep(0)
        outbox.close()
        ours.close()

    asyncio.run(main())


@pytest.mark.parametrize("works", [True, False])
def test_epoch_keeps_the_context_and_where_it_cannot_there_is_a_fresh_one(
    monkeypatch: pytest.MonkeyPatch, *, works: bool
) -> None:
    """The private door may be closed by a new pyOpenSSL: the tests of tickets then fail, and tickets end all the same."""
    if not works:
        monkeypatch.setattr(Binding, "lib", object())
    tally = Tally(1, 10)
    contexts = Contexts(identity("node"), "1.3", tally)
    before = contexts.get(Speech())
    assert contexts.get(Speech()) is before
    assert contexts.get(Speech((b"x",))) is not before
    assert contexts.get(Speech(explains=True)) is not before
    tally.begin_epoch()
    assert (contexts.get(Speech()) is before) is works
    assert contexts.get(Speech()) is contexts.get(Speech())
