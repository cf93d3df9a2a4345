"""What is in a directory, for people in a browser, for programs (JSON), and as plain lines, which is what curl gets."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from hashlib import sha256
from html import escape

from peerauth.errors import counted, printable
from peerauth.http.filepath import reference

MOST_ENTRIES = 10_000
_LONGEST_ACCEPT = 1024

_STYLE = """
:root { color-scheme: light dark; --line: #d8dce2; --soft: #5b6470; --hover: #f1f4f8; --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --line: #343a42; --soft: #9aa4b0; --hover: #21262c; --link: #7cb8ff; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.25rem; font-weight: 600; overflow-wrap: anywhere; }
a { color: var(--link); text-decoration: none; }
a:hover, a:focus { text-decoration: underline; }
table { width: 100%; border-collapse: collapse; }
th { text-align: left; font-size: .8rem; font-weight: 500; color: var(--soft); }
th, td { padding: .35rem .5rem; border-bottom: 1px solid var(--line); }
td:first-child { width: 100%; overflow-wrap: anywhere; }
.size, .date { padding-left: 2rem; text-align: right; white-space: nowrap; color: var(--soft); }
td { font-variant-numeric: tabular-nums; }
tbody tr:hover { background: var(--hover); }
p { color: var(--soft); font-size: .9rem; }
@media (max-width: 36rem) { .date { display: none; } }
"""
_HASH = base64.b64encode(sha256(_STYLE.encode()).digest()).decode()
# Nothing is loaded, nothing runs, and no page of others shows this one in a frame.
POLICY = f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class Form(Enum):
    """How a listing is written: the media type of each."""

    HTML = "text/html"
    JSON = "application/json"
    PLAIN = "text/plain"


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a directory. `size` in bytes, `modified` in seconds since 1970."""

    name: bytes
    is_directory: bool
    size: int
    modified: float


def chosen_form(accept: bytes) -> Form:
    """What the Accept field names and likes best (RFC 9110 section 12.5.1); plain lines where it names none of the three."""
    likes: dict[Form, float] = {}
    for text in accept[:_LONGEST_ACCEPT].decode("latin-1").lower().split(","):
        media, *parameters = (part.strip() for part in text.split(";"))
        form = next((form for form in Form if form.value == media), None)
        if form is not None:
            weights = [match[1] for part in parameters if (match := re.fullmatch(r"q=([01](?:\.\d{0,3})?)", part))]
            likes[form] = float(weights[0]) if weights else 1.0
    best = max(likes, key=lambda form: likes[form], default=Form.PLAIN)
    return best if likes.get(best) else Form.PLAIN


def write_listing(form: Form, names: Sequence[bytes], entries: Iterable[Entry], *, more: bool) -> bytes:
    """The directory of these names from the top. `more`: it has others, which are not among these entries."""
    ordered = sorted(entries, key=lambda entry: (not entry.is_directory, _in_order(entry.name), entry.name))
    match form:
        case Form.JSON:
            return _json(names, ordered, more=more)
        case Form.HTML:
            return _html(names, ordered, more=more)
        case Form.PLAIN:
            return _plain(ordered, more=more)


def _in_order(name: bytes) -> list[bytes | int]:
    """Without regard to case, and 2 before 10; text and numbers by turns, so that like is compared with like."""
    return [int(part) if at % 2 else part for at, part in enumerate(re.split(rb"(\d+)", name.lower()))]


def _shown(name: bytes) -> str:
    """A name for people: what is no text, and what would not show or turn the line around, escaped."""
    return printable(name.decode("utf-8", "backslashreplace"), 300)


def _moment(entry: Entry) -> datetime | None:
    try:
        return datetime.fromtimestamp(entry.modified, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _plain(entries: Sequence[Entry], *, more: bool) -> bytes:
    lines = []
    for entry in entries:
        text = entry.name.decode("utf-8", "replace")
        as_it_is = text.isprintable() and text.encode() == entry.name
        lines.append(f"{text}{'/' if entry.is_directory else ''}" if as_it_is else _reference(entry)[2:])
    if more:
        lines.append(f"# more than {MOST_ENTRIES}: the rest is not listed")
    return "".join(f"{line}\n" for line in lines).encode()


def _reference(entry: Entry) -> str:
    return reference(entry.name, directory=entry.is_directory)


def _json(names: Sequence[bytes], entries: Sequence[Entry], *, more: bool) -> bytes:
    listed = []
    for entry in entries:
        moment = _moment(entry)
        size = None if entry.is_directory else entry.size
        facts = {
            "name": entry.name.decode("utf-8", "backslashreplace"),
            "type": "directory" if entry.is_directory else "file",
            "href": _reference(entry),
            "size": size,
            "modified": moment and moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        listed.append({key: value for key, value in facts.items() if value is not None})
    path = "".join(f"/{name.decode('utf-8', 'backslashreplace')}" for name in names) + "/"
    return json.dumps({"path": path, "entries": listed, "complete": not more}).encode() + b"\n"


def _html(names: Sequence[bytes], entries: Sequence[Entry], *, more: bool) -> bytes:
    title = escape("/" + "".join(f"{_shown(name)}/" for name in names))
    crumbs = [f'<a href="{"../" * (len(names) - depth) or "./"}">{text}</a>' for depth, text in enumerate(_crumbs(names))]
    directories = sum(entry.is_directory for entry in entries)
    count = f"{_many(directories, 'directory', 'directories')}, {counted(len(entries) - directories, 'file')}"
    parent = '<tr><td><a href="../">../</a><td class="size"><td class="date">\n' if names else ""
    rest = f" There are more than {MOST_ENTRIES} here; the rest is not listed." if more else ""
    return f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{" ".join(crumbs)}</h1>
<table>
<thead><tr><th scope="col">Name<th scope="col" class="size">Size<th scope="col" class="date">Modified (UTC)</thead>
<tbody>
{parent}{"".join(map(_row, entries))}</tbody>
</table>
<p>{count}.{rest}</p>
</body>
</html>
""".encode()


def _many(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"


def _crumbs(names: Sequence[bytes]) -> list[str]:
    return ["/", *(f"<bdi>{escape(_shown(name))}</bdi>/" for name in names)]


def _row(entry: Entry) -> str:
    moment = _moment(entry)
    size = "" if entry.is_directory else f'<data value="{entry.size}">{_size(entry.size)}</data>'
    date = f'<time datetime="{moment:%Y-%m-%dT%H:%M:%SZ}">{moment:%Y-%m-%d %H:%M}</time>' if moment else ""
    name = f"<bdi>{escape(_shown(entry.name))}</bdi>{'/' if entry.is_directory else ''}"
    link = f'<a href="{escape(_reference(entry))}">{name}</a>'
    return f'<tr><td>{link}<td class="size">{size}<td class="date">{date}\n'


def _size(size: int) -> str:
    if size < 1024:
        return f"{size} B"
    amount, unit = float(size), "B"
    for unit in ("KB", "MB", "GB", "TB", "PB", "EB"):  # noqa: B007 - the one that it ends with is used
        amount /= 1024
        if amount < 1023.95:
            break
    return f"{amount:.1f} {unit}"
