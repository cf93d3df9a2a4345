"""`peer list`, `show`, `remove`, `rename`: the list as a person sees it and changes it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.making import DAY, Made, fingerprint, make, pem, write
from tests.cli.running import Terminal, short, tree

ALICE, BOB, OLD = make("alice"), make("bob"), make("old", end=-DAY / 2)


@pytest.fixture
def peers(home: Path) -> Path:
    """`peers/` of a node that has pinned alice (with notes), bob and old, who has expired."""
    directory = home / "peers"
    for name, made in (("bob", BOB), ("alice", ALICE), ("old", OLD)):
        write(directory / f"{name}.crt", pem(made))
    write(directory / "alice.toml", b'note = "the heating\\tx"\ntags = ["ci", "prod"]\naddress = "alice.example:8443"\n')
    return directory


@pytest.mark.usefixtures("peers")
def test_the_list_is_sorted_and_whole_for_programs(must: Run) -> None:
    """One line a pin, tabs between the fields, nothing cut off, a tab within a field is a space."""
    rows = [line.split("\t") for line in must("peer", "list").out.splitlines()]

    assert rows == [
        ["alice", fingerprint(ALICE), "EC P-256", "364 days", "ci, prod", "the heating x"],
        ["bob", fingerprint(BOB), "EC P-256", "364 days", "", ""],
        ["old", fingerprint(OLD), "EC P-256", "expired 12 hours ago", "", ""],
    ]


@pytest.mark.usefixtures("peers")
def test_json_lists_everything(must: Run) -> None:
    listed = must("peer", "list", "--json").json

    assert [peer["name"] for peer in listed] == ["alice", "bob", "old"]
    assert listed[0]["tags"] == ["ci", "prod"]
    assert listed[0]["address"] == "alice.example:8443"
    assert listed[1]["certificates"][0]["fingerprint"] == fingerprint(BOB)
    assert listed[2]["certificates"][0]["days_left"] < 0


@pytest.mark.usefixtures("peers")
@pytest.mark.parametrize("no_color", [False, True])
def test_on_a_terminal_it_is_a_table_with_the_expired_in_red(home: Path, *, no_color: bool) -> None:
    terminal = Terminal("--home", home, "peer", "list", env={"COLUMNS": "200"} | ({"NO_COLOR": "1"} if no_color else {}))
    code, shown = terminal.end()

    assert code == 0
    assert "expires in" in shown
    assert ("\x1b[31mexpired 12 hours ago" in shown) == (not no_color)
    assert "the heating" in shown
    assert fingerprint(ALICE) in shown


def test_a_narrow_terminal_shows_every_byte_of_a_fingerprint(home: Path, peers: Path) -> None:
    """And every word of a note."""
    write(peers / "bob.toml", b'note = "one two three four five six seven"\n')
    _, shown = Terminal("--home", home, "peer", "list", env={"COLUMNS": "60", "NO_COLOR": "1"}).end()

    for start in range(0, 96, 24):
        assert fingerprint(BOB)[start : start + 24] in shown
    for word in ("one", "two", "three", "four", "five", "six", "seven"):
        assert word in shown


def test_an_empty_list_says_what_to_type(must: Run) -> None:
    result = must("peer", "list")

    assert result.out == ""
    assert "peerauth peer add FILE" in short(result.err)
    assert must("peer", "list", "--json").json == []


def test_what_is_broken_is_warned_about_and_the_rest_is_listed(must: Run, peers: Path) -> None:
    write(peers / "broken.crt", b"nonsense")
    write(peers / "bob.toml", b"tag = 'ci'")
    result = must("peer", "list")

    assert [line.split("\t")[0] for line in result.out.splitlines()] == ["alice", "old"]
    assert "broken.crt" in result.err
    assert "unknown setting 'tag'" in result.err


def test_a_directory_that_is_gone_admits_nobody_and_says_so(must: Run, home: Path) -> None:
    (home / "peers").rmdir()
    result = must("peer", "list")

    assert result.out == ""
    assert "nobody is admitted" in result.err


@pytest.mark.usefixtures("peers")
def test_show_says_everything(must: Run) -> None:
    shown = must("peer", "show", "alice").out

    for text in ("alice", "ci, prod", "alice.example:8443", fingerprint(ALICE), "CN=alice", "host.example", "364 days left"):
        assert text in shown
    assert f"{ALICE[1].serial_number:x}" in shown
    assert "expired 12 hours ago" in must("peer", "show", "old").out


@pytest.mark.usefixtures("peers")
def test_show_pem_can_be_pinned_elsewhere(must: Run) -> None:
    assert must("peer", "show", "alice", "--pem").out.encode() == pem(ALICE)
    facts = must("peer", "show", "alice", "--pem", "--json").json
    assert facts["pem"] == [pem(ALICE).decode()]
    assert facts["note"] == "the heating\tx"


def test_what_is_retired_or_soon_will_be_is_shown(must: Run, peers: Path) -> None:
    """Beside the certificate that comes after it."""
    soon = (datetime.now(UTC) + timedelta(days=6, hours=1)).replace(microsecond=0)
    write(peers / "alice.crt", pem(ALICE) + pem(BOB) + pem(OLD))
    (peers / "bob.crt").unlink()
    (peers / "old.crt").unlink()
    dates = (
        f'"{fingerprint(ALICE)}" = {soon.isoformat()}\n"{fingerprint(OLD)}" = 2020-01-01\n"{fingerprint(BOB)}" = 2999-01-01'
    )
    write(peers / "alice.toml", f'rotation = "ask"\nrotated = 2026-11-21T12:00:00Z\n[retire]\n{dates}\n'.encode())
    left = {line.split("\t")[1]: line.split("\t")[3] for line in must("peer", "list").out.splitlines()}
    assert left == {
        fingerprint(ALICE): "6 days, then retired",
        fingerprint(BOB): "364 days",
        fingerprint(OLD): "retired",
    }
    shown = must("peer", "show", "alice").out
    for text in (f"from {soon:%Y-%m-%d %H:%M} UTC on", "ask", "2026-11-21 12:00 UTC"):
        assert text in shown
    facts = must("peer", "show", "alice", "--json").json
    assert datetime.fromisoformat(facts["retire"][fingerprint(ALICE)]) == soon
    assert (facts["rotation"], len(facts["retire"])) == ("ask", 3)


def test_show_of_a_broken_peer_names_the_file(run: Run, peers: Path) -> None:
    write(peers / "bob.crt", b"nonsense")
    result = run("peer", "show", "bob")

    assert result.code == 1
    assert "bob.crt" in result.err


def test_text_from_strangers_cannot_move_the_cursor_or_forge_a_line(must: Run, peers: Path) -> None:
    evil = make("\x1b[2Jeve\nfingerprint: 00:11\u202e")
    write(peers / "eve.crt", pem(evil))
    write(peers / "eve.toml", b'note = "\\u001b[2J\\nalice\\tforged"\n')
    for words in (["list"], ["show", "eve"]):
        out = must("peer", *words).out
        assert "\x1b" not in out
        assert "\u202e" not in out
        assert not any(line.startswith(("fingerprint: 00", "alice\tforged")) for line in out.splitlines())


@pytest.mark.usefixtures("peers")
def test_remove_takes_the_certificate_and_the_notes_away(must: Run, home: Path) -> None:
    before = tree(home)
    result = must("peer", "remove", "alice", "old", "alice")

    assert set(before) - set(tree(home)) == {"peers/alice.crt", "peers/alice.toml", "peers/old.crt"}
    assert "removed alice" in result.err


@pytest.mark.usefixtures("peers")
def test_what_is_wrong_with_a_service_keeps_nobody_in(run: Run, must: Run, home: Path) -> None:
    with (home / "config.toml").open("a") as config:
        config.write('\n[limits]\nworkers = 0\n[[serve]]\nlisen = ":0"\n')
    assert must("peer", "list").out.startswith("alice")
    assert "alice" in must("peer", "show", "alice").out
    must("peer", "remove", "alice")
    assert not (home / "peers/alice.crt").exists()
    refused = run("peer", "rename", "bob", "robert")
    assert refused.code == 1, "whose name is used in services that cannot be read"
    assert "lisen" in refused.err


@pytest.mark.usefixtures("peers")
def test_remove_tells_a_program_which_pins_are_gone(must: Run) -> None:
    bob = {"name": "bob", "fingerprints": [fingerprint(BOB)]}
    assert must("peer", "remove", "bob", "--json").json == {"removed": [bob], "missing": []}


@pytest.mark.usefixtures("peers")
def test_remove_changes_nothing_where_one_is_unknown(run: Run, home: Path) -> None:
    before = tree(home)
    result = run("peer", "remove", "alice", "bop")

    assert result.code == 1
    assert "there is no peer bop" in result.err
    assert "did you mean bob?" in result.err
    assert tree(home) == before


@pytest.mark.usefixtures("peers")
def test_removing_twice_is_an_error_unless_that_is_what_a_script_means(run: Run, must: Run) -> None:
    must("peer", "remove", "bob")
    again = run("peer", "remove", "bob", "alice")

    assert again.code == 1
    assert "there is no peer bob; nobody was removed" in again.err
    assert must("peer", "remove", "bob", "--missing-ok").err == "there is no peer bob: nothing is to be removed\n"
    both = must("peer", "remove", "bob", "alice", "--missing-ok", "--json").json
    assert ([one["name"] for one in both["removed"]], both["missing"]) == (["alice"], ["bob"])
    assert run("peer", "remove", "../bob", "--missing-ok").code == 2


def test_remove_takes_away_what_is_broken(must: Run, peers: Path) -> None:
    write(peers / "bob.crt", b"nonsense")
    must("peer", "remove", "bob")
    assert not (peers / "bob.crt").exists()


@pytest.mark.usefixtures("peers")
def test_rename_takes_the_notes_along(must: Run, home: Path) -> None:
    must("peer", "rename", "alice", "ada")

    after = tree(home)
    assert "peers/alice.crt" not in after
    assert "peers/alice.toml" not in after
    assert (home / "peers" / "ada.crt").read_bytes() == pem(ALICE)
    assert must("peer", "show", "ada", "--json").json["note"] == "the heating\tx"


@pytest.mark.usefixtures("peers")
@pytest.mark.parametrize(("old", "new", "code"), [("alice", "bob", 1), ("bop", "ada", 1), ("alice", "Ada", 2)])
def test_rename_refuses_what_would_lose_or_confuse(run: Run, home: Path, old: str, new: str, code: int) -> None:
    before = tree(home)
    assert run("peer", "rename", old, new).code == code
    assert tree(home) == before


@pytest.mark.usefixtures("peers")
def test_rename_warns_where_the_config_admits_the_old_name(must: Run, home: Path) -> None:
    with (home / "config.toml").open("a") as config:
        config.write('\n[[serve]]\nname = "db"\nlisten = "127.0.0.1:1"\nallow = ["alice"]\n')

    assert "the service 'db' does not admit ada" in must("peer", "rename", "alice", "ada").err
    assert "warning" not in must("peer", "rename", "bob", "bert").err


@pytest.mark.usefixtures("peers")
@pytest.mark.parametrize("words", [["show", "bop"], ["remove", "bop"], ["rename", "bop", "x"]])
def test_an_unknown_name_comes_with_the_nearest(run: Run, words: list[str]) -> None:
    result = run("peer", *words)

    assert result.code == 1
    assert "did you mean bob?" in result.err


@pytest.mark.parametrize("made", [make("alice", san=False), make("alice")])
def test_a_peer_with_several_files_has_several_lines(must: Run, peers: Path, made: Made) -> None:
    write(peers / "alice.pem", pem(made))
    lines = must("peer", "list").out.splitlines()
    assert [line.split("\t")[0] for line in lines].count("alice") == 2
    assert any(fingerprint(made) in line for line in lines)


@pytest.mark.usefixtures("peers")
def test_a_peer_whose_time_has_passed_is_marked(must: Run, peers: Path) -> None:
    write(peers / "bob.toml", b"until = 2020-01-31\n")
    assert "was admitted until 2020-02-01" in must("peer", "list").out
