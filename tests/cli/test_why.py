"""`why`, `peer pending`, `approve`, `deny`: what was remembered, for people and programs, and their word about it."""

from __future__ import annotations

import hashlib
import re
import tomllib
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from itertools import islice
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from peerauth.store.peerdir import PeerDirectory
from peerauth.store.pending import ask_person, remember, remembered, strangers
from peerauth.store.refusals import Refusal
from peerauth.store.state import State
from peerauth.trust.certificate import Certificate
from peerauth.trust.decision import Code, Refused, decide
from peerauth.trust.explain import Scene, refused_client
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import PeerSet
from peerauth.trust.succession import Question
from tests.cli.conftest import Run
from tests.cli.making import DAY, Made, der, fingerprint, make, pem, write
from tests.cli.running import Terminal, short, tree
from tests.support.pool import certificates

NOW = datetime.now(UTC)


def came(
    home: Path, certificate: bytes, address: str = "10.0.0.7:5001", *, ago: int = 0, peers: PeerSet | None = None
) -> None:
    """Somebody has come so many seconds ago and was refused, as a server would have noted it."""
    peers = peers or PeerSet()
    remote = IPv4Address(address.partition(":")[0])
    refused = decide(certificate, peers, now=NOW)
    assert isinstance(refused, Refused)
    told = refused_client(refused, Scene(peers, certificate, remote, frozenset(), remembered=True))
    unknown = certificate if refused.code is Code.UNKNOWN else None
    who = refused.peer.name if refused.peer else None
    moment = NOW - timedelta(seconds=ago)
    noted = Refusal(
        str(refused.code), refused.fingerprint, str(remote), "db", address, moment, lambda: told, who, certificate=unknown
    )
    remember(State(home), [noted])


@pytest.fixture
def carol(home: Path) -> Made:
    """Carol, who has knocked."""
    made = make("carol")
    came(home, der(made), ago=60)
    return made


def names(must: Run) -> list[str]:
    return [peer["name"] for peer in must("peer", "list", "--json").json]


def test_why_shows_the_words_of_the_log_newest_first(must: Run, home: Path, carol: Made) -> None:
    dave = make("dave")
    came(home, der(dave), "10.0.0.8:6001")
    shown = must("why").out.split("\n\n")
    assert [re.findall(r"it calls itself (\w+)", part) for part in shown] == [["dave"], ["carol"]]
    assert "from 10.0.0.7:5001 at 'db'" in shown[1]
    assert f"who presents {fingerprint(carol)}: the certificate is not pinned (unknown)" in shown[1]
    command = f"peerauth peer approve {fingerprint(carol)[:23]} --name carol"
    assert f"hint: if its owner confirms the fingerprint: {command}" in short(shown[1])


def test_why_shows_twenty_and_says_how_many_more_there_are(must: Run, home: Path) -> None:
    for number, one in enumerate(certificates(23)):
        came(home, one, f"10.0.1.{number}:1", ago=number)
    shown = must("why")
    assert re.findall(r"from 10\.0\.1\.(\d+):1 ", shown.out) == [str(number) for number in range(20)]
    assert shown.err == "3 older ones are not shown: -n 23\n"
    assert must("why", "-n", "23").err == ""
    assert len(must("why", "--json").json) == 23
    assert len(must("why", "--json", "--number", "2").json) == 2


def test_why_counts(must: Run, home: Path, carol: Made) -> None:
    came(home, der(carol), "10.0.0.7:5002")
    (shown,) = must("why").out.split("\n\n")
    assert re.search(r"from 10\.0\.0\.7:5002 at 'db', 2 times since ", shown)


@pytest.mark.parametrize(
    "who",
    [
        "carol",
        "10.0.0.7",
        "10.0.0.7:5001",
        fingerprint,
        lambda made: fingerprint(made).lower().replace(":", "")[:8],
        lambda made: fingerprint(made)[:14],
    ],
    ids=["name", "host", "address", "fingerprint", "beginning", "beginning with colons"],
)
def test_why_finds_by_name_fingerprint_and_address(must: Run, home: Path, carol: Made, who: object) -> None:
    came(home, der(make("dave")), "10.0.0.8:6001")
    word = who(carol) if callable(who) else who
    found = must("why", word, "--json").json
    assert [(one["claim"], one["address"]) for one in found] == [("carol", "10.0.0.7:5001")]


def test_why_finds_a_known_peer_by_name_and_by_its_pin(must: Run, home: Path, tmp_path: Path) -> None:
    old = make("alice", start=-10 * DAY, end=-DAY)
    must("peer", "add", write(tmp_path / "alice.crt", pem(old)))
    pinned = PeerDirectory(home / "peers").refresh()
    came(home, der(old), peers=pinned)
    for who in ("alice", fingerprint(old)):
        (found,) = must("why", who, "--json").json
        assert (found["code"], found["peer"], found["pinned_as"]) == ("expired", "alice", "alice")


