"""A private key from a file: it works, it belongs to its certificate, and finding that out takes little time."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from functools import cache

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from peerauth.errors import BadInput
from peerauth.trust.identity import Identity, KeyType, load_identity, new_key, self_signed
from tests.support.dropin import NOW
from tests.support.engine import identity

FIELDS = ("n", "e", "d", "p", "q", "dmp1", "dmq1", "iqmp")  # their order in a file: RFC 8017 appendix A.1.2
SIGNATURES = 25  # what loading a key may cost; proving that its two primes are prime costs 100 of them


@cache
def own() -> Identity:
    return self_signed(new_key(KeyType.RSA3072), "node", NOW)


def key_of(one: Identity) -> rsa.RSAPrivateKey:
    assert isinstance(one.key, rsa.RSAPrivateKey)
    return one.key


@cache
def numbers() -> dict[str, int]:
    held = key_of(own()).private_numbers()
    return {field: getattr(held.public_numbers if field in "ne" else held, field) for field in FIELDS}


def derived(p: int, q: int) -> dict[str, int]:
    """The numbers of a key over these two, as if they were prime."""
    d = pow(65537, -1, (p - 1) * (q - 1))
    crt = {"dmp1": d % (p - 1), "dmq1": d % (q - 1), "iqmp": pow(q, -1, p)}
    return {"n": p * q, "e": 65537, "d": d, "p": p, "q": q, **crt}


def pem(held: Mapping[str, int]) -> bytes:
    """A key file with these numbers in it, right or wrong."""
    values = (0, *(held[field] for field in FIELDS))
    body = b"".join(_tlv(2, value.to_bytes(value.bit_length() // 8 + 1)) for value in values)
    kind = b"RSA PRIVATE KEY-----\n"
    return b"-----BEGIN " + kind + base64.encodebytes(_tlv(0x30, body)) + b"-----END " + kind


def _tlv(tag: int, value: bytes) -> bytes:
    size = len(value)
    octets = size.to_bytes((size.bit_length() + 7) // 8)
    return bytes([tag]) + (octets or b"\0" if size < 128 else bytes([0x80 | len(octets)]) + octets) + value


def refusal(key: bytes, certificate: bytes) -> str:
    with pytest.raises(BadInput) as refused:
        load_identity(key, certificate)
    return refused.value.code


def test_key_that_fits_together_is_loaded() -> None:
    certificate = own().certificate.pem.encode()
    assert key_of(load_identity(pem(numbers()), certificate)).private_numbers() == key_of(own()).private_numbers()


@pytest.mark.parametrize("bit", [0, 1, 700])
@pytest.mark.parametrize("field", FIELDS)
def test_key_of_which_one_bit_fell_over_is_refused(field: str, bit: int) -> None:
    """The twin is `test_key_that_fits_together_is_loaded`: such a key would sign wrongly, or give itself away by it."""
    damaged = {**numbers(), field: numbers()[field] ^ (1 << bit)}
    assert refusal(pem(damaged), own().certificate.pem.encode()) == "bad-key"


@pytest.mark.parametrize("field", ["p", "q", "d", "iqmp"])
@pytest.mark.parametrize("value", [0, 1, 2])
def test_key_with_absurd_numbers_is_refused(field: str, value: int) -> None:
    assert refusal(pem({**numbers(), field: value}), own().certificate.pem.encode()) == "bad-key"


def test_key_of_numbers_that_are_not_prime_is_refused_although_they_fit_together() -> None:
    p, q = numbers()["p"], numbers()["q"]
    composite = next(p + more for more in range(2, 10_000, 2) if _is_usable(p + more, q))
    assert refusal(pem(derived(composite, q)), own().certificate.pem.encode()) == "bad-key"


def _is_usable(p: int, q: int) -> bool:
    try:
        return derived(p, q)["iqmp"] > 0 and pow(3, p - 1, p) != 1
    except ValueError:
        return False


def test_key_of_another_certificate_is_a_mismatch() -> None:
    assert refusal(pem(numbers()), identity("alice").certificate.pem.encode()) == "key-mismatch"


def test_key_is_loaded_in_the_time_of_some_signatures_with_it() -> None:
    """A running server loads it, too, when it may have changed, and does nothing else meanwhile."""
    key, certificate = own().key_pem(), own().certificate.pem.encode()
    started = time.thread_time()
    for _ in range(SIGNATURES):
        key_of(own()).sign(b"", padding.PKCS1v15(), hashes.SHA256())
    signing = time.thread_time() - started
    took = []
    for _ in range(3):
        started = time.thread_time()
        load_identity(key, certificate)
        took.append(time.thread_time() - started)
    assert min(took) < signing
