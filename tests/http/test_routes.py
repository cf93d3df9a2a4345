"""Who may ask for what: the longest path decides, and what no rule allows is refused."""

from __future__ import annotations

import time
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.http.errors import BadRequest
from peerauth.http.routes import Denied, Route, Routes
from peerauth.http.target import normalise
from peerauth.trust.peers import Peer, PeerSettings
from peerauth.trust.policy import EVERY_PEER, Policy
from tests.support.engine import identity

PIN = identity("alice").certificate.fingerprint
ALICE = Peer("alice", (PIN,))
BOB = Peer("bob", (PIN,), PeerSettings(tags=("ops",)))
ONLY_ALICE = Policy("web", frozenset({"alice"}))
OPS = Policy("web", frozenset(), frozenset({"ops"}))


def route(path: str, *methods: str, policy: Policy = EVERY_PEER) -> Route:
    return Route(path, frozenset(methods), policy)


def may(routes: Routes, request: str, peer: Peer = ALICE) -> bool:
    method, _, target = request.partition(" ")
    return routes.decide(method.encode(), normalise(target.encode(), method.encode()).path, peer) is None


SITE = Routes(
    [
        route("/"),
        route("/metrics", "GET", policy=ONLY_ALICE),
        route("/admin/", policy=OPS),
        route("/admin/status"),
        route("/db/", "GET"),
        route("/db/", "POST", "DELETE", policy=OPS),
        route("/both"),
        route("/both", "DELETE", policy=OPS),
    ]
)


@pytest.mark.parametrize(
    ("request_", "alice", "bob"),
    [
        ("GET /", True, True),
        ("GET /anything/below", True, True),
        ("OPTIONS *", True, True),
        ("GET /metrics", True, False),
        ("HEAD /metrics", True, False),
        ("POST /metrics", False, False),
        ("GET /admin", False, True),
        ("GET /admin/", False, True),
        ("GET /admin/users", False, True),
        ("GET /admin/status", True, True),
        ("GET /administrator", True, True),
        ("GET /db/x", True, True),
        ("POST /db/x", False, True),
        ("PUT /db/x", False, False),
        ("GET /both", True, True),
        ("PATCH /both", True, True),
        ("DELETE /both", False, True),
    ],
)
def test_the_longest_path_decides_and_then_methods_and_peers(request_: str, alice: bool, bob: bool) -> None:
    assert (may(SITE, request_, ALICE), may(SITE, request_, BOB)) == (alice, bob)


@pytest.mark.parametrize(
    "request_",
    [
        "GET /ADMIN/",
        "GET /Admin",
        "GET /admin.",
        "GET /admin%20/users",
        "GET /admin./users",
        "GET /admin.json",
        "GET /admin.tar.gz",
        "GET /admin.php/users",
        "GET /admin%20.php/users",
        "GET /admin..php/users",
        "GET /%61DMIN/users",
        "GET /x/../ADMIN/users",
        "GET //ADMIN//users",
        "GET /%C4%B0/../Admin/",
        "GET /adm%C4%B1n/../ADMIN",
        "GET /%EF%BD%81dmin/users",  # a full-width a
        "GET /adm%C4%B1n/users",  # an i without a dot, whose capital is I
        "GET /adm%C4%B0n/users",  # a capital i with a dot
        "GET /%C3%A1dmin/users",  # an a with an accent
        "GET /a%CC%81dmin/users",  # the same, put together
        "GET /admin/Status",
        "GET /admin/status/",
        "GET /admin/status/x",
        "GET /admin/status.json",
        "GET /admin/%C5%BFtatus",  # a long s
        "GET /metrics/",
        "GET /metrics/x",
        "GET /METRICS",
        "GET /metrics.json",
        "get /admin/",
        "delete /both",
        "Delete /both",
    ],
)
def test_what_some_would_take_for_another_path_is_refused(request_: str) -> None:
    assert not may(SITE, request_, ALICE)


@pytest.mark.parametrize("request_", ["GET /", "GET /b", "GET /a/b", "OPTIONS *", "GET /A", "GET /ab", "GET /a/"])
def test_what_no_rule_allows_is_refused(request_: str) -> None:
    assert not may(Routes([route("/a")]), request_)
    assert may(Routes([route("/a")]), "GET /a")
    assert not may(Routes([]), request_)