@pytest.mark.usefixtures("carol")
def test_why_says_what_there_is_of_somebody_else(run: Run, must: Run, tmp_path: Path) -> None:
    must("peer", "add", write(tmp_path / "bob.crt", pem(make("bob"))))
    assert must("why", "bob").err == "no refusal of bob is remembered (it is pinned)\n"
    assert must("why", "10.9.9.9", "--json").json == []
    assert must("why", "aabbccdd").err == "no refusal of aabbccdd is remembered\n"
    failed = run("why", "bobb")
    assert (failed.code, "did you mean bob?" in failed.err) == (1, True)
    assert "there is no peer bobb, and nobody who was refused calls themselves so" in failed.err
    assert run("why", "bobb", "--json").json["error"]["code"] == "no-such-peer"


def test_why_is_friendly_where_nothing_is_remembered_and_says_whether_it_is_off(must: Run, home: Path) -> None:
    assert must("why").err == "no refusals are remembered\n"
    assert must("peer", "pending").err == "nobody is pending\n"
    config = home / "config.toml"
    config.write_text(config.read_text() + "\n[refusals]\nremember = false\n")
    assert "config.toml says so ([refusals] remember = false)" in must("why").err
    assert "config.toml says so ([refusals] remember = false)" in must("peer", "pending").err
    assert not (home / "state").exists(), "to look leaves nothing behind"


