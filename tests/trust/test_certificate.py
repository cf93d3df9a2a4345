"""What a certificate says of itself, as far as other software goes by it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography import x509

from peerauth.trust.certificate import Certificate
from peerauth.trust.identity import Identity, KeyType, new_key, self_signed
from tests.support.dropin import NOW, mint, version_one


def usage(*, key_cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: self_signed(new_key(KeyType.P256), "a", NOW), True),
        (lambda: self_signed(new_key(KeyType.RSA3072), "a", NOW), True),
        (lambda: mint("a", ca=False, usage=usage(key_cert_sign=False)), True),
        (lambda: mint("a", ca=False, usage=usage(key_cert_sign=True)), False),
        (lambda: mint("a", ca=False), False),
        (lambda: mint("a", ca=None, usage=usage(key_cert_sign=False)), False),
        (lambda: mint("a", ca=True, usage=usage(key_cert_sign=False)), False),
        (lambda: mint("a", ca=True), False),
        (lambda: mint("a", ca=None), False),
        (lambda: version_one("a"), False),
    ],
)
def test_only_what_says_so_twice_signs_nothing(make: Callable[[], Identity], expected: bool) -> None:
    """By its basicConstraints and by its keyUsage; docs/decisions/0029 has who goes by which."""
    assert Certificate(make().certificate.der).signs_nothing is expected
