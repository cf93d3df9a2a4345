"""docs/http.md says of fields and paths what the program does with them, and its nginx believes the door."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from peerauth.http.errors import BadRequest
from peerauth.http.introduction import DEFAULT_HEADERS, HEADERS, is_claim, overrides_method
from peerauth.http.routes import Route, Routes
from peerauth.http.target import normalise
from peerauth.trust.peers import Peer
from tests.docs.pages import CHECKOUT, blocks, rows, sections, spans
from tests.http.doors import proxy, say
from tests.http.nginx import nginx
from tests.support.engine import Caller, identity

PAGE = (CHECKOUT / "docs/http.md").read_text("utf-8")
CALLER, ROUTES = sections(PAGE)["Who is calling"], sections(PAGE)["Routes"]
DROPPED = sections(CALLER, 3)["What a client says about itself is dropped"]
ALICE = Peer("alice", (identity("alice").certificate.fingerprint,))


def test_every_field_that_can_be_set_is_listed_with_its_default() -> None:
    listed = {spans(cells[0])[0]: cells[2] == "set" for cells in rows(CALLER)}
    assert listed == {name: name in DEFAULT_HEADERS for name in HEADERS}


def test_what_is_said_to_be_dropped_is_and_what_is_said_to_pass_does() -> None:
    lists, _, after = DROPPED.partition("\n\n`Authorization`")
    names = [name for name in spans("".join(re.findall(r"^[- ] .*\n", lists, re.MULTILINE))) if name[0].isupper()]
    assert len(names) > 25
    for name in names:
        assert is_claim(name.replace("*", "anything").encode()), name
        assert is_claim(name.replace("*", "Anything").replace("-", "_").lower().encode()), name
    for name in ["Authorization", *spans(after)[:1]]:
        assert not is_claim(name.encode())


def outcome(asked: str) -> int | str:
    """The path that goes on, or the status of the refusal, where rules are for everything, /admin and /metrics."""
    routes = Routes([Route("/"), Route("/admin"), Route("/metrics")])
    try:
        target = normalise(asked.encode())
    except BadRequest as error:
        return error.status
    return 403 if routes.decide(b"GET", target.path, ALICE) else target.path


@pytest.mark.parametrize("cells", rows(ROUTES), ids=lambda cells: cells[0])
def test_what_is_said_of_a_path_is_so(cells: list[str]) -> None:
    said = cells[1]
    for shown in spans(cells[0]):
        if shown in {".", "/", "//"}:
            continue
        found = outcome(shown if shown.startswith("/") else f"/x{shown}y")
        assert found == (int(said[:3]) if said[:3].isdigit() else "/admin"), shown


def test_the_method_that_a_field_would_name_is_refused() -> None:
    (name,) = [name for name in spans(ROUTES) if name.startswith("X-HTTP-")]
    assert overrides_method(name.encode())


def test_nginx_as_the_page_has_it_knows_who_is_calling(tmp_path: Path) -> None:
    (block,) = blocks(PAGE, "nginx")
    with nginx(tmp_path / "nginx", block.text, "listen 127.0.0.1:8000;") as where, proxy(tmp_path, where) as node:

        def ask(name: str, method: str) -> str:
            request = f"{method} / HTTP/1.1\r\nHost: node\r\nX-Peer-Name: alice\r\nConnection: close\r\n\r\n"
            with Caller(identity(name)).open(node.port, source="127.0.0.5") as tls:
                return say(tls, [request.encode()]).decode()

        for name in ("alice", "bob"):
            assert ask(name, "GET").endswith(f"Hello, {name} from 127.0.0.5!\n")
        assert ask("alice", "POST").endswith("Hello, alice from 127.0.0.5!\n")
        assert ask("bob", "POST").startswith("HTTP/1.1 403 ")