def test_why_says_that_a_certificate_was_renewed_over_the_same_key(must: Run, home: Path, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    must("peer", "add", write(tmp_path / "alice.crt", pem(make("alice", key=key))))
    renewed, other = make("alice", key=key), make("alice")
    came(home, der(renewed), ago=1)
    came(home, der(other))
    by_pin = {one.partition("presents ")[2][:95]: one for one in must("why").out.split("\n\n")}
    assert "its key is that of alice's pinned certificate" in by_pin[fingerprint(renewed)]
    assert "its key is" not in by_pin[fingerprint(other)]
    notes = {one["fingerprint"]: one["notes"] for one in must("peer", "pending", "--json").json}
    assert notes[fingerprint(renewed)] == ["its key is that of alice's pinned certificate"]
    assert notes[fingerprint(other)] == ["not the certificate that is pinned as alice"]
    must("peer", "add", tmp_path / "alice.crt", "--pin", "key")
    assert [one["fingerprint"] for one in must("peer", "pending", "--json").json] == [fingerprint(other)]


def test_pending_lists_strangers_alone_and_why_says_when_one_is_pinned_now(must: Run, tmp_path: Path, carol: Made) -> None:
    line = must("peer", "pending").out.rstrip("\n").split("\t")
    assert line[:3] == ["carol", fingerprint(carol), "10.0.0.7:5001"]
    assert line[4:] == ["1", "not proven", ""]
    must("peer", "add", write(tmp_path / "carol.crt", pem(carol)))
    assert must("peer", "pending").out == ""
    assert must("peer", "pending", "--all", "--json").json == []
    assert "it is pinned as carol" in must("why").out


def test_approve_pins_the_certificate_with_what_was_asked_for(must: Run, home: Path, carol: Made) -> None:
    words = ("--note", "her laptop", "--tag", "ops", "--until", "30d", "--from", "10.0.0.0/8", "--max-connections", "3")
    done = must("peer", "approve", fingerprint(carol), "--name", "carol", *words, "--address", "carol:1", "--pin", "key")
    assert done.out == f"carol {fingerprint(carol)}\n"
    assert (home / "peers" / "carol.crt").read_bytes() == pem(carol)
    noted = tomllib.loads((home / "peers" / "carol.toml").read_text())
    assert set(noted) == {"note", "tags", "until", "from", "max_connections", "address", "pin"}
    assert strangers(State(home)) == []
    assert remembered(State(home)) == []


def test_without_a_name_the_whole_command_is_shown(run: Run, carol: Made) -> None:
    part = fingerprint(carol)[:23]
    failed = run("peer", "approve", part.lower())
    assert (failed.code, failed.out) == (2, "")
    assert short(failed.err).rstrip().endswith(f": peerauth peer approve {part} --name carol")


@pytest.mark.parametrize("why", ["allowed", "in-a-group", "pinned"])
def test_no_name_is_proposed_that_would_hand_out_more_than_it_says(run: Run, home: Path, carol: Made, why: str) -> None:
    service, group = '[[serve]]\nlisten = ":1"\nallow = ["carol"]', '[groups]\noperators = ["carol"]'
    if why == "pinned":
        write(home / "peers" / "carol.crt", pem(make("carol")))
    else:
        (home / "config.toml").write_text(f'[node]\nname = "node"\n{service if why == "allowed" else group}\n')
    failed = run("peer", "approve", fingerprint(carol))
    assert (failed.code, failed.out) == (2, "")
    assert short(failed.err).rstrip().endswith(f"choose one: peerauth peer approve {fingerprint(carol)} --name NAME")


def test_a_part_of_the_fingerprint_is_enough_with_a_yes_only(run: Run, home: Path, carol: Made) -> None:
    part = fingerprint(carol)[:23]
    before = tree(home)
    failed = run("peer", "approve", part, "--name", "carol")
    assert failed.code == 2
    assert "nothing was pinned" in failed.err
    assert fingerprint(carol) in failed.err
    assert "no: who presented it has not shown yet that they hold its key" in failed.err
    assert tree(home) == before
    assert run("peer", "approve", part, "--name", "carol", "--yes", "--json").json == {
        "name": "carol",
        "fingerprint": fingerprint(carol),
        "unusual": [],
    }


@pytest.mark.parametrize(("answer", "pinned"), [("y", ["carol"]), ("n", []), ("", [])])
def test_on_a_terminal_the_whole_fingerprint_is_shown_and_asked_about(
    must: Run, home: Path, carol: Made, answer: str, pinned: list[str]
) -> None:
    terminal = Terminal("--home", home, "peer", "approve", fingerprint(carol)[:11], "--name", "carol")
    terminal.wait_for(re.escape(fingerprint(carol)))
    terminal.wait_for(r"Does its owner say the same fingerprint .*Pin it as carol\? \[y/N\]")
    terminal.type(answer)
    code, _ = terminal.end()
    assert (code == 0) is bool(pinned)
    assert names(must) == pinned


def test_pending_on_a_terminal_is_a_table_with_whole_fingerprints(home: Path, carol: Made) -> None:
    terminal = Terminal("--home", home, "peer", "pending", env={"COLUMNS": "300"})
    code, seen = terminal.end()
    assert code == 0
    assert "calls itself" in seen
    assert "".join(re.findall(r"(?:[0-9A-F]{2}:){7,31}(?:[0-9A-F]{2})?", seen)).rstrip(":") == fingerprint(carol)


def test_a_beginning_that_two_have_names_both_and_pins_none(run: Run, must: Run, home: Path) -> None:
    """Such a pair is quickly made, which is why a beginning is never what a person confirms."""
    pair = _alike()
    for at, one in enumerate(pair):
        came(home, one, f"10.0.0.{at + 1}:5000")
    whole = [str(Fingerprint.of(one)) for one in pair]
    assert whole[0][:11] == whole[1][:11]
    before = tree(home)
    for words in (("approve", whole[0][:11], "--name", "carol", "--yes"), ("deny", whole[0][:11])):
        failed = run("peer", *words, "--json")
        assert (failed.code, failed.json["error"]["code"]) == (1, "ambiguous")
        assert all(f"{pin} from 10.0.0.{at + 1}:5000" in failed.err for at, pin in enumerate(whole))
    assert tree(home) == before
    assert must("peer", "approve", whole[1], "--name", "carol").out == f"carol {whole[1]}\n"


def _alike() -> list[bytes]:
    """Two certificates whose fingerprints begin with the same eight digits: by the birthdays of some 80 000."""
    seen: dict[bytes, int] = {}
    for number, one in enumerate(certificates(1_000_000)):
        other = seen.setdefault(hashlib.sha256(one).digest()[:4], number)
        if other != number:
            return [next(islice(certificates(other + 1), other, None)), one]
    raise AssertionError


@pytest.mark.usefixtures("carol")
@pytest.mark.parametrize("words", [("0a0b0c0d", "--name", "x"), ("ff" * 32, "--name", "x")])
def test_nobody_is_approved_who_did_not_come(run: Run, home: Path, words: tuple[str, ...]) -> None:
    failed = run("peer", "approve", *words, "--yes", "--json")
    assert (failed.code, failed.json["error"]["code"]) == (1, "no-such-stranger")
    assert list((home / "peers").glob("*.crt")) == []


@pytest.mark.parametrize("name", ["../x", "a/b", "UPPER", "", "-x", "a b", "x\x1b[2J", "con\u202e"])
def test_a_name_that_is_none_pins_nothing(run: Run, home: Path, carol: Made, name: str) -> None:
    before = tree(home)
    failed = run("peer", "approve", fingerprint(carol), f"--name={name}")
    assert failed.code == 2
    assert failed.err.isascii()
    assert "\x1b" not in failed.err
    assert tree(home) == before


def test_approve_without_a_name_proposes_one_and_pins_nothing(run: Run, home: Path, carol: Made) -> None:
    failed = run("peer", "approve", fingerprint(carol))
    assert (failed.code, "--name carol" in failed.err) == (2, True)
    assert list((home / "peers").glob("*.crt")) == []


def test_a_name_that_another_has_is_not_taken_from_it(run: Run, must: Run, tmp_path: Path, carol: Made) -> None:
    must("peer", "add", write(tmp_path / "alice.crt", pem(make("alice"))))
    failed = run("peer", "approve", fingerprint(carol), "--name", "alice", "--json")
    assert (failed.code, failed.json["error"]["code"]) == (1, "name-taken")
    assert names(must) == ["alice"]
    must("peer", "approve", fingerprint(carol), "--name", "carol")
    failed = run("peer", "approve", fingerprint(carol), "--name", "carol", "--json")
    assert (failed.code, failed.json["error"]["code"]) == (1, "already-pinned")


def test_what_is_unusual_about_a_stranger_is_said(must: Run, home: Path) -> None:
    ca = make("authority", ca=True)
    came(home, der(ca))
    assert "CA:TRUE" in must("peer", "approve", fingerprint(ca), "--name", "authority").err


def test_the_denied_are_hidden_and_cannot_be_approved_until_it_is_taken_back(run: Run, must: Run, carol: Made) -> None:
    pin = fingerprint(carol)
    assert must("peer", "deny", pin[:11], "--json").json == {"denied": [pin]}
    assert must("peer", "pending").out == ""
    assert "denied: 1; to see them: peerauth peer pending --all" in short(must("peer", "pending").err)
    assert "denied 20" in must("peer", "pending", "--all").out
    failed = run("peer", "approve", pin, "--name", "carol", "--json")
    assert (failed.code, failed.json["error"]["code"]) == (1, "denied")
    assert names(must) == []
    assert short(failed.json["error"]["hint"]).endswith(f"peerauth peer deny --undo {pin}")
    assert must("peer", "deny", "--undo", pin, "--json").json == {"shown_again": [pin]}
    must("peer", "approve", pin, "--name", "carol")
    assert names(must) == ["carol"]


def test_a_peers_next_certificate_is_pinned_beside_the_old_one_which_is_retired(
    run: Run, must: Run, home: Path, tmp_path: Path
) -> None:
    old, other, new = make("alice"), make("alice"), make("alice")
    must("peer", "add", write(tmp_path / "alice.crt", pem(old) + pem(other)), "--name", "alice")
    retire = datetime(2030, 1, 31, tzinfo=UTC)
    ask_person(State(home), Question("alice", Certificate(der(new)), Certificate(der(old)), retire), "10.0.0.7:5001")
    (shown,) = must("peer", "pending", "--json").json
    assert (shown["successor_of"], shown["retire"], shown["key_proven"]) == ("alice", "2030-01-31T00:00:00Z", True)
    assert "the next certificate of alice" in must("peer", "pending").out
    assert "which is to be retired on 2030-01-31" in must("peer", "pending").out
    assert must("why").out == "", "nobody was refused"
    came(home, der(new))
    assert f"the fingerprint: peerauth peer approve {fingerprint(new)}\n" in short(must("why").out)
    for words in (("--name", "bob"), ("--note", "x")):
        assert run("peer", "approve", fingerprint(new), *words).code == 2
    assert must("peer", "approve", fingerprint(new)).out == f"alice {fingerprint(new)}\n"
    alice = PeerDirectory(home / "peers").refresh().peers["alice"]
    assert set(alice.pins) == {Certificate(der(one)).fingerprint for one in (old, other, new)}
    assert alice.settings.retire == ((Certificate(der(old)).fingerprint, retire),)
    assert strangers(State(home)) == []


def test_the_next_certificate_of_a_peer_whose_old_one_is_gone_retires_nothing(must: Run, home: Path, tmp_path: Path) -> None:
    lost, kept, new = make("alice"), make("alice"), make("alice")
    must("peer", "add", write(tmp_path / "alice.crt", pem(lost) + pem(kept)), "--name", "alice")
    PeerDirectory(home / "peers").drop("alice", Certificate(der(lost)).fingerprint, issued=datetime.now(UTC))
    retire = datetime(2030, 1, 31, tzinfo=UTC)
    ask_person(State(home), Question("alice", Certificate(der(new)), Certificate(der(lost)), retire), "10.0.0.7:5001")
    must("peer", "approve", fingerprint(new))
    alice = PeerDirectory(home / "peers").refresh().peers["alice"]
    assert set(alice.pins) == {Certificate(der(one)).fingerprint for one in (kept, new)}
    assert alice.settings.retire == ()
