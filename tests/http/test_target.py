"""One form for each target, and no form that a program could read as another path."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerauth.http.errors import BadRequest
from peerauth.http.target import check_host, normalise

NAMES = st.text("abcXYZ019-_~", min_size=1, max_size=5)
SPELT = st.sampled_from(["{}", "/{}", "./{}", "%2e/{}", "x/../{}", "x/%2E%2e/{}", "/.//{}", "./x/y/../%2e./{}"])


@pytest.mark.parametrize(
    ("target", "forwarded", "path"),
    [
        (b"/", b"/", "/"),
        (b"/a", b"/a", "/a"),
        (b"/a/", b"/a/", "/a/"),
        (b"/a/.", b"/a/", "/a/"),
        (b"/a/b/..", b"/a/", "/a/"),
        (b"/a/..", b"/", "/"),
        (b"/a/./b", b"/a/b", "/a/b"),
        (b"/a/%2e/b", b"/a/b", "/a/b"),
        (b"/a/x/%2E%2e/b", b"/a/b", "/a/b"),
        (b"/a/x/.%2e/b", b"/a/b", "/a/b"),
        (b"//a///b", b"/a/b", "/a/b"),
        (b"/a//../b", b"/b", "/b"),
        (b"//", b"/", "/"),
        (b"/%61dmin", b"/admin", "/admin"),
        (b"/%7Ebob", b"/~bob", "/~bob"),
        (b"/...a", b"/...a", "/...a"),
        (b"/.git/config", b"/.git/config", "/.git/config"),
        (b"/a%20b", b"/a%20b", "/a b"),
        (b"/a+b%2bc", b"/a+b%2Bc", "/a+b+c"),
        (b"/100%25", b"/100%25", "/100%"),
        (b"/100%25%20off", b"/100%25%20off", "/100% off"),
        (b"/%c3%bc", b"/%C3%BC", "/ü"),
        (b"/a[0]|b", b"/a[0]|b", "/a[0]|b"),
        (b"/a?b/../c//d%2e;x=1&y=[1]{2}", b"/a?b/../c//d%2e;x=1&y=[1]{2}", "/a"),
        (b"/a?", b"/a?", "/a"),
        (b"https://db-1:8443/a/../b?c", b"/b?c", "/b"),
        (b"HTTP://db-1", b"/", "/"),
        (b"http://[::1]:80?x", b"/?x", "/"),
    ],
)
def test_the_one_form_of_a_target(target: bytes, forwarded: bytes, path: str) -> None:
    assert (normalise(target).forwarded, normalise(target).path) == (forwarded, path)


@pytest.mark.parametrize(
    ("target", "forwarded"),
    [
        (b"/projects/group%2fname", b"/projects/group%2Fname"),
        (b"//bucket//key", b"//bucket//key"),
        (b"/a;v=1", b"/a;v=1"),
        (b"/a%5cb", b"/a%5Cb"),
        (b"/%ff", b"/%FF"),
        (b"/a%252e", b"/a%252e"),
        (b"/a%00", b"/a%00"),
        (b"/a//../b", b"/a/b"),
        (b"/a/./b/%2e%2e/c", b"/a/c"),
        (b"/.../x", b"/.../x"),
    ],
)
def test_without_routes_what_is_not_the_same_stays_as_it_is(target: bytes, forwarded: bytes) -> None:
    assert normalise(target, routed=False).forwarded == forwarded


@pytest.mark.parametrize(
    "target",
    [
        b"/a%2fb",
        b"/a/..%2Fadmin",
        b"/a%5cb",
        b"/..%5cadmin",
        b"/a%00",
        b"/a%00.html",
        b"/a%0ab",
        b"/a%0d%0aX-Peer-Name:%20bob",
        b"/a%09",
        b"/a%7f",
        b"/%252e%252e/admin",
        b"/a%252fb",
        b"/a%25%32%66b",  # %25, and then 2f: twice encoded all the same
        b"/a%2525",
        b"/a;x",
        b"/a/..;/admin",
        b"/a%3bx",
        b"/admin.php%3fx.html",
        b"/a%23b",
        b"/%c0%af",
        b"/%c0%ae%c0%ae/admin",
        b"/%e0%80%af",
        b"/%ff",
        b"/%ed%a0%80",  # half a surrogate pair
        b"/a/%EF%BC%8E%EF%BC%8E/b",  # two full-width dots
        b"/a%EF%BC%8Fb",  # a full-width slash
        b"/a%EF%BC%85%32%66",  # a full-width percent sign
        b"/a%E2%80%8Bdmin",  # a space of no width
        b"/a%C2%ADdmin",  # a soft hyphen
        b"/a/.../b",
        b"/a/..%20/b",
        b"/a/%20/b",
        b"/%E2%80%A6/b",  # three dots in one character
    ],
)
def test_with_routes_what_programs_read_in_two_ways_is_refused(target: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        normalise(target)
    assert caught.value.status == 400
    assert normalise(target, routed=False).forwarded.startswith(b"/")


@pytest.mark.parametrize("routed", [True, False])
@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"a",
        b"?x",
        b"../a",
        b"*",
        b"db-1:8443",
        b"/..",
        b"/a/../..",
        b"/../etc/passwd",
        b"/%2e%2e/etc/passwd",
        b"/.%2e/",
        b"/a%",
        b"/a%4",
        b"/a%zz",
        b"/%u002e",
        b"/%-1",
        b"/a b",
        b"/a\tb",
        b"/a\x00",
        b"/a\x0bb",
        b"/a\\b",
        b"/a#b",
        b"/a?b#c",
        b"/a?b c",
        b"/a?b\x7f",
        b"/a?\xff",
        b"/\xc3\xbc",
        b"/a\x80",
        b"/a<b",
        b'/a"b',
        b"/a{b}",
        b"/a^b",
        b"ftp://db-1/a",
        b"file:///etc/passwd",
        b"http:/a",
        b"http:///a",
        b"https://bob@db-1/a",
        b"https://db-1:80:80/a",
        b"https://db-1\\@evil/a",
        b"https://db 1/a",
        b"https://[::1/a",
        b"https:a",
    ],
)
def test_what_is_no_target_is_refused(target: bytes, routed: bool) -> None:
    with pytest.raises(BadRequest):
        normalise(target, routed=routed)


def test_the_asterisk_is_for_options_and_connect_for_nobody() -> None:
    assert normalise(b"*", b"OPTIONS").forwarded == b"*"
    assert normalise(b"http://db-1", b"OPTIONS").forwarded == b"*"
    assert normalise(b"http://db-1/", b"OPTIONS").forwarded == b"/"
    for target in (b"db-1:443", b"/", b"*"):
        with pytest.raises(BadRequest) as caught:
            normalise(target, b"CONNECT")
        assert caught.value.status == 501


def test_the_host_of_an_absolute_target_is_told() -> None:
    assert normalise(b"https://db-1:8443/a").authority == b"db-1:8443"
    assert normalise(b"/a").authority is None


@given(st.lists(st.tuples(NAMES, SPELT), min_size=1, max_size=5), st.data())
def test_every_spelling_of_a_path_has_the_same_form(parts: list[tuple[str, str]], data: st.DataObject) -> None:
    plain = "/" + "/".join(name for name, _ in parts)
    spelt = "/" + "/".join(form.format(name) for name, form in parts)
    letters = [letter for letter in spelt if letter.isalnum()] or ["a"]
    escaped = data.draw(st.sets(st.sampled_from(letters), max_size=3))
    hidden = re.sub(r"%[0-9A-Fa-f]{2}|.", lambda m: f"%{ord(m[0]):02x}" if m[0] in escaped else m[0], spelt)
    assert normalise(hidden.encode()).forwarded == plain.encode()


@given(st.binary(max_size=40).map(lambda tail: b"/" + tail) | st.text(max_size=20).map(lambda t: b"/" + quote(t).encode()))
def test_a_form_has_no_other_form(target: bytes) -> None:
    for routed in (True, False):
        try:
            found = normalise(target, routed=routed)
        except BadRequest:
            continue
        assert normalise(found.forwarded, routed=routed) == found
        path = found.forwarded.partition(b"?")[0]
        assert path.startswith(b"/")
        assert not {b".", b".."} & set(path.split(b"/"))
        if routed:
            assert b"//" not in path
            assert found.path.count("/") == path.count(b"/")
            assert found.path.isprintable()


@pytest.mark.parametrize(
    "host", [b"db-1", b"db-1:8443", b"[::1]", b"[2001:db8::1]:443", b"10.0.0.1", b"a_b.example", b"db-1:"]
)
def test_hosts(host: bytes) -> None:
    assert check_host(host) == host


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"a b",
        b"a\r\nX: y",
        b"a\x00",
        b"a/b",
        b"a?b",
        b"bob@a",
        b"a,b\t",
        b'a"',
        b"a:1:2",
        b"[::1",
        b"a" * 300,
        b"\xc3\xbc",
        b"a%00",
    ],
)
def test_what_is_no_host(host: bytes) -> None:
    with pytest.raises(BadRequest):
        check_host(host)
