"""One GET by urllib3 with a client certificate.

Usage: python_urllib3.py URL CA CERT KEY. Prints `Success: BODY`, or `Failed: WHY` with exit 1.
"""

from __future__ import annotations

import sys

import urllib3


def main(url: str, ca: str, cert: str, key: str) -> int:
    """Ask once and say how it went."""
    pool = urllib3.PoolManager(ca_certs=ca, cert_file=cert, key_file=key, retries=False, timeout=10)
    try:
        response = pool.request("GET", url)
    except urllib3.exceptions.HTTPError as error:
        print(f"Failed: {error}")
        return 1
    ok = response.status == 200
    print(f"{'Success' if ok else 'Failed'}: {response.data.decode()}")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
