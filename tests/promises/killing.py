"""Kill an operation at every step that it takes on the disk, and look at what is left. Run as a program: OPERATION PLACE.

Each try is a fork of this process in a directory of its own; it ends with `os._exit`, as kill -9 would end it: nothing is
flushed and no `finally` runs. Prints how many steps there were, or what was found broken.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from peerauth.address import Address
from peerauth.errors import BadInput
from peerauth.server.invitation import Joiner, welcome
from peerauth.store import files
from peerauth.store.config import load_config
from peerauth.store.home import create, read_identity
from peerauth.store.invitations import Invitation, Invitations
from peerauth.store.peerdir import PeerDirectory
from peerauth.store.pending import approving, remember, strangers
from peerauth.store.refusals import Refusal
from peerauth.store.state import State
from peerauth.trust.identity import Identity, KeyType, new_key, self_signed
from peerauth.trust.invitation import SECRET, make_token
from peerauth.trust.peers import PeerSettings

NOW = datetime.now(UTC)
KILLED = 9
SETTINGS = PeerSettings(note="restricted", max_connections=1)
NAMES = ("node", "node", "alice", "bob", "mallory")
OLD, NEW, ALICE, BOB, MALLORY = (self_signed(new_key(KeyType.P256), name, NOW) for name in NAMES)
TOKEN = make_token(bytes(SECRET), OLD.certificate.fingerprint, NOW + timedelta(hours=1), [Address("127.0.0.1", 1)])


def die_at(step: int) -> None:
    """End this process at the given step: before and after every call that changes something."""
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1
        if count == step:
            os._exit(KILLED)

    def deadly(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - whatever it is
            tick()
            result = function(*arguments, **options)
            tick()
            return result

        return call

    for name in ("open", "fsync", "replace", "rename", "link", "unlink", "mkdir"):
        setattr(os, name, deadly(getattr(os, name)))
    files.open = deadly(open)  # type: ignore[attr-defined]


def start(place: Path) -> None:
    create(place, "node", OLD, NOW, None, force=False)
    PeerDirectory(place / "peers").add("bob", [BOB.certificate])


def with_alice(place: Path) -> None:
    start(place)
    PeerDirectory(place / "peers").add("alice", [ALICE.certificate], SETTINGS)


def keys_are_private(place: Path) -> None:
    for path in place.rglob("*"):
        if path.is_file() and b"PRIVATE KEY" in path.read_bytes():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def first(place: Path) -> None:
    create(place, "node", NEW, NOW, None, force=False)


def first_left(place: Path) -> None:
    """A first keygen that was killed can be tried again; nothing that it made is taken for somebody's key."""
    create(place, "node", OLD, NOW, None, force=True)
    assert read_identity(load_config(place)).certificate == OLD.certificate


def force(place: Path) -> None:
    create(place, "node", NEW, NOW, None, force=True)


def force_left(place: Path) -> None:
    found = read_identity(load_config(place)).certificate
    assert found in (OLD.certificate, NEW.certificate)
    assert read_identity(load_config(place)).certificate == found
    if found == NEW.certificate:
        kept = [path.read_text() for path in place.glob("node.*.old-*")]
        assert sorted(kept) == sorted([OLD.key_pem().decode(), OLD.certificate.pem]), "the old pair is lost"
    create(place, "node", NEW, NOW, None, force=True)
    assert read_identity(load_config(place)).certificate == NEW.certificate


def add(place: Path) -> None:
    PeerDirectory(place / "peers").add("alice", [ALICE.certificate], SETTINGS)


def add_left(place: Path) -> None:
    peers = PeerDirectory(place / "peers").refresh()
    assert set(peers.peers) in ({"bob"}, {"alice", "bob"})
    alice = peers.get("alice")
    assert alice is None or alice.settings == SETTINGS, "admitted without its restrictions"
    add(place)
    assert PeerDirectory(place / "peers").refresh().peers["alice"].settings == SETTINGS


def remove(place: Path) -> None:
    PeerDirectory(place / "peers").remove("alice")


def remove_left(place: Path) -> None:
    directory = PeerDirectory(place / "peers")
    alice = directory.refresh().get("alice")
    assert "bob" in directory.current
    assert alice is None or alice.settings == SETTINGS
    if alice is not None:
        remove(place)
    assert "alice" not in directory.refresh()


