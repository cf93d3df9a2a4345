"""Unix sockets that are listened at: whose their files are, from when on, and what becomes of the files."""

from __future__ import annotations

import grp
import os
import pwd
import signal
import socket
import ssl
import stat
from pathlib import Path

import pytest

from peerauth.address import Address
from peerauth.errors import PeerAuthError
from peerauth.net.sockets import close_listener, open_for_workers, open_listeners
from peerauth.store import files
from peerauth.store.socketfile import SocketFile
from tests.support.engine import Caller
from tests.support.targets import echo, target
from tests.support.workers import Home, ping, serving

SERVE = """
[[serve]]
listen = "unix:{path}"
target = "{where}"
mode = "0660"
owner = ":{group}"
"""


def mode(path: Path) -> int:
    """The permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("wanted", [0o600, 0o660, 0o666, 0o777])
@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_mode_is_what_is_asked_for_whatever_the_umask_and_never_wider(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: int, umask: int
) -> None:
    path, seen = tmp_path / "db.sock", []
    hand_over = files.hand_over

    def watched(path: Path, *whose: int) -> None:
        with socket.socket(socket.AF_UNIX) as early:
            seen.append((mode(path), early.connect_ex(str(path)) != 0))
        hand_over(path, *whose)

    monkeypatch.setattr(files, "hand_over", watched)
    before = os.umask(umask)
    try:
        (sock,) = open_listeners(Address(path=str(path)), SocketFile(wanted))
    finally:
        os.umask(before)
    assert mode(path) == wanted
    assert seen == [(0, True)], "before it was handed over it was nobody's, and nobody was let in"
    close_listener(sock)
    assert list(tmp_path.iterdir()) == []


def test_without_settings_the_umask_says_who_may_connect(tmp_path: Path) -> None:
    """The twin of the above."""
    path = tmp_path / "db.sock"
    before = os.umask(0o027)
    try:
        (sock,) = open_listeners(Address(path=str(path)))
    finally:
        os.umask(before)
    assert mode(path) == 0o750
    close_listener(sock)


def test_owner_is_a_name_or_a_number(tmp_path: Path) -> None:
    own = os.getuid(), os.getgid()
    names = pwd.getpwuid(own[0]).pw_name, grp.getgrgid(own[1]).gr_name
    for number, (user, group) in enumerate([names, map(str, own), (None, names[1]), (names[0], None)]):
        path = tmp_path / f"{number}.sock"
        (sock,) = open_listeners(Address(path=str(path)), SocketFile(0o660, user, group))
        assert (path.stat().st_uid, path.stat().st_gid, mode(path)) == (*own, 0o660)
        close_listener(sock)


def test_another_owner_is_given_by_root_alone(tmp_path: Path) -> None:
    path, root = tmp_path / "db.sock", os.geteuid() == 0
    file = SocketFile(0o600, "65534" if root else "0", "65534" if root else "0")
    if root:
        (sock,) = open_listeners(Address(path=str(path)), file)
        assert (path.stat().st_uid, path.stat().st_gid, mode(path)) == (65534, 65534, 0o600)
        close_listener(sock)
    else:
        with pytest.raises(PeerAuthError, match="Operation not permitted") as caught:
            open_listeners(Address(path=str(path)), file)
        assert caught.value.code == "cannot-listen"
    assert list(tmp_path.iterdir()) == [], "nothing is left that nobody listens at"


@pytest.mark.parametrize(("user", "group", "kind"), [("no-such-user", None, "user"), (None, "no-such-group", "group")])
def test_owner_that_the_system_does_not_know(tmp_path: Path, user: str | None, group: str | None, kind: str) -> None:
    with pytest.raises(PeerAuthError, match=f"has no {kind} no-such-{kind}") as caught:
        open_listeners(Address(path=str(tmp_path / "db.sock")), SocketFile(None, user, group))
    assert caught.value.code == "cannot-listen"
    assert list(tmp_path.iterdir()) == []


def test_what_somebody_listens_at_is_left_alone_and_what_nobody_does_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "db.sock"
    with socket.socket(socket.AF_UNIX) as another:
        another.bind(str(path))
        another.listen()
        path.chmod(0o640)
        with pytest.raises(PeerAuthError, match="Address already in use"):
            open_listeners(Address(path=str(path)), SocketFile(0o666))
        assert mode(path) == 0o640
    assert path.exists(), "it died without tidying up"
    (sock,) = open_listeners(Address(path=str(path)), SocketFile(0o666))
    assert mode(path) == 0o666
    close_listener(sock)


@pytest.mark.parametrize("kind", ["link", "file"])
def test_nothing_but_a_socket_is_handed_over(tmp_path: Path, kind: str) -> None:
    """Who may write to the directory could put something else there between two steps of a server that runs as root."""
    path, victim = tmp_path / "db.sock", tmp_path / "shadow"
    victim.write_text("secret")
    victim.chmod(0o600)
    if kind == "link":
        path.symlink_to(victim)
    else:
        os.link(victim, path)
    with pytest.raises(FileNotFoundError):
        files.hand_over(path, 0o666, -1, os.getgid())
    assert mode(victim) == 0o600


def test_workers_share_one_socket_whose_file_is_handed_over_once(tmp_path: Path) -> None:
    path = tmp_path / "db.sock"
    rows = open_for_workers(Address(path=str(path)), 3, SocketFile(0o620))
    assert len({id(row[0]) for row in rows}) == 1
    assert mode(path) == 0o620
    close_listener(rows[0][0])


@pytest.mark.parametrize("workers", [1, 2])
def test_serve_does_as_config_toml_says_and_leaves_nothing_behind(tmp_path: Path, workers: int) -> None:
    home, path = Home(tmp_path), tmp_path / "db.sock"
    caller = Caller(home.pin("alice"))
    group = grp.getgrgid(os.getgid()).gr_name
    with target(echo) as where, serving(home, listen=None, workers=workers, settings=SERVE.format(**locals())) as node:
        assert node.hears("listening")["address"] == f"unix:{path}"
        assert mode(path) == 0o660
        with socket.socket(socket.AF_UNIX) as plain:
            plain.settimeout(10)
            plain.connect(str(path))
            with caller.context.wrap_socket(plain, server_hostname="node") as tls:
                assert isinstance(tls, ssl.SSLSocket)
                ping(tls)
        node.send(signal.SIGTERM)
        assert node.wait() == 0
    assert not path.exists()
