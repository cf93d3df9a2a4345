"""Two known primes of 8192 bits, for an RSA key of 16384 bits without the minutes that making one takes."""

from __future__ import annotations

from functools import cache

from cryptography.hazmat.primitives.asymmetric import rsa

_GUARD = 128


def _scaled_pi(bits: int) -> int:
    """Pi times 2**bits, by Machin's formula."""
    one = 1 << (bits + _GUARD)

    def arctan_of_inverse(number: int) -> int:
        total = term = one // number
        divisor, sign = 3, -1
        while term:
            term //= number * number
            total += sign * (term // divisor)
            divisor, sign = divisor + 2, -sign
        return total

    return (16 * arctan_of_inverse(5) - 4 * arctan_of_inverse(239)) >> _GUARD


def _scaled_e(bits: int) -> int:
    """Euler's number times 2**bits."""
    total, term, count = 0, 1 << (bits + _GUARD), 1
    while term:
        total += term
        term //= count
        count += 1
    return total >> _GUARD


@cache
def huge_rsa_key() -> rsa.RSAPrivateKey:
    """An RSA key of 16384 bits, of the primes of RFC 3526 section 7 and RFC 7919 appendix A.5; everybody knows it."""
    frame = 2**8192 - 2**8128 - 1
    p = frame + 2**64 * (_scaled_pi(8062) + 4743158)
    q = frame + 2**64 * (_scaled_e(8062) + 10965728)
    exponent = 65537
    d = pow(exponent, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(exponent, p * q)
    numbers = rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public)
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)
