"""What a peer gets that asks for a file, as curl asks and as it is written."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

from peerauth.http.filepath import Asked
from peerauth.services.finding import Finder, Question
from tests.cli.running import DEADLINE_S
from tests.files.conftest import CONTENT, LONG_AGO, Site, old
from tests.support import needs
from tests.support.engine import Halting, how_it_ends
from tests.support.web import answer, ask

NAMES = (b"open", b"shut", b"absent")


def curl(site: Site, *words: str) -> bytes:
    done = subprocess.run([needs("curl"), *site.curl[1:], *words], capture_output=True, check=False, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def settled(site: Site, path: str) -> str:
    """The tag of a file, once it is a strong one: two seconds after the file was made."""
    give_up = time.monotonic() + DEADLINE_S
    while (tag := site.ask(path, "HEAD")["etag"]).startswith("W/"):
        assert time.monotonic() < give_up
        time.sleep(0.1)
    return tag


def test_curl_gets_a_file_as_it_is(site: Site) -> None:
    assert curl(site, site.url("/big.bin")) == CONTENT
    assert curl(site, site.url("/small.txt"), site.url("/empty"), site.url("/docs/a%20b&c.html")) == b"small\n<p>hi"


def test_curl_goes_on_where_it_stopped(site: Site, tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.write_bytes(CONTENT[:1_000_001])
    curl(site, "-C", "-", "-o", str(half), site.url("/big.bin"))
    assert half.read_bytes() == CONTENT


def test_curl_gets_ranges(site: Site) -> None:
    assert curl(site, "-r", "10-19", site.url("/big.bin")) == CONTENT[10:20]
    assert curl(site, "-r", "-300000", site.url("/big.bin")) == CONTENT[-300_000:]
    assert curl(site, "-r", "1000000-", site.url("/big.bin")) == CONTENT[1_000_000:]


def test_several_ranges_of_a_big_file_come_in_one_answer(site: Site) -> None:
    got = site.ask("/big.bin", range="bytes=0-99999,200000-299999,-1")
    assert got.status == 206
    assert len(got.body) == int(got["content-length"])
    boundary = got["content-type"].partition("boundary=")[2].encode()
    assert got.body.count(boundary) == 4
    assert CONTENT[:100_000] in got.body
    assert CONTENT[200_000:300_000] in got.body
    assert got.body.endswith(CONTENT[-1:] + b"\r\n--" + boundary + b"--\r\n")


def test_a_range_that_is_not_there(site: Site) -> None:
    got = site.ask("/small.txt", range="bytes=6-")
    assert (got.status, got["content-range"]) == (416, "bytes */6")


def test_a_head_says_what_a_get_would(site: Site) -> None:
    head, get = site.ask("/big.bin", "HEAD"), site.ask("/big.bin")
    assert (head.status, head.body) == (200, b"")
    different = {"date", "etag"}  # which may have become strong in between
    assert [f for f in head.fields.items() if f[0] not in different] == [
        f for f in get.fields.items() if f[0] not in different
    ]
    assert head["content-length"] == str(len(CONTENT))


def test_what_is_said_of_a_file(site: Site) -> None:
    got = site.ask("/small.txt")
    assert got["content-type"] == "text/plain; charset=utf-8"
    assert got["x-content-type-options"] == "nosniff"
    assert got["accept-ranges"] == "bytes"
    assert got["cache-control"] == "private, no-cache"
    assert got["last-modified"] == formatdate(LONG_AGO, usegmt=True)
    assert got["date"]
    assert "content-disposition" not in got.fields
    assert "content-encoding" not in site.ask("/small.txt", accept_encoding="gzip, br").fields


def test_who_has_it_already_is_told_so_by_tag_and_by_date(site: Site, tmp_path: Path) -> None:
    tag = settled(site, "/small.txt")
    assert site.ask("/small.txt", if_none_match=tag).status == 304
    assert site.ask("/small.txt", if_none_match='"other"').status == 200
    assert site.ask("/small.txt", if_modified_since=formatdate(LONG_AGO, usegmt=True)).status == 304
    assert site.ask("/small.txt", range="bytes=1-2", if_range=tag).status == 206
    assert site.ask("/small.txt", range="bytes=1-2", if_range='"other"').status == 200
    saved = tmp_path / "tag"
    assert curl(site, "--etag-save", str(saved), site.url("/small.txt")) == b"small\n"
    assert curl(site, "--etag-compare", str(saved), "-w", "%{http_code}", site.url("/small.txt")) == b"304"


def test_a_file_that_was_written_to_has_another_tag(site: Site) -> None:
    """Also with the same size and the same mtime."""
    path = old(site.root / "changing", b"one")
    tag = settled(site, "/changing")
    old(path, b"two")
    assert site.ask("/changing", if_none_match=tag).status == 200


def test_files_are_read_and_nothing_else(site: Site) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"):
        got = site.ask("/small.txt", method)
        assert (got.status, got["allow"]) == (405, "GET, HEAD, OPTIONS")
    got = site.ask("/small.txt", "OPTIONS")
    assert (got.status, got["allow"], got.body) == (204, "GET, HEAD, OPTIONS", b"")
    assert (site.root / "small.txt").read_bytes() == b"small\n"


def test_an_upload_that_nobody_reads_does_not_become_the_next_request(site: Site) -> None:
    with site.caller.open(site.node.port) as tls:
        got = ask(tls, "/small.txt", "PUT", content_length="44", expect="100-continue")
        assert (got.status, got["connection"]) == (405, "close")
        tls.sendall(b"GET /small.txt HTTP/1.1\r\nhost: smuggled\r\n\r\n")
        assert how_it_ends(tls) in {"goodbye", "cut"}


def test_a_directory_leads_to_itself_with_a_slash(site: Site) -> None:
    got = site.ask("/docs?x=1")
    assert (got.status, got["location"]) == (301, "./docs/?x=1")
    assert curl(site, "-L", site.url("/docs")) == b"a b&c.html\n"


def test_no_path_leads_to_another_host(site: Site) -> None:
    for path in ("//example.com", "//example.com/..", "/\\example.com", "/docs//", "//docs"):
        got = site.ask(path)
        assert got.status == 404
        assert "location" not in got.fields


def test_a_file_is_no_directory(site: Site) -> None:
    assert site.ask("/small.txt/").status == 404
    assert site.ask("/small.txt/x").status == 404


def test_an_index_stands_for_its_directory(site: Site) -> None:
    got = site.ask("/site/", accept="application/json")
    assert (got.status, got["content-type"], got.body) == (200, "text/html; charset=utf-8", b"<h1>index</h1>")
    assert "content-security-policy" not in got.fields  # the page is the owner's


def test_a_directory_is_listed_for_a_browser_a_program_and_a_terminal(site: Site) -> None:
    page = site.ask("/docs/", accept="text/html,*/*;q=0.8")
    assert page["content-type"] == "text/html; charset=utf-8"
    assert b'href="./a%20b%26c.html"' in page.body
    assert "default-src 'none'" in page["content-security-policy"]
    told = site.ask("/docs/", accept="application/json")
    (entry,) = json.loads(told.body)["entries"]
    assert entry == {
        "name": "a b&c.html",
        "type": "file",
        "href": "./a%20b%26c.html",
        "size": 5,
        "modified": "1994-11-06T08:49:37Z",
    }
    plain = site.ask("/docs/")
    assert (plain["content-type"], plain.body) == ("text/plain; charset=utf-8", b"a b&c.html\n")
    assert {got["vary"] for got in (page, told, plain)} == {"accept"}
    assert site.ask("/docs/", "HEAD")["content-length"] == str(len(plain.body))


def test_a_name_that_is_no_text_is_listed_and_found(site: Site) -> None:
    name = b"\xff\xfe \\ %41"
    with open(os.fsencode(site.root) + b"/docs/" + name, "wb") as file:  # noqa: PTH123 - no Path has such a name
        file.write(b"odd")
    try:
        listed = json.loads(site.ask("/docs/", accept="application/json").body)["entries"]
        (href,) = [entry["href"] for entry in listed if entry["size"] == 3]
        assert site.ask(f"/docs/{href[2:]}").body == b"odd"
    finally:
        os.unlink(os.fsencode(site.root) + b"/docs/" + name)  # noqa: PTH108 - as above


def test_of_a_large_directory_so_many_are_listed(site: Site) -> None:
    many = site.root / "many"
    many.mkdir()
    for number in range(10_001):
        os.close(os.open(many / f"{number}", os.O_CREAT | os.O_WRONLY))
    told = json.loads(site.ask("/many/", accept="application/json").body)
    assert (len(told["entries"]), told["complete"]) == (10_000, False)
    (many / "7").unlink()
    told = json.loads(site.ask("/many/", accept="application/json").body)
    assert (len(told["entries"]), told["complete"]) == (10_000, True)


def test_requests_one_behind_the_other_are_answered_in_their_order(site: Site) -> None:
    with site.caller.open(site.node.port) as tls:
        head = b" HTTP/1.1\r\nhost: node\r\n\r\n"
        tls.sendall(b"GET /big.bin" + head + b"HEAD /big.bin" + head + b"GET /small.txt" + head)
        assert answer(tls).body == CONTENT
        assert answer(tls, "HEAD").status == 200
        assert answer(tls).body == b"small\n"


def test_whoever_says_goodbye_after_the_question_gets_the_answer_still(site: Site) -> None:
    """TLS ends each direction by itself (RFC 8446 section 6.1)."""
    with Halting(site.caller, site.node.port) as client:
        client.sock.sendall(b"".join(client.answer()))
        client.say(b"GET /big.bin HTTP/1.1\r\nhost: node\r\n\r\n")
        client.say_goodbye()
        heard = b""
        while not heard.endswith(CONTENT[-1000:]):
            heard += client.read()
        assert heard.partition(b"\r\n\r\n")[2] == CONTENT


def test_a_client_of_1_0_gets_a_file_and_an_end(site: Site) -> None:
    with site.caller.open(site.node.port) as tls:
        tls.sendall(b"GET /big.bin HTTP/1.0\r\n\r\n")
        got = answer(tls)
        assert (got.body, got["connection"]) == (CONTENT, "close")
        assert how_it_ends(tls) == "goodbye"


def test_a_head_without_an_end_is_not_kept(site: Site) -> None:
    for endless in (
        b"GET /" + b"a" * 70_000,
        b"GET / HTTP/1.1\r\nx: " + b"a" * 70_000,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 12_000,
    ):
        with site.caller.open(site.node.port) as tls:
            tls.sendall(endless)
            assert answer(tls).status == 431


def test_what_is_no_http_is_refused_without_a_line_in_the_log(site: Site) -> None:
    with site.caller.open(site.node.port) as tls:
        tls.sendall(b"\x00\x01\x02 nonsense\r\n\r\n")
        assert answer(tls).status == 400
    assert "Invalid HTTP" not in site.node.errors


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's rights, where there are any."""
    own = os.geteuid()
    if own == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(own)


def test_what_the_node_may_not_read_itself_is_said() -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        root.chmod(0o755)
        for name, mode in (("open", 0o644), ("shut", 0o000)):
            old(root / name, b"x").chmod(mode)
        with as_nobody():
            found = {
                name: Finder(root, None).find(Question("GET", Asked((name,), directory=False), {}, b"")) for name in NAMES
            }
        assert {name: reply.status for name, reply in found.items()} == {b"open": 200, b"shut": 403, b"absent": 404}
