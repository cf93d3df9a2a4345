"""Threat: a peer asks a service of files for what is not in its directory, by a name, a link, or at the right moment."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from peerauth.http.filepath import Asked, parse_path
from peerauth.services.beneath import MOST_LINKS, NotBeneath, open_beneath, open_top
from peerauth.services.finding import Finder, Question, Reply
from tests.support.engine import Caller, descriptors
from tests.support.web import ask
from tests.support.workers import Home, Serving, serving

SECRET = b"out of bounds\n"
INSIDE = b"for everybody\n"

# Every one of these means secret.txt beside the root, /etc/passwd, the node's key, or something hidden, to some program.
ATTACKS = [
    "/../secret.txt",
    "/../../../../../../../../etc/passwd",
    "/./../secret.txt",
    "/docs/../../secret.txt",
    "/docs/../file.txt",
    "/docs/..",
    "/docs/.",
    "/..",
    "/%2e%2e/secret.txt",
    "/%2e%2e%2fsecret.txt",
    "/..%2fsecret.txt",
    "/.%2e/secret.txt",
    "/%2E%2E/secret.txt",
    "/%2e%2e%5csecret.txt",
    "/..\\secret.txt",
    "/..%5c..%5csecret.txt",
    "/%252e%252e/secret.txt",
    "/%252e%252e%252fsecret.txt",
    "/%c0%ae%c0%ae/secret.txt",
    "/%c0%ae%c0%ae%c0%afsecret.txt",
    "/%e0%80%ae%e0%80%ae/secret.txt",
    "/%uff0e%uff0e/secret.txt",
    "/..;/secret.txt",
    "/..%00/secret.txt",
    "/..%0d%0a/secret.txt",
    "/file.txt%00.html",
    "/%00",
    "//etc/passwd",
    "///etc/passwd",
    "/%2fetc/passwd",
    "/%2Fetc%2Fpasswd",
    "/C:/secret.txt",
    "/file:///etc/passwd",
    "/~root/.ssh/id_ed25519",
    "/docs/%2e%2e/%2e%2e/secret.txt",
    "/docs//../../secret.txt",
    "/.../secret.txt",
    "/....//secret.txt",
    "/.hidden",
    "/%2ehidden",
    "/.git/config",
    "/docs/.hidden",
    "/FILE.TXT",
    "/file.txt/",
    "/file.txt/../file.txt",
    "/file.txt/.",
    "/out",
    "/out/secret.txt",
    "/absolute",
    "/etc/passwd",
    "/climbing",
    "/circle",
    "/circle/file.txt",
    "/long-way/" + "a/" * 99 + "secret.txt",
    "/" + "a/" * 5000 + "b",
    "/" + "a" * 5000,
    "/key-by-another-name.txt",
    "/link-to-the-key",
    "/pipe",
    "/socket",
    "/null",
    "/http://node/secret.txt",
    "/docs/out-above",
    "/node.key",
    "/%2e%2e/home/node.key",
]


def furnish(place: Path) -> Path:
    """A root with what is allowed, and everything around and in it that is not."""
    root = place / "root"
    (root / "docs").mkdir(parents=True)
    (root / ".git").mkdir()
    (place / "secret.txt").write_bytes(SECRET)
    (root / "file.txt").write_bytes(INSIDE)
    (root / "docs" / "file.txt").write_bytes(INSIDE)
    for hidden in (".hidden", ".git/config", "docs/.hidden"):
        (root / hidden).write_bytes(SECRET)
    (root / "out").symlink_to("..")
    (root / "absolute").symlink_to(place / "secret.txt")
    (root / "absolute-inside").symlink_to(root / "file.txt")
    (root / "etc").symlink_to("/etc")
    (root / "climbing").symlink_to("docs/../../secret.txt")
    (root / "circle").symlink_to("circle")
    (root / "docs" / "out-above").symlink_to(f"../../{root.name}/file.txt")  # back in, but by way of outside
    (root / "long-way").symlink_to("./" * 150)
    (root / "good").symlink_to("docs/../docs/./file.txt")
    (root / "good-directory").symlink_to("docs")
    (root / "to-hidden").symlink_to(".hidden")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(root / "socket"))
    (root / "null").symlink_to("/dev/null")
    return root


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Serving, Caller]]:
    """A node that serves such a root, its key in there as a hard link."""
    place = tmp_path_factory.mktemp("place")
    root = furnish(place)
    home = Home(place)
    caller = Caller(home.pin("alice"))
    (root / "key-by-another-name.txt").hardlink_to(home.home / "node.key")
    (root / "link-to-the-key").symlink_to("key-by-another-name.txt")
    with serving(home, "--root", str(root), workers=1, relay=False) as node:
        yield node, caller


@pytest.mark.parametrize("path", ATTACKS, ids=lambda path: path[:40])
def test_nothing_comes_out(served: tuple[Serving, Caller], path: str) -> None:
    node, caller = served
    with caller.open(node.port) as tls:
        got = ask(tls, path)
    assert got.status in {400, 404, 414, 431}, got
    for leak in (SECRET, INSIDE, b"root:", b"PRIVATE KEY"):
        assert leak not in got.body


@pytest.mark.parametrize("path", ["/file.txt", "/docs/file.txt", "/good", "/good-directory/file.txt", "/%66ile.txt"])
def test_what_is_inside_comes_out(served: tuple[Serving, Caller], path: str) -> None:
    """The twin of the above; links that stay inside are followed."""
    node, caller = served
    with caller.open(node.port) as tls:
        assert ask(tls, path).body == INSIDE


def test_a_link_that_somebody_made_to_a_hidden_file_is_followed(served: tuple[Serving, Caller]) -> None:
    """As a Kubernetes volume has them: what is hidden is the name, and the owner of the directory has given it another."""
    node, caller = served
    with caller.open(node.port) as tls:
        assert ask(tls, "/to-hidden").status == 200
        assert ask(tls, "/.hidden").status == 404


def test_a_listing_shows_what_could_be_had_and_no_more(served: tuple[Serving, Caller]) -> None:
    node, caller = served
    with caller.open(node.port) as tls:
        names = ask(tls, "/").body.decode().split()
        given = {name: ask(tls, f"/{name}").status for name in names if not name.startswith(("key", "link-to"))}
    assert set(given.values()) == {200}
    assert {"docs/", "file.txt", "good", "good-directory/", "long-way/", "to-hidden"} == set(given)


def test_an_absolute_target_is_no_way_out(served: tuple[Serving, Caller]) -> None:
    """RFC 9112 section 3.2.2: the path of a target that names a host is a path like others."""
    node, caller = served
    with caller.open(node.port) as tls:
        assert ask(tls, "http://node/file.txt").body == INSIDE
        assert ask(tls, "http://node/../secret.txt").status == 404
        assert ask(tls, "http://elsewhere.example//etc/passwd").status == 404


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    root = furnish(tmp_path)
    with open_top(root) as top:
        before = descriptors()
        for name in (b"pipe", b"socket", b"null"):
            with pytest.raises(NotBeneath), open_beneath(top, [name]):
                pass
        assert descriptors() == before


@pytest.mark.parametrize("becomes", ["a link", "a link to a directory", "a pipe", "nothing"])
def test_what_changes_between_the_look_and_the_opening_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, becomes: str
) -> None:
    """At the very moment, each time that it is looked at; a pipe would keep whoever opens it waiting."""
    root = furnish(tmp_path)
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file.txt").write_bytes(SECRET)
    turn, real = root / "turn", os.stat

    def make() -> None:
        if becomes == "a link to a directory":
            turn.mkdir()
        else:
            turn.write_bytes(INSIDE)

    def look(name: bytes, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        if name != b"turn":
            return real(name, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        with contextlib.suppress(FileNotFoundError):
            turn.unlink()
        make()
        status = real(name, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        if turn.is_dir():
            turn.rmdir()
        else:
            turn.unlink()
        if becomes == "a link":
            turn.symlink_to("../secret.txt")
        elif becomes == "a link to a directory":
            turn.symlink_to("../outside")
        elif becomes == "a pipe":
            os.mkfifo(turn)
        return status

    before = descriptors()
    path = b"/turn/file.txt" if becomes == "a link to a directory" else b"/turn"
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", look)
        assert get(root, path).status == 404
    assert descriptors() == before


def chain(root: Path, length: int) -> bytes:
    (root / "link-0").symlink_to("file.txt")
    for number in range(1, length):
        (root / f"link-{number}").symlink_to(f"link-{number - 1}")
    return f"link-{length - 1}".encode()


def test_links_are_followed_so_far(tmp_path: Path) -> None:
    root = furnish(tmp_path)
    last = chain(root, MOST_LINKS + 1)
    with open_top(root) as top:
        with open_beneath(top, [f"link-{MOST_LINKS - 1}".encode()]) as found:
            assert stat.S_ISREG(found.status.st_mode)
        with pytest.raises(NotBeneath), open_beneath(top, [last]):
            pass


def get(root: Path, path: bytes) -> Reply:
    asked = parse_path(path)
    assert isinstance(asked, Asked)
    return Finder(root, None).find(Question("GET", asked, {}, b""))


def whirl(act: Callable[[], object]) -> contextlib.AbstractContextManager[None]:
    """Do this again and again in a thread, as long as the block runs."""

    @contextlib.contextmanager
    def whirling() -> Iterator[None]:
        over = threading.Event()

        def run() -> None:
            while not over.is_set():
                act()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(10)

    return whirling()


@pytest.mark.parametrize("swapped", ["a file for a link", "a directory for a link", "a directory for one outside"])
def test_nothing_comes_out_while_names_change_what_they_lead_to(tmp_path: Path, swapped: str) -> None:
    """Somebody who may write beneath the root swaps as quickly as renaming goes; it never leads out."""
    root = furnish(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file.txt").write_bytes(SECRET)
    good, bad, name = root / "docs-good", root / "docs-bad", root / "turn"
    if swapped == "a file for a link":
        good.write_bytes(INSIDE)
        bad.symlink_to("../secret.txt")
        path = b"/turn"
    else:
        good.mkdir()
        (good / "file.txt").write_bytes(INSIDE)
        bad.symlink_to("../outside")
        path = b"/turn/file.txt"
    if swapped == "a directory for one outside":
        bad.unlink()
        bad.symlink_to(outside)

    def swap() -> None:
        for one in (good, bad):
            one.rename(name)
            name.rename(one)

    before = descriptors()
    with whirl(swap):
        for _ in range(1500):
            reply = get(root, path)
            assert reply.status in {200, 404, 503}  # while it is written to all the time
            assert SECRET not in b"".join(part for part in reply.parts if isinstance(part, bytes))
    assert descriptors() == before
    good.rename(name)
    assert get(root, path).parts == (INSIDE,)


def test_a_directory_that_is_carried_away_takes_nobody_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is open on the way, it is moved out of the root; `..` of a link beneath it goes back as the way came."""
    root = furnish(tmp_path)
    (root / "docs" / "up").symlink_to("../file.txt")
    (tmp_path / "file.txt").write_bytes(SECRET)
    real = os.readlink

    def carry_away(name: bytes, *, dir_fd: int) -> bytes:
        if (root / "docs").exists():
            (root / "docs").rename(tmp_path / "docs")
        return real(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "readlink", carry_away)
    assert get(root, b"/docs/up").parts == (INSIDE,)


def test_a_directory_that_takes_the_place_of_the_root_counts(tmp_path: Path) -> None:
    """The root itself may be a link, which its owner turns to what comes next."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file.txt").write_bytes(name.encode())
    root = tmp_path / "current"
    root.symlink_to("one")
    assert get(root, b"/file.txt").parts == (b"one",)
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(root)
    assert get(root, b"/file.txt").parts == (b"two",)
    root.unlink()
    with pytest.raises(FileNotFoundError):
        get(root, b"/file.txt")
