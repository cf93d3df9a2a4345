"""From bytes to certificates: whatever a person copies, cuts or mixes up."""

import base64
import hashlib
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, pkcs12
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peerauth.errors import BadInput
from peerauth.trust.certificate import Certificate
from peerauth.trust.identity import KeyType, new_key, self_signed
from peerauth.trust.reading import MAXIMUM_BYTES, glance, leaves, read_certificates, seconds
from tests.support.dropin import NOW, mint
from tests.support.engine import identity
from tests.support.outcome import outcome

ALICE, BOB = identity("alice"), identity("bob")
PEM, DER = ALICE.certificate.pem.encode(), ALICE.certificate.der
P12 = ALICE.pkcs12("alice", b"secret")
KEYS = {
    "PKCS8": ALICE.key_pem(),
    "encrypted PKCS8": ALICE.key_pem(b"secret"),
    "PKCS8 DER": ALICE.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
    "key and certificate": ALICE.key_pem() + PEM,
    "certificate and key": PEM + ALICE.key_pem(),
    "age": b"AGE-SECRET-KEY-1QQQQ\n",
}
SLOW = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def only_bad_input(data: bytes, password: bytes | None = None) -> list[Certificate] | None:
    started = time.monotonic()
    found = outcome(lambda: read_certificates(data, password))
    assert time.monotonic() - started < 5
    if isinstance(found, list):
        return found
    assert found.code
    assert found.message
    return None


@pytest.mark.parametrize("data", [PEM, DER, PEM.replace(b"\n", b"\r\n"), b"Subject: alice\n\n" + PEM + b"\ntrailing text\n"])
def test_usual_forms_are_read(data: bytes) -> None:
    assert read_certificates(data) == [ALICE.certificate]


def test_several_are_read_in_order_and_once() -> None:
    both = PEM + b"and\n" + BOB.certificate.pem.encode() + PEM
    assert read_certificates(both) == [ALICE.certificate, BOB.certificate]


def test_pkcs12_needs_its_password_and_gives_the_certificate() -> None:
    assert read_certificates(P12, b"secret") == [ALICE.certificate]
    for password, code in ((None, "password-needed"), (b"wrong", "password-wrong")):
        with pytest.raises(BadInput) as wrong:
            read_certificates(P12, password)
        assert wrong.value.code == code
    only = pkcs12.serialize_java_truststore(
        [pkcs12.PKCS12Certificate(ALICE.certificate._x509, b"alice")], BestAvailableEncryption(b"secret")
    )
    assert read_certificates(only, b"secret") == [ALICE.certificate]


@pytest.mark.parametrize("kind", KEYS)
def test_private_key_is_refused_and_not_repeated(kind: str) -> None:
    with pytest.raises(BadInput) as refused:
        read_certificates(KEYS[kind])
    assert refused.value.code == "private-key"
    for line in KEYS[kind].split(b"\n"):
        assert len(line) < 10 or line.decode(errors="replace") not in str(refused.value)


@given(st.binary(max_size=3000))
def test_random_bytes_are_refused(data: bytes) -> None:
    assert only_bad_input(data) is None
    assert only_bad_input(b"\x30" + data, b"x") is None


@SLOW
@given(st.sampled_from([PEM, DER, P12, PEM + PEM]), st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=4))
def test_mutated_files_are_refused_or_are_other_certificates(data: bytes, changes: list[tuple[float, int]]) -> None:
    changed = bytearray(data)
    for where, how in changes:
        changed[int(where * (len(data) - 1))] ^= how
    found = only_bad_input(bytes(changed), b"secret")
    for certificate in found or []:
        assert certificate.fingerprint == ALICE.certificate.fingerprint or certificate.der != DER


@SLOW
@given(st.sampled_from([PEM, DER, P12]), st.floats(0, 0.999))
def test_cut_off_files_are_refused(data: bytes, part: float) -> None:
    cut = data[: int(part * len(data.rstrip(b"-\n")))]
    assert only_bad_input(cut, b"secret") is None
    assert only_bad_input(data, b"secret") is not None


@given(st.binary(min_size=1, max_size=40))
def test_der_with_something_behind_it_is_refused(junk: bytes) -> None:
    assert only_bad_input(DER + junk) is None


