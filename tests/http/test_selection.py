"""Answers about a file, put together and read by another's parser."""

from __future__ import annotations

from email.parser import BytesParser
from email.policy import HTTP

from hypothesis import given
from hypothesis import strategies as st

from peerauth.http.conditions import Version
from peerauth.http.ranges import Span
from peerauth.http.selection import Representation, Selection, select

CONTENT = bytes(range(256)) * 4
FILE = Representation(len(CONTENT), Version("abc", 784111777, settled=True), "text/plain; charset=utf-8")


def body(selection: Selection) -> bytes:
    return b"".join(CONTENT[part.start : part.end] if isinstance(part, Span) else part for part in selection.parts)


def parts(selection: Selection) -> list[str]:
    """The Content-Range of each part, as Python's parser of MIME has them."""
    fields = dict(selection.fields)
    message = BytesParser(policy=HTTP).parsebytes(
        b"Content-Type: " + fields[b"content-type"] + b"\r\n\r\n" + body(selection)
    )
    assert message.is_multipart()
    return [str(part["Content-Range"]) for part in message.walk() if not part.is_multipart()]


def test_a_get_has_the_whole_and_a_head_the_same_fields() -> None:
    get, head = (select(method, {}, FILE, "x") for method in ("GET", "HEAD"))
    assert (get.status, body(get)) == (200, CONTENT)
    assert head.fields == get.fields
    assert dict(get.fields)[b"content-length"] == b"1024"


@given(st.lists(st.tuples(st.integers(0, 1023), st.integers(1, 40)), min_size=2, max_size=6))
def test_several_ranges_are_parts_with_what_they_say(wanted: list[tuple[int, int]]) -> None:
    spans, at = [], 0
    for start, length in sorted(wanted):
        if start >= at:
            spans.append((start, min(start + length, 1024)))
            at = start + length
    field = ",".join(f"{start}-{end - 1}" for start, end in spans)
    chosen = select("GET", {b"range": f"bytes={field}".encode()}, FILE, "0123456789abcdef")
    assert chosen.status == 206
    assert dict(chosen.fields)[b"content-length"] == str(len(body(chosen))).encode()
    if len(spans) > 1:
        assert parts(chosen) == [f"bytes {start}-{end - 1}/1024" for start, end in spans]
        contents = b"".join(body(chosen).split(b"\r\n\r\n")[1:])
        assert all(CONTENT[start:end] in contents for start, end in spans)


def test_one_range_is_a_part_without_an_envelope() -> None:
    chosen = select("GET", {b"range": b"bytes=10-19,2000-"}, FILE, "x")
    assert (chosen.status, body(chosen)) == (206, CONTENT[10:20])
    assert dict(chosen.fields)[b"content-range"] == b"bytes 10-19/1024"


def test_a_range_that_is_not_there_is_said_with_the_size() -> None:
    chosen = select("GET", {b"range": b"bytes=1024-"}, FILE, "x")
    assert chosen.status == 416
    assert dict(chosen.fields)[b"content-range"] == b"bytes */1024"


def test_a_range_is_for_get_alone() -> None:
    """RFC 9110 section 14.2."""
    assert select("HEAD", {b"range": b"bytes=0-1"}, FILE, "x").status == 200
    assert select("GET", {b"range": b"bytes=0-1"}, FILE, "x").status == 206


def test_a_range_of_another_version_is_the_whole_of_this_one() -> None:
    assert select("GET", {b"range": b"bytes=0-1", b"if-range": b'"old"'}, FILE, "x").status == 200
    assert select("GET", {b"range": b"bytes=0-1", b"if-range": b'"abc"'}, FILE, "x").status == 206


def test_what_is_known_already_has_no_body_and_the_same_tag() -> None:
    """RFC 9110 section 15.4.5: with a tag in common, the fields that a 200 would have had to keep the cache right."""
    chosen = select("GET", {b"if-none-match": b'"abc"', b"range": b"bytes=0-1"}, FILE, "x")
    assert (chosen.status, chosen.parts) == (304, ())
    assert dict(chosen.fields)[b"etag"] == b'"abc"'
    assert b"content-length" not in dict(chosen.fields)