def rename(place: Path) -> None:
    PeerDirectory(place / "peers").rename("alice", "carol")


def rename_left(place: Path) -> None:
    peers = PeerDirectory(place / "peers").refresh()
    holder = peers.holder(ALICE.certificate.fingerprint)
    assert holder is not None, "under neither name"
    assert holder.name in ("alice", "carol")
    assert holder.settings == SETTINGS
    assert "bob" in peers


def retouch(place: Path) -> None:
    PeerDirectory(place / "peers").add("alice", [ALICE.certificate], PeerSettings(note="changed", max_connections=2))


def retouch_left(place: Path) -> None:
    directory = PeerDirectory(place / "peers")
    alice = directory.refresh().peers["alice"]
    assert alice.settings.max_connections in (1, 2)
    assert directory.problems == ()


def refused(who: Identity) -> Refusal:
    certificate = who.certificate
    told = ("refused", None)
    where = "10.0.0.1", "db", "10.0.0.1:5"
    return Refusal("unknown", certificate.fingerprint, *where, NOW, lambda: told, certificate=certificate.der)


def with_strangers(place: Path) -> None:
    start(place)
    remember(State(place), [refused(OLD), refused(ALICE)])


def note(place: Path) -> None:
    remember(State(place), [refused(NEW)])


def note_left(place: Path) -> None:
    found = {stranger.certificate for stranger in strangers(State(place))}
    before = {OLD.certificate.der, ALICE.certificate.der}
    assert found in (before, before | {NEW.certificate.der})
    note(place)
    assert len(strangers(State(place))) == 3


def approve(place: Path) -> None:
    with approving(State(place), ALICE.certificate.fingerprint):
        PeerDirectory(place / "peers").add("alice", [ALICE.certificate], SETTINGS)


def approve_left(place: Path) -> None:
    """Whoever is not pinned yet can still be approved."""
    alice = PeerDirectory(place / "peers").refresh().get("alice")
    assert alice is None or alice.settings == SETTINGS
    waiting = {stranger.certificate for stranger in strangers(State(place))}
    assert alice is not None or ALICE.certificate.der in waiting
    approve(place)
    assert {stranger.certificate for stranger in strangers(State(place))} == {OLD.certificate.der}


def invitation(place: Path) -> None:
    start(place)
    Invitations(State(place)).add(Invitation(TOKEN.id, TOKEN.verifier, NOW, TOKEN.expires, 1, None, ("ci",)), NOW)


def join(place: Path, who: Identity = ALICE) -> None:
    book, peers = Invitations(State(place)), PeerDirectory(place / "peers")
    welcome(book, peers, TOKEN.id, Joiner(who.certificate, "joiner", None), NOW)


def join_left(place: Path) -> None:
    """Counted or not, once; who was counted finishes, nobody else comes in, and who is removed does not come back."""
    (known,) = Invitations(State(place)).all()
    counted = ALICE.certificate.fingerprint in known.used
    pinned = PeerDirectory(place / "peers").refresh().holder(ALICE.certificate.fingerprint)
    assert counted or pinned is None, "pinned, and not counted"
    assert pinned is None or pinned.tags == ("ci",), "admitted without what the invitation says"
    if counted:
        kept_out(place, MALLORY)
    join(place)
    directory = PeerDirectory(place / "peers")
    assert directory.refresh().peers["joiner"].pins == (ALICE.certificate.fingerprint,)
    assert len(directory.current) == 2
    kept_out(place, MALLORY)
    directory.remove("joiner")
    kept_out(place, ALICE)


def kept_out(place: Path, who: Identity) -> None:
    try:
        join(place, who)
    except BadInput as error:
        if error.code == "invitation":
            return
        raise
    raise AssertionError("it came in")


NEXT = self_signed(new_key(KeyType.P256), "alice", NOW)
OVERLAP = NOW + timedelta(days=7)
PINS = {one.certificate.fingerprint for one in (ALICE, NEXT)}


def succeed(place: Path) -> None:
    directory = PeerDirectory(place / "peers")
    directory.succeed("alice", NEXT.certificate, OVERLAP, of=ALICE.certificate, issued=NOW)


def with_next(place: Path) -> None:
    with_alice(place)
    succeed(place)


