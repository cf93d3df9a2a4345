"""The client of seed 004: requests with a client certificate.

Usage: python_requests.py URL CA CERT KEY. Prints the document's two lines: `Success: BODY`, or `Failed: WHY` with exit 1.
"""

from __future__ import annotations

import sys

import requests


def main(url: str, ca: str, cert: str, key: str) -> int:
    """Ask once and say how it went."""
    try:
        # `verify` per request: as an attribute of a Session it is overridden by REQUESTS_CA_BUNDLE.
        response = requests.get(url, verify=ca, cert=(cert, key), timeout=10)
    except requests.RequestException as error:
        print(f"Failed: {error}")
        return 1
    print(f"{'Success' if response.ok else 'Failed'}: {response.text}")
    return 0 if response.ok else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
