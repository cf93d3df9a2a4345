"""One GET by httpx with a client certificate.

Usage: python_httpx.py URL CA CERT KEY. Prints `Success: BODY`, or `Failed: WHY` with exit 1.
"""

from __future__ import annotations

import ssl
import sys

import httpx


def main(url: str, ca: str, cert: str, key: str) -> int:
    """Ask once and say how it went."""
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(cert, key)
    try:
        response = httpx.get(url, verify=context, trust_env=False, timeout=10)
    except httpx.HTTPError as error:
        print(f"Failed: {error!r}")
        return 1
    print(f"{'Success' if response.is_success else 'Failed'}: {response.text}")
    return 0 if response.is_success else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
