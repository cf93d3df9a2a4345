"""Numbers as words that can be read aloud, and back: fingerprints, and the codes of pairing.

The words are those of BIP-39's English list (2048 of them, 11 bits each, no two of which begin with the same four letters).
A fingerprint is written as BIP-39 writes 256 bits: 24 words, whose last 8 bits are the first 8 of the SHA-256 of the others.
So of wrong words and wrong orders 255 in 256 are noticed when they are read; all of them are when the fingerprint is
compared. Words of a fingerprint are no secret.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import re
from collections.abc import Sequence

from peerauth.errors import BadInput, printable

OF_A_FINGERPRINT = 24
OF_A_CODE = 3
BITS = 11  # that a word stands for
LONGEST = 500  # characters of a text that is read
_PREFIX = 4  # letters that are enough, where a word has more
_SEPARATORS = re.compile(r"[\s,;.:-]+")
_HINT = "words can be shortened to their first four letters; their order counts"


@functools.cache
def word_list() -> tuple[str, ...]:
    """The 2048 words, in alphabetical order: a word's number is its place."""
    from mnemonic import Mnemonic  # noqa: PLC0415 - it reads the list from its package, which few commands need

    return tuple(Mnemonic("english").wordlist)


@functools.cache
def _numbers() -> dict[str, int]:
    return {text: number for number, word in enumerate(word_list()) for text in (word, word[:_PREFIX])}


def to_words(digest: bytes) -> str:
    """The 24 words of a fingerprint's 32 bytes, with spaces between."""
    bits = int.from_bytes(digest + hashlib.sha256(digest).digest()[:1], "big")
    return " ".join(word_list()[bits >> BITS * place & 0x7FF] for place in reversed(range(OF_A_FINGERPRINT)))


def from_words(text: str) -> bytes:
    """The fingerprint's 32 bytes. Raises BadInput("bad-fingerprint") saying which word, or what about them, is wrong."""
    try:
        numbers = _read(text, OF_A_FINGERPRINT, "a fingerprint")
    except _Slip as slip:
        raise BadInput("bad-fingerprint", *slip.args) from slip
    bits = functools.reduce(lambda bits, number: bits << BITS | number, numbers)
    data = bits.to_bytes(33, "big")
    if hashlib.sha256(data[:32]).digest()[:1] != data[32:]:
        raise BadInput(
            "bad-fingerprint",
            "these are words of the list, but not a fingerprint: one of them is another, or two have changed places",
            "on the other machine type: peerauth id --words",
        )
    return data[:32]


def read_code(text: str) -> str:
    """A code of pairing in its one form, `river-tiger-bamboo`. Raises BadInput("bad-code")."""
    try:
        return "-".join(word_list()[number] for number in _read(text, OF_A_CODE, "a code"))
    except _Slip as slip:
        raise BadInput("bad-code", *slip.args) from slip


def look_like_words(text: str) -> bool:
    """Whether this is meant as the words of a fingerprint, right or wrong: many, of letters alone, longer than hex pairs."""
    words = _split(text)
    return len(words) >= OF_A_FINGERPRINT // 2 and all(len(word) > 2 and word.isalpha() for word in words)


def in_rows(words: str, width: int = 6) -> list[str]:
    """The words in rows, for people who read them to each other."""
    split = words.split()
    return [" ".join(split[start : start + width]) for start in range(0, len(split), width)]


def _split(text: str) -> list[str]:
    return [word for word in _SEPARATORS.split(text[:LONGEST].lower()) if word]


class _Slip(Exception):
    """What is wrong with what was typed, and a hint."""


def _read(text: str, count: int, what: str) -> Sequence[int]:
    """The numbers of so many words. Raises _Slip."""
    words = _split(text)
    numbers = []
    for place, word in enumerate(words[:count], start=1):
        number = _numbers().get(word[:_PREFIX])
        if number is None or not word_list()[number].startswith(word):
            near = difflib.get_close_matches(word, word_list(), 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else _HINT
            raise _Slip(f"word {place}, '{printable(word, 20)}', is none of the list", hint)
        numbers.append(number)
    if len(words) != count or len(text) > LONGEST:
        raise _Slip(f"{what} has {count} words, and these are {len(words)}", _HINT)
    return numbers
