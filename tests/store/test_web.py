"""Routes and headers in config.toml: what is meant, and what is a slip."""

from __future__ import annotations

from pathlib import Path

import pytest

from peerauth.errors import BadInput
from peerauth.http.introduction import DEFAULT_HEADERS
from peerauth.http.routes import Route, Routes
from peerauth.store.config import Config, parse_config, reserved_names
from peerauth.store.schema import parse_toml
from peerauth.store.web import read_headers
from peerauth.trust.policy import Policy
from tests.support.outcome import outcome

HOME = Path("/home/of/node")
START = '[node]\nname = "node"\n[groups]\nops = ["bob", "tag:oncall"]\n[[serve]]\nname = "web"\nlisten = ":1"\n'
ANYBODY = Policy("web")


def routes(text: str) -> Routes | None:
    return parse_config((START + text).encode(), HOME).services[0].routes


def rules(*given: str) -> list[Route]:
    found = routes(f"routes = [{', '.join(given)}]\n")
    assert found is not None
    return list(found)


def trouble(text: str) -> BadInput:
    found = outcome(lambda: routes(text))
    assert isinstance(found, BadInput), found
    return found


def test_a_rule_has_a_path_and_perhaps_methods_and_peers() -> None:
    assert rules(
        '{ path = "/" }',
        '{ path = "/metrics", methods = ["GET"], allow = ["prometheus"] }',
        '{ path = "/admin/", allow = ["@ops", "tag:root"] }',
        '{ path = "/admin/", methods = ["DELETE", "MKCOL"], allow = [] }',
    ) == [
        Route("/", frozenset(), ANYBODY),
        Route("/metrics", frozenset(["GET"]), Policy("web", frozenset(["prometheus"]))),
        Route("/admin/", frozenset(), Policy("web", frozenset(["bob"]), frozenset(["oncall", "root"]))),
        Route("/admin/", frozenset(["DELETE", "MKCOL"]), Policy("web", frozenset(), frozenset())),
    ]


def test_rules_can_be_tables_of_their_own() -> None:
    assert routes('[[serve.routes]]\npath = "/a"\n[[serve.routes]]\npath = "/b"\n') == Routes(
        [
            Route("/a", policy=ANYBODY),
            Route("/b", policy=ANYBODY),
        ]
    )


def test_without_routes_nothing_is_decided_and_with_none_nothing_is_allowed() -> None:
    assert routes("") is None
    assert routes("routes = []\n") == Routes([])


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("/a", "/a"),
        ("/a b", "/a b"),
        ("/a%20b", "/a b"),
        ("/ü", "/ü"),
        ("/%C3%BC", "/ü"),
        ("/100%25", "/100%"),
        ("/a.b-c_d~e", "/a.b-c_d~e"),
        ("/a{b}", "/a{b}"),
        ("/.well-known/", "/.well-known/"),
    ],
)
def test_a_path_is_written_as_in_a_url_or_as_people_do(written: str, path: str) -> None:
    assert rules(f'{{ path = "{written}" }}')[0].path == path


@pytest.mark.parametrize(
    ("rule", "said", "hint"),
    [
        ('{ methods = ["GET"] }', "routes[1].path is missing", '"/metrics"'),
        ('{ path = "metrics" }', "path must begin with /", 'path = "/metrics"'),
        ('{ path = "" }', "path must begin with /", ""),
        ('{ path = "/api/*" }', "has a *", "everything below it"),
        ('{ path = "/a//b" }', "not in its plain form", 'write: path = "/a/b"'),
        ('{ path = "/a/../b" }', "not in its plain form", 'write: path = "/b"'),
        ('{ path = "/a/." }', "not in its plain form", 'write: path = "/a/"'),
        ('{ path = "/a%2Fb" }', "would never be asked for", ""),
        ('{ path = "/a?b" }', "would never be asked for", ""),
        ('{ path = "/a;b" }', "would never be asked for", ""),
        ('{ path = "/a#b" }', "would never be asked for", ""),
        ('{ path = "/.." }', "would never be asked for", ""),
        ("{ path = '/a\\b' }", "would never be asked for", ""),
        ('{ path = "/100%" }', "would never be asked for", ""),
        ('{ path = "/a\\u0000" }', "would never be asked for", ""),
        ('{ path = "/a", methods = [] }', "methods has no method", "leave it out"),
        ('{ path = "/a", methods = ["get"] }', "in capitals", 'write "GET"'),
        ('{ path = "/a", methods = ["GET POST"] }', "no method", ""),
        ('{ path = "/a", methods = ["CONNECT"] }', "CONNECT", ""),
        ('{ path = "/a", methods = "GET" }', "must be a list of texts", ""),
        ('{ path = "/a", method = ["GET"] }', "unknown setting 'serve[1].routes[1].method'", "did you mean 'methods'?"),
        ('{ path = "/a", allow = ["@nobody"] }', "[groups] does not define 'nobody'", "known: ops"),
        ('{ path = "/a", allow = ["Bob"] }', "routes[1].allow", "bob"),
        ('{ path = "/a" }, { path = "/A" }', "routes[2].path differs from /a only", "write one of them"),
        ('{ path = "/a" }, { path = "/b" }, { path = "/a/" }', "routes[3].path differs from /a only", "a / at its end"),
        ('"/a"', "routes must be written as [[routes]]", ""),
    ],
)
def test_a_slip_is_named_with_what_is_right(rule: str, said: str, hint: str) -> None:
    error = trouble(f"routes = [{rule}]\n")
    assert said in error.message
    assert hint in (error.hint or "")


def test_routes_are_for_services_that_speak_http() -> None:
    rule = 'routes = [{ path = "/" }]\n'
    assert "speaks HTTP" in trouble(f'target = "127.0.0.1:1"\n{rule}').message
    assert routes(rule) is not None


def test_who_is_named_in_a_route_has_the_name_reserved() -> None:
    config = parse_config((START + 'routes = [{ path = "/", allow = ["carol"] }]\n').encode(), HOME)
    assert isinstance(config, Config)
    assert reserved_names(config) == {"carol", "bob"}


def headers(text: str) -> frozenset[str]:
    return read_headers(parse_toml(text.encode(), HOME / "config.toml"))


def test_headers_are_chosen_by_name() -> None:
    assert headers("") == DEFAULT_HEADERS
    assert headers("headers = []") == frozenset()
    assert headers('headers = ["x-peer-name", "CLIENT-CERT"]') == {"X-Peer-Name", "Client-Cert"}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("X-Peer-Nam", "did you mean X-Peer-Name?"),
        ("X-SSL-Client-Cert", "did you mean "),
        ("Authorization", "known: X-Peer-Name, "),
        ("X-Peer-Name\\r\\nX", "did you mean X-Peer-Name?"),
    ],
)
def test_a_header_that_we_do_not_set_is_an_error(name: str, hint: str) -> None:
    with pytest.raises(BadInput, match="headers is not usable") as caught:
        headers(f'headers = ["{name}"]')
    assert hint in (caught.value.hint or "")
