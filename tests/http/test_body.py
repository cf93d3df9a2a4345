"""Bodies as they come: any split of the bytes gives the same, and what is not as it should be is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.http import body
from peerauth.http.body import BadBody, Body, Chunked, Sized, UntilEnd, chunk, end_of_chunks
from peerauth.http.request import TREATMENT

AFTER = b"GET / HTTP/1.1\r\n"
WIKI = b'4\r\nWiki\r\n6;a=b;c;d="e\\"; f"\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\n'
TEXT = b"Wikipedia in \r\n\r\nchunks."


def chunked() -> Chunked:
    return Chunked(TREATMENT)


def fed(reader: Body, data: bytes, cuts: list[int]) -> tuple[bytes, bytes | None]:
    """What is read of this when it comes in these pieces, and what is left."""
    payload, places = b"", [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for begin, end in itertools.pairwise(places):
        piece, rest = reader.feed(data[begin:end])
        payload += piece
        if rest is not None:
            return payload, rest + data[end:]
    return payload, None


CUTS = st.lists(st.integers(0, 120), max_size=12)


@given(CUTS)
def test_chunks_are_the_same_in_any_pieces(cuts: list[int]) -> None:
    reader = chunked()
    data = WIKI + b"X-Sum: 1\r\nX-Peer-Name: mallory\r\nContent-Length: 5\r\nx-sum:2\r\n\r\n" + AFTER
    assert fed(reader, data, cuts) == (TEXT, AFTER)
    assert reader.trailers == b"X-Sum: 1\r\nx-sum: 2\r\n"


def test_chunks_are_the_same_byte_by_byte() -> None:
    assert fed(chunked(), WIKI + b"\r\n" + AFTER, list(range(200))) == (TEXT, AFTER)


@given(st.lists(st.binary(max_size=300), max_size=6), CUTS)
def test_what_is_written_in_chunks_is_read_again(pieces: list[bytes], cuts: list[int]) -> None:
    data = b"".join(map(chunk, pieces)) + end_of_chunks(b"")
    assert fed(chunked(), data + AFTER, cuts) == (b"".join(pieces), AFTER)


@given(st.binary(max_size=50), CUTS)
def test_a_sized_body_ends_where_it_should(data: bytes, cuts: list[int]) -> None:
    assert fed(Sized(len(data)), data + AFTER, [cut + 1 for cut in cuts] if data else cuts) == (data, AFTER)


def test_a_body_until_the_end_takes_everything() -> None:
    assert UntilEnd().feed(b"abc") == (b"abc", None)


@pytest.mark.parametrize(
    "data",
    [
        b"1\na\r\n0\r\n\r\n",
        b"1\r\na\n0\r\n\r\n",
        b"1\r\nab\r\n0\r\n\r\n",
        b"1 \r\na\r\n0\r\n\r\n",
        b" 1\r\na\r\n0\r\n\r\n",
        b"+1\r\na\r\n0\r\n\r\n",
        b"-1\r\na\r\n0\r\n\r\n",
        b"0x1\r\na\r\n0\r\n\r\n",
        b"1_0\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n",
        b"\r\n0\r\n\r\n",
        b";a\r\n0\r\n\r\n",
        b"1;\r\na\r\n0\r\n\r\n",
        b"1; a\r\na\r\n0\r\n\r\n",
        b"1;a\x01\r\na\r\n0\r\n\r\n",
        b"1;a\nb\r\na\r\n0\r\n\r\n",
        b'1;a="b\r\na\r\n0\r\n\r\n',
        b"0000000000000000001\r\na\r\n0\r\n\r\n",
        b"ffffffffffffffff\r\n\n",
        b"1" + b";a" * body.LONGEST_LINE + b"\r\na\r\n0\r\n\r\n",
        b"".join(b"1;" + b"a" * 200 + b"\r\na\r\n" for _ in range(100)) + b"0\r\n\r\n",
        b"0\r\nA b\r\n\r\n",
        b"0\r\n A: b\r\n\r\n",
        b"0\r\nA: b\nC: d\r\n\r\n",
        b"0\r\nA : b\r\n\r\n",
        b"0\r\n" + b"A: b\r\n" * 101 + b"\r\n",
        b"0\r\nA: " + b"b" * body.LONGEST_TRAILERS + b"\r\n\r\n",
    ],
    ids=lambda data: data[:30].decode("latin-1"),
)
@pytest.mark.parametrize("cuts", [[], list(range(100))], ids=["at once", "byte by byte"])
def test_chunks_that_could_be_read_differently_are_refused(data: bytes, cuts: list[int]) -> None:
    with pytest.raises(BadBody):
        fed(chunked(), data, cuts)


@given(st.binary(max_size=100), CUTS)
def test_junk_is_read_or_refused_the_same_in_any_pieces(junk: bytes, cuts: list[int]) -> None:
    def outcome(where: list[int]) -> object:
        try:
            return fed(chunked(), junk + b"\r\n\r\n\n" + b"\r\n" * 200, where)[1]
        except BadBody:
            return "refused"

    assert outcome(cuts) == outcome([])


def test_a_body_that_never_goes_on_holds_little() -> None:
    reader = chunked()
    for _ in range(body.LONGEST_LINE - 1):
        assert reader.feed(b"0") == (b"", None)
    with pytest.raises(BadBody):
        reader.feed(b"0")
