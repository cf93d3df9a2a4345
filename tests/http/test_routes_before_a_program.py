"""Routes and headers of a proxy: over real TLS, before a program that keeps every byte."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest

from peerauth.http.introduction import HEADERS
from tests.http.doors import Door, door, say
from tests.http.malformed import SMUGGLED
from tests.support.engine import identity
from tests.support.workers import TRIES

ROUTES = """\
headers = ["X-Peer-Name"]
routes = [
    { path = "/" },
    { path = "/metrics", methods = ["GET"], allow = ["alice"] },
    { path = "/admin/", allow = ["bob"] },
    { path = "/admin/status" },
    { path = "/both" },
    { path = "/both", methods = ["DELETE"], allow = ["bob"] },
]
"""


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with door(tmp_path_factory.mktemp("routed"), ROUTES) as one:
        yield one


def asked(line: bytes, fields: bytes = b"", body: bytes = b"") -> bytes:
    return line + b" HTTP/1.1\r\nHost: node\r\nConnection: close\r\n" + fields + b"\r\n" + body


def status(answer: bytes) -> int:
    found = re.match(rb"HTTP/1\.1 (\d\d\d) ", answer)
    assert found is not None, answer
    assert answer.count(b"HTTP/1.1 ") == 1, answer
    return int(found[1])


@pytest.mark.parametrize(
    ("line", "heard"),
    [
        (b"GET /", b"GET /"),
        (b"GET /a//b/./c/../d?e=//../%2f", b"GET /a/b/d?e=//../%2f"),
        (b"GET //metrics", b"GET /metrics"),
        (b"HEAD /metrics", b"HEAD /metrics"),
        (b"GET /admin/../%6detrics", b"GET /metrics"),
        (b"GET https://node/admin/%2e%2e/metrics", b"GET /metrics"),
        (b"GET /admin//status", b"GET /admin/status"),
        (b"GET /administrator", b"GET /administrator"),
        (b"OPTIONS *", b"OPTIONS *"),
        (b"PUT /both", b"PUT /both"),
    ],
)
def test_what_a_route_allows_is_passed_on_as_it_was_judged(routed: Door, line: bytes, heard: bytes) -> None:
    assert status(routed.say(asked(line))) == 200
    assert routed.program.requests == [heard + b" HTTP/1.1\r\nHost: node\r\nVia: 1.1 peerauth\r\nX-Peer-Name: alice\r\n\r\n"]


SPELLINGS = r"""
/admin /admin/ /admin/x //admin/x /./admin/x /x/../admin/x /%61dmin/x /admin%2fx /admin%2Fx /admin%5cx /admin\x /admin;/x
/admin;x=y/z /x;/../admin/x /x/..;/admin/x /%2e/admin/x /%2e%2e/admin/x /x/%2e%2e/admin/x /x/.%2e/admin/x /x%2f..%2fadmin/x
/x%5c..%5cadmin/x /%252e%252e/admin/x /x/%252e%252e/admin/x /admin%252fx /admin%00/x /admin/x%00 /admin%20/x /admin./x
/admin. /admin..;/x /admin%09/x /admin%0a/x /admin%0d%0a/x /ADMIN/x /Admin /aDMIN/ /admin.json /admin.html /admin.php/x
/admin%3f
/admin%23 /admin%3b/x /adm%69n/x /%2f/admin/x /%2fadmin/x /.%00/admin/x /..%00/admin/x /..%c0%af/admin/x /x%c0%afadmin
/%c0%aeadmin /%c0%ae%c0%ae/admin /x/%e0%80%ae./admin/x /%ef%bd%81dmin/x /admin%ef%bc%8fx /admin%e2%80%8b/x /admin%c2%ad/x
/admin/status/ /admin/status/x /admin/STATUS /admin/status.json /admin/status;x /admin/status%2f /admin/status%20
/admin/./x /admin/status/../x /admin/x/../status/../y https://node/admin/x HTTP://NODE//admin/x http:///admin/x
/x/../../admin/x /x/.../admin /admin/... /%u002fadmin/x /x\..\admin /%5cadmin /\admin //node/admin/x
"""
ANOTHER = {"//node/admin/x"}  # it is /node/admin/x, which is for everybody


@pytest.mark.parametrize("target", SPELLINGS.split())
def test_no_way_around_a_rule(routed: Door, target: str) -> None:
    """Alice may ask for everything but what is below /admin/, and of that for its status."""
    answer = routed.say(asked(b"GET " + target.encode()))
    if target in ANOTHER:
        assert (status(answer), len(routed.program.requests)) == (200, 1)
    else:
        assert status(answer) in {400, 403}
        assert routed.reached() == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"GET /admin/x", b"the route /admin/ is not for alice"),
        (b"POST /metrics", b"the route /metrics is for GET, not for POST"),
        (b"GET /Metrics", b"the route /metrics is not for /Metrics, which some would take for it"),
        (b"DELETE /both", b"the route /both (DELETE) is not for alice"),
    ],
)
def test_the_refusal_names_the_rule(routed: Door, line: bytes, words: bytes) -> None:
    answer = routed.say(asked(line))
    assert status(answer) == 403
    assert words in answer
    assert routed.reached() == []


def test_a_method_in_small_letters_is_none_that_a_rule_allows(routed: Door) -> None:
    assert status(routed.say(asked(b"delete /both"))) in {403, 501}  # 501: nobody knows such a method
    assert routed.reached() == []


def test_the_log_says_who_was_denied_what(routed: Door) -> None:
    routed.say(asked(b"GET /admin/of/the/log"))
    event = routed.node.hears("denied", code="route", peer="alice", service="web")
    assert "/admin/" in event["message"]
    assert event["fingerprint"] == str(identity("alice").certificate.fingerprint)
    assert event["address"].startswith("127.0.0.1:")


@pytest.mark.parametrize("name", b"X-HTTP-Method-Override x_http_method_override X-HTTP-Method X-Method-Override".split())
def test_no_field_makes_another_method_of_a_request(routed: Door, name: bytes) -> None:
    assert status(routed.say(asked(b"POST /both", name + b": DELETE\r\nContent-Length: 0\r\n"))) == 400
    assert routed.reached() == []


@pytest.mark.parametrize("name", b"X-Original-URL X_Original_URL X-Rewrite-URL X-Original-Method X-Forwarded-Uri".split())
def test_no_field_makes_another_path_of_a_request(routed: Door, name: bytes) -> None:
    assert status(routed.say(asked(b"GET /", name + b": /admin/x\r\n"))) == 200
    assert b"admin" not in routed.program.heard


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_the_body_of_a_denied_request_is_no_request(routed: Door, framing: str) -> None:
    hidden = SMUGGLED.replace(b"/smuggled", b"/admin/x")
    body = hidden if framing == "length" else b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden)
    field = b"Content-Length: %d" % len(hidden) if framing == "length" else b"Transfer-Encoding: chunked"
    denied = b"POST /admin/x HTTP/1.1\r\nHost: node\r\n" + field + b"\r\n\r\n" + body
    answer = routed.say(denied + asked(b"GET /after"))
    assert re.findall(rb"HTTP/1\.1 (\d\d\d) ", answer) in ([b"403"], [b"403", b"200"])
    assert all(request.startswith(b"GET /after ") for request in routed.program.requests)


def test_after_a_denied_request_the_connection_serves_others(routed: Door) -> None:
    answer = routed.say(b"GET /admin/x HTTP/1.1\r\nHost: node\r\n\r\n" + asked(b"GET /"))
    assert re.findall(rb"HTTP/1\.1 (\d\d\d) ", answer) == [b"403", b"200"]


def test_an_upgrade_needs_its_route(routed: Door) -> None:
    fields = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: YQ==\r\n"
    head = b"GET /admin/ws HTTP/1.1\r\nHost: node\r\n" + fields + b"\r\n"
    answer = routed.say(head + asked(b"GET /"))
    assert re.findall(rb"HTTP/1\.1 (\d\d\d) ", answer) == [b"403", b"200"]


def test_a_tag_that_is_given_opens_a_route_on_an_open_connection(tmp_path: Path) -> None:
    with door(tmp_path, 'routes = [{ path = "/", allow = ["tag:ops"] }]\n') as one, one.open() as tls:
        line = b"GET / HTTP/1.1\r\nHost: node\r\n\r\n"
        tls.sendall(line)
        assert tls.recv(4096).startswith(b"HTTP/1.1 403 ")
        (tmp_path / "home/peers/alice.toml").write_text('tags = ["ops", "on call"]\n')
        one.node.hears("peer-changed", peer="alice")
        assert say(tls, [asked(b"GET /")]).startswith(b"HTTP/1.1 200 ")
        assert b"X-Peer-Tags: ops,on%20call\r\n" in one.program.heard


def test_every_header_says_what_it_should(tmp_path: Path) -> None:
    names = ", ".join(f'"{name.lower()}"' for name in HEADERS)
    with door(tmp_path, f"headers = [{names}]\n") as one:
        one.say(asked(b"GET /"))
        (request,) = one.program.requests
    fields = dict(line.split(": ", 1) for line in request.decode().split("\r\n")[2:-2])
    alice, node = identity("alice").certificate, identity("node").certificate
    assert set(fields) == (set(HEADERS) | {"Via"}) - {"X-Peer-Tags"}
    assert base64.b64decode(fields["Client-Cert"].strip(":")) == alice.der
    assert fields["Forwarded"] == "for=127.0.0.1;host=node;proto=https"
    envoys = dict(part.split("=", 1) for part in fields["X-Forwarded-Client-Cert"].split(";"))
    assert envoys["By"] == f"dns:{node.dns_names[0]}"
    assert envoys["Hash"] == alice.fingerprint.digest.hex()
    assert unquote(envoys["Cert"].strip('"')) == alice.pem
    assert re.search(r'Subject="[^"]*CN=alice[^"]*"', fields["X-Forwarded-Client-Cert"])


def test_where_nothing_is_to_be_said_claims_are_dropped_all_the_same(tmp_path: Path) -> None:
    with door(tmp_path, "headers = []\n") as one:
        one.say(asked(b"GET /", b"X-Peer-Name: bob\r\nX_Forwarded_For: 1.2.3.4\r\nX-A: b\r\n"))
        assert one.program.requests == [b"GET / HTTP/1.1\r\nHost: node\r\nX-A: b\r\nVia: 1.1 peerauth\r\n\r\n"]


def test_every_worker_knows_the_routes_and_the_caller(tmp_path: Path) -> None:
    with door(tmp_path, ROUTES, workers=2) as one:
        seen: set[int] = set()
        for _ in range(TRIES):
            if len(seen) == 2:
                break
            with one.open() as tls:
                answer = say(tls, [b"GET /admin/x HTTP/1.1\r\nHost: node\r\n\r\n" + asked(b"GET /")])
                seen.add(one.node.worker_of(tls))
            assert re.findall(rb"HTTP/1\.1 (\d\d\d) ", answer) == [b"403", b"200"]
        assert seen == {1, 2}
        assert {request.count(b"X-Peer-Name: alice") for request in one.program.requests} == {1}
        assert b"admin" not in one.program.heard
