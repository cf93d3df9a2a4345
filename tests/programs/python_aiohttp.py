"""One GET by aiohttp with a client certificate.

Usage: python_aiohttp.py URL CA CERT KEY. Prints `Success: BODY`, or `Failed: WHY` with exit 1.
"""

from __future__ import annotations

import asyncio
import ssl
import sys

import aiohttp


async def ask(url: str, context: ssl.SSLContext) -> int:
    """Ask once and say how it went."""
    timeout = aiohttp.ClientTimeout(total=10)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, ssl=context) as response:
            body = await response.text()
    except aiohttp.ClientError as error:
        print(f"Failed: {error!r}")
        return 1
    print(f"{'Success' if response.ok else 'Failed'}: {body}")
    return 0 if response.ok else 1


def main(url: str, ca: str, cert: str, key: str) -> int:
    """Build the context the ordinary way, then ask."""
    context = ssl.create_default_context(cafile=ca)
    context.load_cert_chain(cert, key)
    return asyncio.run(ask(url, context))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
