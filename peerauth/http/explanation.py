"""The one answer that somebody who is not admitted gets, whatever it asks for: 401 or 403, and why.

It is made of the notice and of two things in the request: whether it is HEAD, and what form is wanted. Nothing else that a
stranger sends is looked at, and what stands in its certificate is there only as far as the notice lets it through.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import datetime
from email.utils import format_datetime
from typing import Final

from peerauth.trust.decision import Code
from peerauth.trust.notice import Notice

LONGEST_HEAD: Final = 8 << 10  # bytes
END_OF_HEAD: Final = b"\r\n\r\n"
REFUSED: Final = "Peerauth-Refused"  # the code
MARK: Final = "Peerauth-Mark"  # of this TLS connection: Session.own_mark, in hex

_ACCEPT = re.compile(rb"\r\naccept:([^\r\n]*)", re.IGNORECASE)
_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:46rem;margin:12vh auto;padding:0 1.2rem;color:#222;background:#fff}"
    "h1{font-size:1.3rem}code,pre{font:.8rem/1.6 ui-monospace,monospace;overflow-wrap:anywhere}"
    "pre{white-space:pre-wrap;background:#f3f3f1;padding:.7rem 1rem;border-radius:.4rem;user-select:all}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}pre{background:#262626}}"
)
_POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
)


def explanation(notice: Notice, head: bytes, mark: bytes, now: datetime) -> bytes:
    """The whole answer to a request that begins like this. `mark`: 32 bytes that only this TLS connection has."""
    anonymous = notice.code is Code.NO_CERTIFICATE
    status = "401 Unauthorized" if anonymous else "403 Forbidden"
    accepted = b",".join(_ACCEPT.findall(head)).lower()
    if b"text/html" in accepted:
        kind, text = "text/html", _page(notice, status)
    elif b"application/json" in accepted:
        kind, text = "application/json", _json(notice)
    else:
        kind, text = "text/plain", _text(notice, status)
    body = text.encode()
    lines = [
        f"HTTP/1.1 {status}",
        f"Date: {format_datetime(now, usegmt=True)}",
        f"Content-Type: {kind}; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "Cache-Control: no-store",
        "Vary: Accept",
        "X-Content-Type-Options: nosniff",
        "Referrer-Policy: no-referrer",
        f"Content-Security-Policy: {_POLICY}",
        f"{REFUSED}: {notice.code}",
        f"{MARK}: {mark.hex()}",
    ]
    if anonymous:  # RFC 9110 section 15.5.2 wants a challenge; the scheme is that of draft-thomson-httpbis-cant
        lines.append("WWW-Authenticate: ClientCertificate")
    answer = "\r\n".join([*lines, "", ""]).encode()
    return answer if head.startswith(b"HEAD ") else answer + body


def _text(notice: Notice, status: str) -> str:
    lines = [f"{status.partition(' ')[2]}: {notice.message} ({notice.code})"]
    if notice.fingerprint is not None:
        lines += [f"you present: {notice.fingerprint}"]
    lines += [f"what to do:  {notice.hint}", *(f"    {command}" for command in notice.admitting)]
    return "\n".join(lines) + "\n"


def _json(notice: Notice) -> str:
    facts = {
        "code": str(notice.code),
        "message": notice.message,
        "hint": notice.hint,
        "fingerprint": str(notice.fingerprint) if notice.fingerprint else None,
        "admit": list(notice.admitting),
    }
    return json.dumps(facts) + "\n"


def _page(notice: Notice, status: str) -> str:
    from html import escape  # noqa: PLC0415 - its table of entities is for pages alone

    def safe(text: object) -> str:
        return escape(str(text))

    why = f"{safe(notice.message)} <code>({safe(notice.code)})</code>"
    said = [f"<h1>{safe(status)}</h1>", f"<p>This service admits only those whom it knows, and {why}.</p>"]
    if notice.fingerprint is not None:
        said.append(f"<p>You present the certificate <code>{safe(notice.fingerprint)}</code>.</p>")
    said.append(f"<p>What to do: {safe(notice.hint)}{':' if notice.admitting else '.'}</p>")
    said.append(
        "\n<p>or, with your certificate in a file:</p>\n".join(f"<pre>{safe(one)}</pre>" for one in notice.admitting)
    )
    body = "\n".join(line for line in said if line)
    head = f'<meta charset="utf-8"><title>{safe(status)}</title><style>{_STYLE}</style>'
    viewport = '<meta name="viewport" content="width=device-width,initial-scale=1">'
    return f'<!doctype html>\n<html lang="en"><head>{head}{viewport}</head>\n<body>\n{body}\n</body></html>\n'
