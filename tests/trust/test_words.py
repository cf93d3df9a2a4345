"""Words that stand for numbers: what is read is what was said, and a slip is found or named."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mnemonic import Mnemonic

from peerauth.errors import BadInput
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.words import OF_A_FINGERPRINT, read_code, to_words, word_list

DIGESTS = st.binary(min_size=32, max_size=32)
FORMS: dict[str, Callable[[list[str]], str]] = {
    "as printed": " ".join,
    "in rows": lambda words: "\n".join(" ".join(words[n : n + 6]) for n in range(0, 24, 6)) + "\n",
    "upper case": lambda words: " ".join(words).upper(),
    "commas": ", ".join,
    "hyphens": "-".join,
    "four letters": lambda words: " ".join(word[:4] for word in words),
    "five letters": lambda words: " ".join(word[:5] for word in words),
    "blanks around": lambda words: f"\t  {'  '.join(words)} \r\n",
}
ONE = Fingerprint.of(b"one")


@given(digest=DIGESTS, form=st.sampled_from(sorted(FORMS)))
def test_what_was_said_in_words_is_read_in_every_usual_form(digest: bytes, form: str) -> None:
    words = Fingerprint(digest).words.split()
    assert len(words) == OF_A_FINGERPRINT
    assert Fingerprint.parse(FORMS[form](words)).digest == digest


@given(DIGESTS)
def test_the_words_are_those_of_bip_39(digest: bytes) -> None:
    assert to_words(digest) == Mnemonic("english").to_mnemonic(digest)


def test_four_letters_say_which_word_is_meant() -> None:
    assert len(word_list()) == 2048
    assert len({word[:4] for word in word_list()}) == 2048
    assert list(word_list()) == sorted(word_list())


def _read(words: list[str]) -> Fingerprint | None:
    try:
        return Fingerprint.parse(" ".join(words))
    except BadInput as error:
        assert error.code == "bad-fingerprint"  # noqa: PT017 - some are read
        return None


def test_of_single_wrong_words_255_in_256_are_noticed() -> None:
    """What 8 bits of checksum give: of the last word's 2047 others exactly 7 fit, of each other place's about 8."""
    words = ONE.words.split()
    fitting = [0] * OF_A_FINGERPRINT
    for place, right in enumerate(words):
        for word in word_list():
            if word != right:
                read = _read([*words[:place], word, *words[place + 1 :]])
                fitting[place] += read is not None
                assert read != ONE  # whoever compares finds every one of them
    assert fitting[-1] == 7
    expected = 23 * 2047 / 256  # 183.9, with a standard deviation of 13.5
    assert abs(sum(fitting[:-1]) - expected) < 5 * 13.5


def test_words_that_have_changed_places_are_noticed() -> None:
    """The same fingerprint is never read, and mostly none at all."""
    words = ONE.words.split()
    pairs = [(a, b) for a in range(24) for b in range(a) if words[a] != words[b]]
    read = []
    for a, b in pairs:
        swapped = list(words)
        swapped[a], swapped[b] = swapped[b], swapped[a]
        read.append(_read(swapped))
    assert ONE not in read
    assert sum(one is not None for one in read) < 10  # 276 / 256 are expected


@pytest.mark.parametrize(
    ("changed", "said", "hint"),
    [
        (lambda words: [*words[:6], "rivre", *words[7:]], "word 7, 'rivre', is none of the list", "did you mean river?"),
        (lambda words: [*words[:6], "zzzzzz", *words[7:]], "word 7", "first four letters"),
        (lambda words: words[:-1], "has 24 words, and these are 23", ""),
        (lambda words: [*words, "river"], "has 24 words, and these are 25", ""),
        (lambda words: [*words[:6], "abandoned", *words[7:]], "'abandoned', is none", "did you mean abandon?"),
        (lambda words: words[::-1], "another, or two have changed places", "id --words"),
    ],
)
def test_a_slip_is_explained(changed: Callable[[list[str]], list[str]], said: str, hint: str) -> None:
    with pytest.raises(BadInput) as error:
        Fingerprint.parse(" ".join(changed(ONE.words.split())))
    assert error.value.code == "bad-fingerprint"
    assert said in error.value.message
    assert hint in (error.value.hint or "")


@given(
    text=st.text(max_size=700) | st.lists(st.sampled_from(["river", "RIVE", "x", "-", "\u0130"]), max_size=60).map(" ".join)
)
def test_whatever_is_typed_is_read_or_explained(text: str) -> None:
    for read in (Fingerprint.parse, read_code):
        try:
            read(text)
        except BadInput as error:
            assert error.message.isprintable()  # noqa: PT017 - either way is fine


@pytest.mark.parametrize(
    "text", ["river-tiger-bamboo", "River Tiger Bamboo", " rive tige bamb\n", "RIVER,tiger.bamboo", "river--tiger - bamb"]
)
def test_a_code_has_one_form_and_is_read_in_many(text: str) -> None:
    assert read_code(text) == "river-tiger-bamboo"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "river-tiger",
        "river tiger bamboo bamboo",
        "river tiger bambus",
        "rivertigerbamboo",
        "riv tiger bamboo",
        "x" * 5000,
    ],
)
def test_what_is_no_code_is_not_taken_for_one(text: str) -> None:
    with pytest.raises(BadInput) as error:
        read_code(text)
    assert error.value.code == "bad-code"


def test_words_that_are_three_letters_long_are_themselves_and_nothing_shorter_is() -> None:
    short = [word for word in word_list() if len(word) == 3]
    assert len(short) > 50
    assert all(read_code(f"{word} {word} {word}") == "-".join([word] * 3) for word in short)
    assert read_code("act act act") != read_code("acti acti acti")


@given(digest=DIGESTS, host=st.sampled_from(["db.example:8443", "[::1]:1", "10.0.0.1:65535"]))
def test_the_text_of_a_qr_code_is_read_as_the_fingerprint_in_it(digest: bytes, host: str) -> None:
    link = Fingerprint(digest).link(host, "db-1")
    assert link == f"peerauth://{digest.hex()}@{host}?name=db-1"
    assert Fingerprint.parse(link).digest == digest


@pytest.mark.parametrize(
    "change",
    [
        str.upper,
        lambda link: link.replace("@", "0@"),
        lambda link: link[:40],
        lambda link: f"{link} x",
        lambda link: link + "@y",
    ],
)
def test_what_only_looks_like_such_a_text_is_not_read(change: Callable[[str], str]) -> None:
    with pytest.raises(BadInput):
        Fingerprint.parse(change(ONE.link("db.example:8443", "db-1")))


def test_a_value_that_others_can_compare_with() -> None:
    assert to_words(hashlib.sha256(b"").digest()) == (
        "together mail awful cradle scrub apart hip leader silk slice unusual embark "
        "kit can muscle nature nation gown century cram resource citizen throw produce"
    )
