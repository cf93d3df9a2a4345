"""`peerauth check` as it is typed: for people, for programs, and for monitoring."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.cli.conftest import Run
from tests.cli.running import Result, peerauth, short
from tests.docs.pages import CHECKOUT, sections, spans
from tests.support.engine import identity
from tests.support.targets import target, unused_port
from tests.support.workers import Home, Serving, serving

Pin = Callable[..., None]


@pytest.fixture(scope="module")
def door() -> Iterator[str]:
    """A Unix socket's path, short enough for one."""
    with TemporaryDirectory() as place:
        yield f"unix:{place}/door"


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Where the server lives."""
    return Home(tmp_path_factory.mktemp("serving"))


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a node whose certificate lasts a day."""
    place = tmp_path_factory.mktemp("brief") / "home"
    assert peerauth("keygen", "brief", "--days", "1", "--type", "p256", "--home", place).code == 0
    return place


@pytest.fixture(scope="module")
def node(made_home: Path, brief: Path, yard: Home, door: str) -> Iterator[Serving]:
    """A server with two workers that admits the node of `home`, as alice, and `brief`, on three addresses."""
    yard.place("brief.crt", (brief / "brief.crt").read_bytes())
    yard.place("alice.crt", (made_home / "node.crt").read_bytes())
    with serving(yard, "--listen", "[::1]:0", "--listen", door, relay=False, workers=2) as running:
        running.hears("listening", times=3)
        yield running


@pytest.fixture
def where(node: Serving) -> str:
    """HOST:PORT of the server."""
    return next(str(said["address"]) for said in node.told("listening") if str(said["address"]).startswith("127."))


@pytest.fixture
def pin(home: Path) -> Pin:
    """Pin the server, or another, in `home`."""

    def add(name: str, address: str | None = None, whose: str = "node") -> None:
        (home / "peers" / f"{name}.crt").write_text(identity(whose).certificate.pem)
        if address:
            (home / "peers" / f"{name}.toml").write_text(f'address = "{address}"\n')

    return add


@pytest.fixture
def stranger(tmp_path: Path) -> Run:
    """Run a command as a node that nobody knows, and that knows nobody."""
    place = tmp_path / "stranger"
    assert peerauth("keygen", "mallory", "--type", "p256", "--home", place).code == 0
    return lambda *words, **options: peerauth("--home", place, *words, **options)


def test_people_read_a_table_and_a_verdict(run: Run, pin: Pin, where: str) -> None:
    pin("db-1", where)
    result = run("check", "db-1")
    assert (result.code, result.err) == (0, "")
    *lines, verdict = result.out.splitlines()
    table = dict(re.split(r":\s+", line, maxsplit=1) for line in lines)
    assert table["server"] == f"db-1 at {where}"
    assert table["fingerprint"] == str(identity("node").certificate.fingerprint)
    assert table["pinned here"] == "as db-1"
    assert (table["admits us"], table["services"]) == ("as alice", "hello")
    assert table["TLS"] == "TLSv1.3, X25519MLKEM768, TLS_AES_256_GCM_SHA384"
    assert re.fullmatch(r"round trip [\d.]+ ms, connected in [\d.]+ ms, handshake [\d.]+ ms", table["times"])
    assert "days left" in table["valid"]
    assert "days left" in table["our validity"]
    assert verdict == f"db-1 at {where} is admitted here, and admits us as alice"


def test_every_way_of_naming_a_server_leads_there(run: Run, pin: Pin, node: Serving, door: str, where: str) -> None:
    pin("db-1", "127.0.0.1:1")
    six = next(str(said["address"]) for said in node.told("listening") if str(said["address"]).startswith("["))
    for named in ((where,), (six,), (door,), (f"db-1:{where.rpartition(':')[2]}",), (where, "--peer", "db-1")):
        result = run("check", *named, "--json")
        assert (result.code, result.json["peer"], result.json["there"]["as"]) == (0, "db-1", "alice"), named


