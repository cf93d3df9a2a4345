"""The encoding of peerauth/1: every message comes back as it was, and nothing else is taken for one."""

import dataclasses
import importlib
import json
import pkgutil
import typing
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

import peerauth.control
from peerauth.control.messages import Check, Checked, No
from peerauth.control.wire import (
    HEAD,
    LONGEST,
    LONGEST_TEXT,
    MOST_ITEMS,
    Message,
    ProtocolError,
    decode,
    encode,
    kinds,
    length_of,
)
from peerauth.trust.fingerprint import Fingerprint

for module in pkgutil.iter_modules(peerauth.control.__path__):  # so that every message is known
    importlib.import_module(f"peerauth.control.{module.name}")

CHECKED = b'{"type":"checked","presented":"' + b"a" * 64 + b'"'
TEXTS = st.text(max_size=60)
BY_TYPE = {
    str: TEXTS,
    int: st.integers(-(2**53) + 1, 2**53 - 1),
    bool: st.booleans(),
    bytes: st.binary(max_size=200),
    Fingerprint: st.binary(min_size=32, max_size=32).map(Fingerprint),
    datetime: st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(  # noqa: DTZ001 - given a zone below
        lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
    ),
}


def values(hint: typing.Any) -> st.SearchStrategy[typing.Any]:  # noqa: ANN401 - an annotation
    if typing.get_origin(hint) is tuple:
        return st.lists(values(typing.get_args(hint)[0]), max_size=4).map(tuple)
    members = typing.get_args(hint) or (hint,)
    return st.one_of(*(st.none() if member is type(None) else BY_TYPE[member] for member in members))


def instances(kind: type[Message]) -> st.SearchStrategy[Message]:
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{field.name: values(hints[field.name]) for field in dataclasses.fields(kind)})  # type: ignore[arg-type]


MESSAGES = st.one_of(*(instances(kind) for kind in kinds().values()))


@given(MESSAGES)
def test_every_message_comes_back_as_it_was(said: Message) -> None:
    data = encode(said)
    assert length_of(data[:HEAD]) == len(data) - HEAD
    assert decode(data[HEAD:]) == said


@given(MESSAGES, st.dictionaries(st.text(max_size=10).map(lambda name: f"x-{name}"), st.integers(), max_size=3))
def test_what_a_later_version_adds_is_skipped(said: Message, more: dict[str, int]) -> None:
    fields = json.loads(encode(said)[HEAD:])
    assert decode(json.dumps({**fields, **more}).encode()) == said


@given(st.binary(max_size=300))
def test_bytes_that_are_no_message_are_an_error_of_ours(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(kinds())), st.data())
def test_fields_with_anything_in_them_make_a_message_or_an_error_of_ours(kind: str, data: st.DataObject) -> None:
    names = [field.name for field in dataclasses.fields(kinds()[kind])]  # type: ignore[arg-type]
    fields = data.draw(st.dictionaries(st.sampled_from(names or ["x"]), JSON))
    try:
        heard = decode(json.dumps({"type": kind, **fields}).encode())
    except ProtocolError:
        return
    assert isinstance(heard, kinds()[kind])
    assert decode(encode(heard)[HEAD:]) == heard


@given(MESSAGES, st.data())
def test_a_message_that_was_cut_off_is_an_error_of_ours(said: Message, data: st.DataObject) -> None:
    body = encode(said)[HEAD:]
    with pytest.raises(ProtocolError):
        decode(body[: data.draw(st.integers(0, len(body) - 1))])


@pytest.mark.parametrize(
    "body",
    [
        b'{"type":"check","type":"check"}',
        b'{"type":"no","code":"a","reason":"b","reason":"c"}',
        b'{"type":"no","code":"a"}',
        b'{"type":"no","code":"a","reason":"\\ud800"}',
        b'{"type":"no","code":"a","reason":1}',
        b'{"type":"no","code":"a","reason":"' + b"x" * (LONGEST_TEXT + 1) + b'"}',
        b'{"type":"no","code":"a","reason":"b","x":NaN}',
        b'{"type":"unheard-of"}',
        b'{"type":["check"]}',
        b'["type","check"]',
        b'{"type":"checked"}',
        b'{"type":"checked","presented":"' + b"A" * 64 + b'"}',
        CHECKED + b',"time":"2026-11-21"}',
        CHECKED + b',"time":"2026-02-30T00:00:00Z"}',
        b'{"type":"checked","presented":"'
        + b"a" * 64
        + b'","services":'
        + json.dumps(["x"] * (MOST_ITEMS + 1)).encode()
        + b"}",
        b'{"type":"check"}\xff',
        b"[" * 60_000,
    ],
)
def test_what_is_nearly_a_message_is_none(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(body)


def test_the_twin_of_these_is_one() -> None:
    assert decode(b'{"type":"check"}') == Check()
    assert decode(b'{"reason":"b","code":"a","type":"no"}') == No("a", "b")
    assert decode(b'{"type":"checked","presented":"' + b"ab" * 32 + b'"}') == Checked(Fingerprint(b"\xab" * 32))


@pytest.mark.parametrize("length", [0, 1, LONGEST + 1, 2**32 - 1])
def test_a_length_that_is_not_read_is_refused_before_it_is_waited_for(length: int) -> None:
    with pytest.raises(ProtocolError):
        length_of(length.to_bytes(HEAD, "big"))


def test_what_we_say_is_bounded_too() -> None:
    with pytest.raises(ValueError, match="too long"):
        encode(No("a", "x" * LONGEST))
