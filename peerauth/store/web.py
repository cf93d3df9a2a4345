"""Settings that services have in common which speak HTTP: who may ask for what, and what a backend is told of the caller."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from urllib.parse import quote, unquote

from peerauth.errors import BadInput, printable
from peerauth.http.errors import BadRequest
from peerauth.http.introduction import DEFAULT_HEADERS, HEADERS
from peerauth.http.routes import Route, Routes
from peerauth.http.target import normalise
from peerauth.store.schema import Table
from peerauth.trust.policy import Policy

_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Z-]+")  # a token (RFC 9110 section 9.1), in capitals
_IN_PATHS = "%!$&'()*+,/:=@[]|~"  # what a path in config.toml may have as it is; all else is escaped for it


def read_routes(table: Table, allowed: Callable[[list[str] | None], Policy], *, speaks_http: bool) -> Routes:
    """The `routes` of a service. Raises BadInput. `allowed` makes a policy of an `allow`."""
    given = table.tables("routes")
    if not speaks_http:
        raise table.error(
            "routes", "are for a service that speaks HTTP, which this is not", 'to share HTTP: http = "http://HOST:PORT"'
        )
    read = [rule.attempt(lambda rule=rule: _route(rule, allowed)) for rule in given]  # type: ignore[misc]
    routes = [(rule, route) for rule, route in zip(given, read, strict=True) if route is not None]
    try:
        return Routes([route for _, route in routes])
    except ValueError as error:
        path, other = error.args
        rule = next(rule for rule, route in routes if route.path == path)
        text = f"differs from {other} only in what programs do not agree about: case, or what it ends with"
        raise rule.error("path", text, "write one of them; with a / at its end it has everything below it, too") from error


def _route(table: Table, allowed: Callable[[list[str] | None], Policy]) -> Route:
    written = table.text("path")
    if written is None:
        raise table.error("path", "is missing", 'for instance: path = "/metrics", or "/api/" for everything below it')
    path = _path(table, written)
    methods = table.texts("methods")
    if methods == []:
        raise table.error("methods", "has no method in it", "leave it out for all of them; allow = [] is for nobody")
    for method in methods or ():
        _check_method(table, method)
    with table.about("allow"):
        policy = allowed(table.texts("allow"))
    table.done()
    return Route(path, frozenset(methods or ()), policy)


def _path(table: Table, written: str) -> str:
    """The path that is meant: as it stands in a URL, or as people write it."""
    if not written.startswith("/"):
        raise table.error("path", "must begin with /", f'for instance: path = "/{printable(written, 60)}"')
    if "*" in written:
        raise table.error("path", "has a *, which means nothing here", "a path with a / at its end has everything below it")
    try:
        target = normalise(quote(written, safe=_IN_PATHS).encode())
    except BadRequest as error:
        raise table.error("path", f"would never be asked for: {error.reason}") from error
    if target.path != unquote(written):
        raise table.error("path", "is not in its plain form", f'write: path = "{printable(target.path, 80)}"')
    return target.path


def _check_method(table: Table, method: str) -> None:
    if method == "CONNECT":
        raise table.error("methods", "has CONNECT in it, which is not spoken here")
    if _METHOD.fullmatch(method) is None:
        hint = (
            f'write "{method.upper()}"' if _METHOD.fullmatch(method.upper()) else 'for instance: methods = ["GET", "POST"]'
        )
        raise table.error("methods", f"has '{printable(method, 40)}' in it, which is no method: they are in capitals", hint)


def read_headers(table: Table) -> frozenset[str]:
    """Which fields the `headers` of a service choose, as `HEADERS` spells them. Raises BadInput("bad-setting")."""
    given = table.texts("headers")
    if given is None:
        return DEFAULT_HEADERS
    with table.about("headers"):
        return choose_headers(given)


def choose_headers(names: Iterable[str]) -> frozenset[str]:
    """These fields, in any case. Raises BadInput("bad-header") for one that is not set here, with the nearest that is."""
    known = {name.lower(): name for name in HEADERS}
    chosen = set()
    for name in names:
        if name.lower() not in known:
            near = difflib.get_close_matches(name.lower(), known, 1, 0.5)
            hint = f"did you mean {known[near[0]]}?" if near else f"known: {', '.join(HEADERS)}"
            raise BadInput("bad-header", f"'{printable(name, 60)}' is no header that says who is calling", hint)
        chosen.add(known[name.lower()])
    return frozenset(chosen)