def test_programs_read_the_same_keys_whatever_happens(run: Run, pin: Pin, stranger: Run, where: str) -> None:
    pin("db-1", where)
    good, bad = run("check", "db-1", "--json"), stranger("check", where, "--json")
    closed = run("check", f"127.0.0.1:{unused_port()}", "--json")
    assert [result.code for result in (good, bad, closed)] == [0, 3, 4]
    assert good.json.keys() == bad.json.keys() == closed.json.keys()
    for side in ("here", "there", "certificate", "tls", "seconds"):
        assert good.json[side].keys() == bad.json[side].keys()
        assert closed.json[side] is None
    assert [result.json["ok"] for result in (good, bad, closed)] == [True, False, False]
    assert good.json["error"] is None
    assert good.json["there"]["services"] == ["hello"]
    assert good.json["certificate"]["days_left"] > 0
    assert abs(good.json["seconds"]["clock_skew"]) <= 2
    assert (bad.json["error"]["code"], bad.json["there"]["code"]) == ("unknown", "unknown")
    assert closed.json["error"]["code"] == "connection-refused"


def keys(value: object) -> set[str]:
    """Every key in a JSON object, at whatever depth."""
    if not isinstance(value, dict):
        return set()
    return set(value) | {key for inner in value.values() for key in keys(inner)}


def test_every_key_is_in_the_manual(stranger: Run, where: str) -> None:
    section = sections((CHECKOUT / "docs/commands.md").read_text("utf-8"))["peerauth check [PEER|HOST:PORT|unix:PATH]"]
    assert keys(stranger("check", where, "--json").json) - {"message", "hint"} <= set(spans(section))


def test_who_is_not_admitted_on_either_side_reads_what_to_type_on_both(stranger: Run, where: str, tmp_path: Path) -> None:
    result = stranger("check", where)
    own = stranger("id", "--fingerprint").out.strip()
    assert result.code == 3
    assert "pinned here:     no" in result.out
    assert f"peerauth peer scan {where} --add NAME --expect FINGERPRINT" in short(result.err)
    assert f"peerauth peer add {tmp_path}/stranger/mallory.crt --expect {own}" in result.err


def test_without_a_name_every_peer_that_has_an_address_is_checked(run: Run, pin: Pin, where: str) -> None:
    nowhere = f"127.0.0.1:{unused_port()}"
    pin("db-1", where)
    pin("db-2", nowhere, whose="db-2")
    pin("quiet", whose="quiet")
    result = run("check")
    assert result.code == 4
    first, second = [line.split("\t") for line in result.out.splitlines()]
    assert first[:4] == ["db-1", where, "yes", "alice"]
    assert second[:3] == ["db-2", nowhere, "not reached"]
    assert f"nothing listens at {nowhere}" in result.err
    assert [one["peer"] for one in run("check", "--json").json] == ["db-1", "db-2"]
    told = run("check", "--nagios")
    assert told.code == 2
    summary, *rest = told.out.splitlines()
    assert summary.startswith(f"CRITICAL - 1 of 2 peers are well; not db-2 at {nowhere} | db-1_days_left=")
    assert [line.split(" - ")[0] for line in rest] == ["OK", "CRITICAL"]


def test_refused_counts_for_more_than_not_reached(run: Run, pin: Pin, where: str) -> None:
    pin("db-1", where, whose="db-1")
    pin("db-2", f"127.0.0.1:{unused_port()}", whose="db-2")
    assert run("check").code == 3


NUMBERS = r"days_left=\d+;14:;1: own_days_left=\d+;14:;1: handshake=[\d.]+s round_trip=[\d.]+s clock_skew=-?\d+s"