def test_a_longer_rule_opens_what_a_shorter_one_guards() -> None:
    assert not may(Routes([route("/"), route("/a")]), "GET /a.json")
    assert may(Routes([route("/"), route("/a"), route("/a.json")]), "GET /a.json")
    assert not may(Routes([route("/"), route("/a"), route("/a.json")]), "GET /a.JSON")


@pytest.mark.parametrize(
    ("one", "other"), [("/a", "/a/"), ("/a", "/A"), ("/a/", "/a./"), ("/strasse", "/straße"), ("/a b", "/A B")]
)
def test_two_rules_that_programs_do_not_tell_apart_are_an_error(one: str, other: str) -> None:
    with pytest.raises(ValueError, match=one):
        Routes([route(one), route(other)])
    Routes([route(one), route(one)])


@pytest.mark.parametrize(
    ("request_", "path", "words"),
    [
        ("GET /nowhere", None, "no route of this service leads to /nowhere"),
        ("POST /metrics", "/metrics", "the route /metrics is for GET, not for POST"),
        ("GET /metrics", "/metrics", "the route /metrics (GET) is not for bob"),
        ("GET /metrics/x", "/metrics", "the route /metrics is not for /metrics/x, which some would take for it"),
        ("GET /ü", None, "no route of this service leads to /ü"),
    ],
)
def test_the_refusal_names_the_rule(request_: str, path: str | None, words: str) -> None:
    routes = Routes([route("/metrics", "GET", policy=ONLY_ALICE)])
    method, _, target = request_.partition(" ")
    assert routes.decide(method.encode(), target, BOB) == Denied(words, path)


def test_what_a_caller_sent_is_said_again_in_few_words() -> None:
    denied = SITE.decide(b"X" * 5000, "/metrics", ALICE)
    assert denied is not None
    assert len(denied.rule) < 200
    denied = Routes([]).decide(b"GET", "/" + "\x1b" * 5000, ALICE)
    assert denied is not None
    assert denied.rule.isprintable()
    assert len(denied.rule) < 700


def test_a_long_path_costs_no_more_than_the_rules_are_long() -> None:
    """32 KB of dots and slashes: if each piece were looked up, it would be a billion steps."""
    path = "/" + "a./" * 10_000
    began = time.process_time()
    for _ in range(20):
        assert SITE.decide(b"GET", path, ALICE) is None
    assert time.process_time() - began < 2


def lenient(path: str) -> str:
    """How a careless backend might read a path: decoded again, on Windows, in Java, without case, without a suffix."""
    kept: list[str] = []
    for segment in unquote(path).replace("\\", "/").lower().split("/"):
        name = segment.partition(";")[0].partition("\0")[0].strip().rstrip(". ") if segment not in {".", ".."} else segment
        if segment == ".." or segment.strip() == ".." or segment.partition(";")[0] == "..":
            kept = kept[:-1]
        elif name:
            kept.append(name)
    return "/" + "/".join(kept)


PIECES = [
    "/",
    "//",
    ".",
    "..",
    "%2e",
    "%2f",
    "%5c",
    "%252e",
    "%00",
    ";",
    "%20",
    "admin",
    "ADMIN",
    "%41dmin",
    "x",
    ".json",
    "?",
    "%3b",
    "\\",
]


@given(st.lists(st.sampled_from(PIECES), max_size=10), st.sampled_from(["GET", "get", "DELETE"]))
def test_no_spelling_leads_a_careless_backend_to_what_is_guarded(pieces: list[str], method: str) -> None:
    routes = Routes([route("/"), route("/admin/", policy=OPS)])
    try:
        target = normalise(("/" + "".join(pieces)).encode(), method.encode())
    except BadRequest:
        return
    if routes.decide(method.encode(), target.path, ALICE) is None:
        read = lenient(target.forwarded.partition(b"?")[0].decode())
        assert read.partition(".json")[0] != "/admin"
        assert not read.startswith("/admin/")