def rotating(place: Path) -> PeerDirectory:
    """Whatever was left: alice is known by nothing but her own certificates, with her restrictions."""
    directory = PeerDirectory(place / "peers")
    alice = directory.refresh().get("alice")
    assert "bob" in directory.current
    assert directory.problems == ()
    if alice is not None:
        assert set(alice.pins) <= PINS
        assert (alice.settings.note, alice.settings.max_connections) == ("restricted", 1)
    return directory


def succeed_left(place: Path) -> None:
    before = rotating(place).peer("alice")
    assert ALICE.certificate.fingerprint in before.pins, "the old one is lost"
    if before.settings.retire:
        assert set(before.pins) == PINS, "the old one is retired, and there is no new one"
    succeed(place)
    after = rotating(place).peer("alice")
    assert (set(after.pins), dict(after.settings.retire)) == (PINS, {ALICE.certificate.fingerprint: OVERLAP})
    assert (after.settings.rotated, len(after.settings.follows)) == (NOW, 1)


def withdraw(place: Path) -> None:
    PeerDirectory(place / "peers").withdraw("alice", NEXT.certificate, issued=NOW)


def withdraw_left(place: Path) -> None:
    before = rotating(place).peer("alice")
    assert ALICE.certificate.fingerprint in before.pins, "the old one is lost"
    if not before.settings.retire:
        assert len(before.pins) == 1, "both are there for good"
    withdraw(place)
    after = rotating(place).peer("alice")
    assert (after.pins, after.settings.retire, after.settings.follows) == ((ALICE.certificate.fingerprint,), (), ())


def drop(place: Path) -> None:
    PeerDirectory(place / "peers").drop("alice", ALICE.certificate.fingerprint, issued=NOW)


def drop_left(place: Path) -> None:
    directory = rotating(place)
    alice = directory.current.get("alice")
    if alice is not None:
        assert ALICE.certificate.fingerprint in alice.pins, "what it has endorsed is there without it"
    drop(place)
    assert "alice" not in rotating(place).current


def in_two_files(place: Path) -> None:
    """The new one stands in a file of its own."""
    with_alice(place)
    (place / "peers/alice.crt").rename(place / "peers/alice.der")
    (place / "peers/alice.der").write_bytes(ALICE.certificate.der)
    succeed(place)
    assert sorted(path.name for path in (place / "peers").glob("alice.*")) == ["alice.crt", "alice.der", "alice.toml"]


Step = Callable[[Path], None]
OPERATIONS: dict[str, tuple[Step, Step, Step]] = {
    "first": (lambda _: None, first, first_left),
    "force": (start, force, force_left),
    "add": (start, add, add_left),
    "remove": (with_alice, remove, remove_left),
    "rename": (with_alice, rename, rename_left),
    "retouch": (with_alice, retouch, retouch_left),
    "note": (with_strangers, note, note_left),
    "approve": (with_strangers, approve, approve_left),
    "join": (invitation, join, join_left),
    "succeed": (with_alice, succeed, succeed_left),
    "withdraw": (with_next, withdraw, withdraw_left),
    "drop": (with_next, drop, drop_left),
    "withdraw-two": (in_two_files, withdraw, withdraw_left),
    "drop-two": (in_two_files, drop, drop_left),
}


def killed(place: Path, operation: Step, step: int) -> bool:
    """Try it in a child of ours; whether it was killed at this step (else it was done)."""
    child = os.fork()
    if child == 0:
        try:
            die_at(step)
            operation(place)
        except BaseException:  # noqa: BLE001 - the child must not go on as the parent
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, KILLED), f"it failed at step {step}"
    return code == KILLED


def main(name: str, root: Path, stride: int = 1) -> None:
    """Try every step; with a stride of 2 those after a call alone, which are those before the next one."""
    prepare, operation, look = OPERATIONS[name]
    step = 0
    while True:
        step += stride
        place = root / str(step)
        place.mkdir()
        prepare(place)
        died = killed(place, operation, step)
        try:
            keys_are_private(place)
            look(place)
            keys_are_private(place)
        except Exception as error:
            raise AssertionError(f"killed at step {step}: {error}; left: {sorted(os.listdir(place))}") from error  # noqa: PTH208
        shutil.rmtree(place)
        if not died:
            print(step - 1)  # noqa: T201 - a program
            return


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
