import base64
import string
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.errors import BadInput
from peerauth.trust.fingerprint import Fingerprint

DIGESTS = st.binary(min_size=32, max_size=32)
FORMS: dict[str, Callable[[bytes], str]] = {
    "as printed": lambda d: str(Fingerprint(d)),
    "plain hex": lambda d: d.hex(),
    "upper-case hex": lambda d: d.hex().upper(),
    "spaces": lambda d: d.hex(" "),
    "dashes": lambda d: d.hex("-"),
    "groups of four": lambda d: " ".join(d.hex()[n : n + 4] for n in range(0, 64, 4)),
    "what openssl prints": lambda d: "sha256 Fingerprint=" + d.hex(":").upper() + "\n",
    "what older openssl prints": lambda d: "SHA256 Fingerprint=" + d.hex(":").upper(),
    "what ssh-keygen prints": lambda d: "SHA256:" + base64.b64encode(d).decode().rstrip("="),
    "what curl takes": lambda d: "sha256//" + base64.b64encode(d).decode(),
    "url-safe base64": lambda d: base64.urlsafe_b64encode(d).decode(),
    "with sha-256 before it": lambda d: "sha-256:" + d.hex(),
    "in blanks": lambda d: "\t " + d.hex(":") + " \r\n",
}


@pytest.mark.parametrize("form", FORMS)
@given(digest=DIGESTS | DIGESTS.map(lambda digest: b"\xff\xff\xff" + digest[3:]))  # in base64 it begins with slashes
def test_every_usual_form_is_read(form: str, digest: bytes) -> None:
    assert Fingerprint.parse(FORMS[form](digest)) == Fingerprint(digest)


@given(DIGESTS)
def test_it_prints_as_openssl_does(digest: bytes) -> None:
    shown = str(Fingerprint(digest))
    assert len(shown) == 95
    assert set(shown) <= set("0123456789ABCDEF:")
    assert Fingerprint.parse(shown).digest == digest


@given(digest=DIGESTS, form=st.sampled_from(sorted(FORMS)), cut=st.integers(1, 20))
def test_shortened_one_is_never_enough(digest: bytes, form: str, cut: int) -> None:
    text = FORMS[form](digest).strip().rstrip("=")
    with pytest.raises(BadInput):
        Fingerprint.parse(text[:-cut])


@given(
    digest=DIGESTS, form=st.sampled_from(sorted(FORMS)), junk=st.text(string.ascii_letters + "/+", min_size=1, max_size=200)
)
def test_junk_behind_it_is_not_overlooked(digest: bytes, form: str, junk: str) -> None:
    with pytest.raises(BadInput):
        Fingerprint.parse(FORMS[form](digest).strip().rstrip("=") + junk)
    with pytest.raises(BadInput):
        Fingerprint.parse(FORMS[form](digest).strip() + " " * 200 + junk)


@given(st.text() | st.text(string.hexdigits + ": =-_/+", max_size=120))
def test_junk_raises_bad_input_and_nothing_else(text: str) -> None:
    with suppress(BadInput):
        assert len(Fingerprint.parse(text).digest) == 32


def test_error_says_what_to_type() -> None:
    with pytest.raises(BadInput, match="not a SHA-256 fingerprint") as refused:
        Fingerprint.parse("junk")
    assert refused.value.code == "bad-fingerprint"
    assert refused.value.hint


@pytest.mark.parametrize("size", [0, 20, 31, 33])
def test_value_of_another_length_cannot_be_made(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Fingerprint(bytes(size))
