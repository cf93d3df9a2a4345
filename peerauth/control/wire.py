"""From messages to bytes and back: JSON objects (RFC 8259), each behind its length. Pure, and bounded before it is parsed.

A field has the form that its type says: a text is a JSON string, bytes are base64url without padding (RFC 4648 section 5), a
fingerprint is 64 lower-case hex digits, a moment is RFC 3339 in UTC to the second. What is None is left out. Fields that
nobody here knows are skipped, so that later versions may add some; a field that is wrong is an error.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import functools
import json
import re
import types
import typing
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, ClassVar, TypeVar

from peerauth.errors import PeerAuthError, printable
from peerauth.trust.fingerprint import Fingerprint

HEAD = 4  # bytes: the length of what follows, big-endian
LONGEST = 64 << 10  # bytes of one message
LONGEST_TEXT = 1000  # characters
MOST_ITEMS = 1000
_LARGEST = 2**53 - 1  # RFC 8259 section 6: the whole numbers on which all implementations agree

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_HEX = re.compile(r"[0-9a-f]{64}")
_BASE64 = re.compile(r"[A-Za-z0-9_-]*")

M = TypeVar("M", bound="type[Message]")


class ProtocolError(PeerAuthError):
    """The other side does not keep to the protocol."""


def wrong(text: str) -> ProtocolError:
    """The error for what the other side should not have said."""
    return ProtocolError("protocol", text, "is it peerauth, and of which version?")


class Message:
    """What one side says. Subclasses are frozen dataclasses that `message` has given a type."""

    type: ClassVar[str]


_KINDS: dict[str, type[Message]] = {}
_FIELDS: dict[str, tuple[tuple[str, _Form, bool], ...]] = {}  # by type: (name, form, whether it may be missing)


def message(name: str) -> Callable[[M], M]:
    """Make of a dataclass the message of this type."""

    def note(kind: M) -> M:
        assert name not in _KINDS
        kind.type = name
        _KINDS[name] = kind
        _FIELDS[name] = tuple(_fields(kind))
        return kind

    return note


def kinds() -> dict[str, type[Message]]:
    """Every message that there is, by its type."""
    return dict(_KINDS)


def encode(said: Message) -> bytes:
    """The bytes of a message, its length before it. Raises ValueError when it is longer than LONGEST."""
    fields: dict[str, Any] = {"type": said.type}
    for name, form, _ in _FIELDS[said.type]:
        value = getattr(said, name)
        if value is not None:
            fields[name] = form.write(value)
    body = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    if len(body) > LONGEST:
        raise ValueError("the message is too long")
    return len(body).to_bytes(HEAD, "big") + body


def length_of(head: bytes, limit: int = LONGEST) -> int:
    """How many bytes follow this head. Raises ProtocolError when they are more than `limit`."""
    length = int.from_bytes(head, "big")
    if not 2 <= length <= limit:
        raise wrong(f"a message of {length} bytes was announced, and up to {limit} are read")
    return length


def decode(body: bytes) -> Message:
    """The message in these bytes, without its head. Raises ProtocolError."""
    try:
        fields = json.loads(body.decode("utf-8"), object_pairs_hook=_no_twins, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise wrong("a message is not JSON") from error
    if not isinstance(fields, dict):
        raise wrong("a message is no JSON object")
    name = fields.pop("type", None)
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise wrong(f"there is no message of the type {printable(str(name), 40)!r} in peerauth/1")
    values: dict[str, Any] = {}
    for key, form, optional in _FIELDS[kind.type]:
        if key in fields:
            try:
                values[key] = form.read(fields[key])
            except ValueError as error:
                raise wrong(f"'{key}' of the message '{kind.type}' {error}") from error
        elif not optional:
            raise wrong(f"'{key}' is missing in the message '{kind.type}'")
    return kind(**values)


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name comes twice")
    return fields


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


@dataclasses.dataclass(frozen=True)
class _Form:
    """How values of one type are written and read. `read` raises ValueError with what ails the value."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]


def _fields(kind: type[Message]) -> Iterator[tuple[str, _Form, bool]]:
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        hint = hints[field.name]
        members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        (inner,) = [member for member in members if member is not types.NoneType]
        yield field.name, _form_of(inner), field.default is not dataclasses.MISSING


def _form_of(hint: Any) -> _Form:  # noqa: ANN401 - a type as written in an annotation
    if typing.get_origin(hint) is tuple:
        item = _form_of(typing.get_args(hint)[0])
        return _Form(lambda value: [item.write(one) for one in value], functools.partial(_read_list, item))
    return _FORMS[hint]


def _read_list(item: _Form, value: object) -> tuple[Any, ...]:
    if not isinstance(value, list) or len(value) > MOST_ITEMS:
        raise ValueError(f"is no list of at most {MOST_ITEMS}")
    return tuple(item.read(one) for one in value)


def _read_text(value: object) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise ValueError(f"is no text of at most {LONGEST_TEXT} characters")
    value.encode()  # half of a surrogate pair is no character
    return value


def _read_whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -_LARGEST <= value <= _LARGEST:
        raise ValueError("is no whole number up to 2^53")
    return value


def _read_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is neither true nor false")  # noqa: TRY004 - a wrong value, not a wrong call
    return value


def _read_octets(value: object) -> bytes:
    if not isinstance(value, str) or _BASE64.fullmatch(value) is None:
        raise ValueError("is no base64url without padding")
    try:
        octets = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except binascii.Error:
        raise ValueError("is no base64url without padding") from None
    if _write_octets(octets) != value:
        raise ValueError("is base64url with stray bits")
    return octets


def _write_octets(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _read_fingerprint(value: object) -> Fingerprint:
    if not isinstance(value, str) or _HEX.fullmatch(value) is None:
        raise ValueError("is no fingerprint of 64 lower-case hex digits")
    return Fingerprint(bytes.fromhex(value))


def _write_moment(value: datetime) -> str:
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def _read_moment(value: object) -> datetime:
    if not isinstance(value, str) or _MOMENT.fullmatch(value) is None:
        raise ValueError("is no moment such as 2027-01-31T12:00:00Z")
    return datetime.fromisoformat(value)


_FORMS: dict[Any, _Form] = {
    str: _Form(lambda value: value, _read_text),
    int: _Form(lambda value: value, _read_whole),
    bool: _Form(lambda value: value, _read_flag),
    bytes: _Form(_write_octets, _read_octets),
    Fingerprint: _Form(lambda value: value.digest.hex(), _read_fingerprint),
    datetime: _Form(_write_moment, _read_moment),
}