BLOCK = b"-----BEGIN CERTIFICATE-----\n"
HOSTILE = {
    "many beginnings": BLOCK * (MAXIMUM_BYTES // len(BLOCK)),
    "many beginnings of different kinds": b"".join(b"-----BEGIN X%d-----" % n for n in range(50_000)),
    "beginnings without dashes": b"-----BEGIN " * (MAXIMUM_BYTES // 11),
    "many empty blocks": (BLOCK + b"-----END CERTIFICATE-----\n") * 19_000,
    "many other blocks": b"-----BEGIN X-----\n-----END X-----\n" * 30_000,
    "many ends": BLOCK + b"-----END X-----" * 60_000,
    "dashes": b"-" * MAXIMUM_BYTES,
    "blanks": b" " * MAXIMUM_BYTES,
    "deep DER": b"\x30\x80" * (MAXIMUM_BYTES // 2),
    "endless line": BLOCK + b"A" * (MAXIMUM_BYTES - 100) + b"\n-----END CERTIFICATE-----\n",
    "too large": PEM * (MAXIMUM_BYTES // len(PEM) + 1),
    "too many": b"".join(mint(f"n{n}").certificate.pem.encode() for n in range(101)),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused_quickly(kind: str) -> None:
    started = time.process_time()
    assert only_bad_input(HOSTILE[kind]) is None
    assert time.process_time() - started < 1.0


def test_many_copies_of_one_certificate_are_counted_before_they_are_parsed_at_length() -> None:
    started = time.process_time()
    only_bad_input(PEM * 1000)
    assert time.process_time() - started < 1.0


def test_leaves_of_a_chain_are_not_their_issuers() -> None:
    root = mint("root", ca=True)
    middle = mint("middle", ca=True, issuer=root)
    leaf = mint("leaf", issuer=middle)
    chain = [one.certificate for one in (leaf, middle, root)]
    assert leaves(chain) == [leaf.certificate]
    assert leaves(chain[::-1]) == [leaf.certificate]
    assert leaves([ALICE.certificate, BOB.certificate]) == [ALICE.certificate, BOB.certificate]
    assert leaves([root.certificate]) == [root.certificate]


@given(st.binary(min_size=1, max_size=200))
def test_base64_of_anything_else_is_no_certificate(data: bytes) -> None:
    block = BLOCK + base64.encodebytes(data) + b"-----END CERTIFICATE-----\n"
    assert only_bad_input(block) is None
    assert only_bad_input(block + PEM) is None


FORMS = [PEM, DER, PEM.replace(b"\n", b"\r\n"), PEM.rstrip(), PEM + b"\n\n"]
FORMS += [self_signed(new_key(kind), "x", NOW).certificate.der for kind in (KeyType.ED25519, KeyType.RSA3072)]
FORMS += [mint("leaf", issuer=mint("root", ca=True)).certificate.der]
UNUSUAL = [PEM + PEM, b"text\n" + PEM, PEM + b"text", P12, *KEYS.values(), DER + b"\0", b"", b"\x30\x03\x02\x01\x05"]
UNUSUAL += [PEM.replace(b"CERTIFICATE", b"X509 CERTIFICATE"), PEM + ALICE.key_pem(), b"\n" + PEM]


@pytest.mark.parametrize("data", FORMS)
def test_pin_of_a_plain_file_is_found_at_a_glance(data: bytes) -> None:
    (found,) = read_certificates(data)
    assert glance(data) == (found.fingerprint.digest, seconds(found.not_after))


@pytest.mark.parametrize("data", UNUSUAL)
def test_everything_else_is_left_to_care(data: bytes) -> None:
    assert glance(data) is None


def glance_and_care_agree(data: bytes) -> bool:
    """Where a glance finds a pin, care finds that certificate and no other, unless its key is none; whether a glance did."""
    seen = glance(data)
    if seen is None:
        return False
    found = outcome(lambda: read_certificates(data))
    if isinstance(found, list):
        assert [(one.fingerprint.digest, seconds(one.not_after)) for one in found] == [seen]
    else:
        assert found.code == "malformed"
        der = data if data[:1] == b"\x30" else base64.b64decode(b"".join(data.split(b"-----")[2].split()))
        assert hashlib.sha256(der).digest() == seen[0]
        with pytest.raises(ValueError, match=r"."):  # a point that is on no curve
            x509.load_der_x509_certificate(der).public_key()
    return True


@SLOW
@given(
    st.sampled_from(FORMS + UNUSUAL),
    st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=3),
    st.tuples(st.floats(0, 1), st.sampled_from([b"", b"", b"\n", b" ", b"-", b"=", b"\0", b"A", PEM, ALICE.key_pem()])),
    st.floats(0.5, 1.5),
)
def test_glance_and_care_agree_on_files_that_were_damaged(
    data: bytes, changes: list[tuple[float, int]], put: tuple[float, bytes], part: float
) -> None:
    changed = bytearray(data)
    for where, how in changes:
        if changed:
            changed[int(where * (len(changed) - 1))] ^= how
    at = int(put[0] * len(changed))
    glance_and_care_agree(bytes(changed[:at] + put[1] + changed[at:])[: int(part * len(changed))])


@SLOW
@given(st.floats(0, 1), st.integers(1, 255))
def test_glance_and_care_agree_on_certificates_with_other_bytes_in_them(where: float, how: int) -> None:
    """Any byte of the certificate itself, its key included: what is damaged in it is found by both, or by neither."""
    changed = bytearray(DER)
    changed[int(where * (len(DER) - 1))] ^= how
    seen = glance_and_care_agree(bytes(changed))
    block = BLOCK + base64.encodebytes(changed) + b"-----END CERTIFICATE-----\n"
    assert glance_and_care_agree(block) == seen


def test_sequence_that_is_no_certificate_has_no_pin() -> None:
    """Well-formed DER all the same: its parts in another order, or one of them missing."""
    whole = x509.load_der_x509_certificate(DER)
    signed = whole.tbs_certificate_bytes
    rest = DER[DER.index(signed) + len(signed) :]
    for body in (rest + signed, signed, rest, signed + rest + rest):
        der = b"\x30\x82" + len(body).to_bytes(2, "big") + body
        assert glance(der) is None
        assert only_bad_input(der) is None
    body = signed + rest
    seen = glance(b"\x30\x82" + len(body).to_bytes(2, "big") + body)
    assert seen is not None
    assert seen[0] == ALICE.certificate.fingerprint.digest