def test_monitoring_reads_one_line_with_figures(run: Run, pin: Pin, where: str) -> None:
    pin("db-1", where)
    well = run("check", "db-1", "--nagios")
    assert (well.code, well.err) == (0, "")
    assert re.fullmatch(rf"OK - db-1 at \S+ is admitted here, and admits us as alice \| {NUMBERS}\n", well.out)
    soon = run("check", "db-1", "--nagios", "--warn", "400")
    assert soon.code == 1
    assert soon.out.startswith("WARNING - the certificate of db-1 at")
    assert run("check", "db-1", "--warn", "400").code == 0


def test_monitoring_hears_of_an_end_within_a_day_as_critical(brief: Path, where: str) -> None:
    (brief / "peers" / "db-1.crt").write_text(identity("node").certificate.pem)
    result = peerauth("check", where, "--nagios", "--home", brief)
    assert (result.code, result.out.split(" - ")[0]) == (2, "CRITICAL")
    assert "our own certificate" in result.out
    people = peerauth("check", where, "--home", brief)
    assert people.code == 0  # it works as long as it works
    assert "our own certificate" in people.err


def test_monitoring_hears_of_every_refusal_as_critical(run: Run, stranger: Run, where: str) -> None:
    closed = f"127.0.0.1:{unused_port()}"
    for result in (stranger("check", where, "--nagios"), run("check", closed, "--nagios")):
        assert (result.code, result.out.split(" - ")[0]) == (2, "CRITICAL")
        assert result.out.count("\n") == 1


def unknowns(run: Run, tmp_path: Path) -> Iterator[Result]:
    yield run("check", "nobody", "--nagios")
    yield run("check", "--nagios")
    yield run("check", "127.0.0.1:1", "--nagios", "--json")
    yield run("check", "--nagios", "--peer", "db-1")
    yield run("check", "a b:1", "--nagios")
    yield run("check", "--nagios", "--bogus")
    yield run("check", "x:1", "--nagios", "--warn", "soon")
    yield peerauth("check", "127.0.0.1:1", "--nagios", "--home", tmp_path / "nothing")


def test_monitoring_is_told_when_the_trouble_is_ours(run: Run, home: Path, tmp_path: Path) -> None:
    for result in unknowns(run, tmp_path):
        assert (result.code, result.out.split(" - ")[0]) == (3, "UNKNOWN"), result
        assert result.out.count("\n") == 1
    (home / "node.key").write_text("broken")
    assert run("check", "127.0.0.1:1", "--nagios").code == 3


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["nobody"], 1, "there is no peer nobody"),
        (["quiet"], 1, "it is not noted where quiet is"),
        ([], 1, "it is not noted of any peer where it is"),
        (["a b:1"], 2, "a b"),
        (["127.0.0.1:99999"], 2, "not HOST:PORT"),
        (["--peer", "quiet"], 2, "--peer says who is at an address"),
        (["127.0.0.1:1", "--max-wait", "0"], 2, "max-wait"),
        (["127.0.0.1:1", "--peer", "nobody"], 1, "there is no peer nobody"),
    ],
)
def test_what_cannot_be_checked_is_said_to_be_so(run: Run, pin: Pin, words: list[str], code: int, text: str) -> None:
    pin("quiet")
    result = run("check", *words)
    assert (result.code, result.out) == (code, "")
    assert text in result.err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["check"], "to pin a server: peerauth peer scan HOST:PORT --add NAME"),
        (["check", "127.0.0.1"], "an address has a port, for instance 127.0.0.1:8443"),
        (["get", "https://127.0.0.1:1/"], "peerauth peer scan 127.0.0.1:1 --add NAME"),
    ],
)
def test_who_has_pinned_nobody_is_told_how(run: Run, words: list[str], hint: str) -> None:
    result = run(*words)
    assert (result.code, result.out) == (1, "")
    assert hint in short(result.err)


def test_a_server_that_says_nothing_is_given_up_in_time(run: Run) -> None:
    with target(lambda sock: sock.recv(65536) and sock.recv(65536)) as silent:
        result = run("check", str(silent), "--max-wait", "0.3")
    assert result.code == 4
    assert "says nothing" in result.err
