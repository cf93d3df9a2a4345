"""`invite`: one token on standard output, what it is on standard error, and the list of what was made."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import segno

from peerauth.address import Address
from peerauth.store.invitations import Invitations
from peerauth.store.state import State
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.invitation import Token, read_token
from tests.cli.conftest import Run
from tests.cli.making import der, make, pem, write
from tests.cli.running import Terminal, process, short

ADDRESS = ("--address", "db.example:8443")


def made(must: Run, *words: str) -> Token:
    """The token that is printed."""
    return read_token(must("invite", *words).out)


def leads_to(must: Run, home: Path, config: str) -> list[str]:
    """Where a token leads when nobody says it and config.toml is this."""
    (home / "config.toml").write_text(f'[node]\nname = "node"\n{config}')
    return [str(address) for address in made(must).addresses]


def listed(must: Run) -> dict[str, dict[str, object]]:
    return {one["id"]: one for one in must("invite", "--list", "--json").json}


def test_the_token_alone_is_on_standard_output(must: Run) -> None:
    result = must("invite", *ADDRESS)
    token = read_token(result.out)
    assert result.out == token.text + "\n"
    assert str(token.pin) + "\n" == must("id", "--fingerprint").out
    assert token.addresses == (Address("db.example", 8443),)
    left = token.expires - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    for said in ("db.example:8443", "--address", "within 1 hour", f"--revoke {token.id.hex()}", "peerauth join"):
        assert said in result.err
    assert token.text not in result.err
    assert must("invite", *ADDRESS, "--quiet").err == ""


def test_an_option_without_its_value_leads_to_the_help_of_its_command(run: Run) -> None:
    result = run("invite", "--revoke")
    assert (result.code, result.out) == (2, "")
    assert "hint: peerauth invite --help" in result.err


def test_every_token_is_another(must: Run) -> None:
    assert len({made(must, *ADDRESS).secret for _ in range(5)}) == 5


def test_nothing_of_the_secret_is_kept_and_what_is_kept_is_private(must: Run, home: Path) -> None:
    token = made(must, *ADDRESS)
    for path in home.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert token.secret not in content
            assert token.secret.hex().encode() not in content
            assert token.text.encode() not in content
    assert stat.S_IMODE((home / "state/invitations.json").stat().st_mode) == 0o600


def test_json_has_all_of_it(must: Run) -> None:
    facts = must("invite", *ADDRESS, "--address", "[::1]:1", "--tag", "ci", "--name", "db-1", "--ttl", "7d", "--json").json
    token = read_token(facts["token"])
    assert facts["id"] == token.id.hex()
    assert (facts["uses"], facts["name"], facts["tags"]) == (1, "db-1", ["ci"])
    assert facts["addresses"] == ["db.example:8443", "[::1]:1"]
    assert facts["fingerprint"] == str(token.pin)
    assert datetime.fromisoformat(facts["expires"]) == token.expires


def test_the_addresses_are_those_of_the_server_that_runs_where_config_has_no_service(
    must: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"name": "x"}, None, {"name": "y", "address": "nowhere"}, {"name": "hello", "address": "10.1.2.3:18443"}]
    said = [{}, {"services": "all"}, {"services": rows}]
    monkeypatch.setattr("peerauth.server.window.look", lambda where: said if where.samefile(home) else [])
    assert leads_to(must, home, "") == ["10.1.2.3:18443"]
    assert "@10.1.2.3:18443?" in must("id", "--qr").err
    assert leads_to(must, home, '[[serve]]\nlisten = "10.1.2.4:9"\n') == ["10.1.2.4:9"]


def test_the_addresses_are_those_of_the_services(must: Run, home: Path) -> None:
    both = '[[serve]]\nlisten = "10.1.2.3:8443"\n[[serve]]\nname = "b"\nlisten = "[2001:db8::1]:9"\n'
    more = '[[serve]]\nname = "d"\nlisten = "unix:/run/x"\n[[serve]]\nname = "e"\nlisten = "h:0"\n'
    local = f'[[serve]]\nname = "c"\nlisten = "127.0.0.1:7"\n{more}'
    assert leads_to(must, home, both + local) == ["10.1.2.3:8443", "[2001:db8::1]:9"]
    assert leads_to(must, home, local) == ["127.0.0.1:7"]
    assert "no other can join" in must("invite").err
    assert "no other can join" not in must("invite", *ADDRESS).err


@pytest.mark.parametrize("listen", ["0.0.0.0:8444", ":8444", "[::]:8444"])
def test_every_interface_becomes_an_address_of_this_machine(must: Run, home: Path, listen: str) -> None:
    found = leads_to(must, home, f'[[serve]]\nlisten = "{listen}"\n')
    assert found
    for address in found:
        host, _, port = address.rpartition(":")
        assert port == "8444"
        assert host not in {"", "0.0.0.0", "[::]", "::"}  # noqa: S104 - compared with


def test_without_services_it_is_port_8443(must: Run, home: Path) -> None:
    assert {address.rpartition(":")[2] for address in leads_to(must, home, "")} == {"8443"}


def test_where_nobody_can_know_the_address_it_is_asked_for(run: Run, home: Path) -> None:
    (home / "config.toml").write_text('[node]\nname = "node"\n[[serve]]\nlisten = "unix:/run/x"\n')
    result = run("invite")
    assert (result.code, result.out) == (1, "")
    assert "--address HOST:PORT" in result.err
    assert run("invite", "--address", "db.example").code == 0  # whose port is the usual one


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--ttl", "0"], "bad-ttl"),
        (["--ttl", "31d"], "bad-ttl"),
        (["--ttl", "soon"], "bad-ttl"),
        (["--ttl", ""], "bad-ttl"),
        (["--uses", "0"], "usage"),
        (["--uses", "1001"], "usage"),
        (["--uses", "2", "--name", "x"], "usage"),
        (["--name", "../x"], "bad-name"),
        (["--tag", "a b"], "bad-tag"),
        ([word for number in range(17) for word in ("--tag", f"t{number}")], "bad-tag"),
        (["--address", "unix:/x"], "bad-address"),
        (["--address", "x:0"], "bad-address"),
        (["--address", "a b:1"], "bad-address"),
        ([word for number in range(9) for word in ("--address", f"h{number}:1")], "bad-address"),
        (["--list", "--revoke", "all"], "usage"),
        (["--list", "--name", "x"], "usage"),
        (["--revoke", "all", "--qr"], "usage"),
    ],
    ids=lambda words: " ".join(words)[:30] if isinstance(words, list) else words,
)
def test_what_cannot_be_is_a_usage_error_and_nothing_is_noted(run: Run, home: Path, words: list[str], code: str) -> None:
    result = run("invite", "--json", *words)
    assert result.code == 2, result.err
    assert result.json["error"]["code"] == code
    assert not (home / "state").exists()


def test_the_longest_is_thirty_days(must: Run) -> None:
    assert made(must, *ADDRESS, "--ttl", "30d").expires > datetime.now(UTC) + timedelta(days=29)


def test_a_name_that_is_taken_is_refused(run: Run, must: Run, home: Path) -> None:
    (home / "peers/db-1.crt").write_text((home / "node.crt").read_text())
    assert run("invite", *ADDRESS, "--name", "db-1", "--json").json["error"]["code"] == "name-taken"
    must("invite", *ADDRESS, "--name", "db-2")


def test_the_list_says_what_is_open_and_what_is_over(must: Run, home: Path) -> None:
    assert must("invite", "--list").out == ""
    opened = made(must, *ADDRESS, "--uses", "3", "--tag", "ci")
    named = made(must, *ADDRESS, "--name", "db-1", "--ttl", "1d")
    must("invite", "--revoke", named.id.hex())
    over = made(must, *ADDRESS, "--ttl", "1s")
    path = home / "state/invitations.json"
    noted = json.loads(path.read_text())
    noted[over.id.hex()]["expires"] = "2026-01-01T00:00:00+00:00"
    path.write_text(json.dumps(noted))
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in must("invite", "--list").out.splitlines()}
    assert rows[opened.id.hex()][0].startswith("expires in ")
    assert rows[opened.id.hex()][1:] == ["0 of 3", "", "ci", ""]
    assert rows[named.id.hex()] == ["revoked", "0 of 1", "db-1", "", ""]
    assert rows[over.id.hex()][0] == "expired"
    states = {id_: facts["state"] for id_, facts in listed(must).items()}
    assert states == {opened.id.hex(): "open", named.id.hex(): "revoked", over.id.hex(): "expired"}


def test_the_list_says_who_has_joined_and_is_pinned_no_more(must: Run, home: Path) -> None:
    token, book = made(must, *ADDRESS, "--uses", "2"), Invitations(State(home))
    for name, who in (("alice", make("alice")), ("bob", make("bob"))):
        write(home / "peers" / f"{name}.crt", pem(who))
        pin = Fingerprint.of(der(who))
        book.count(token.id, pin, datetime.now(UTC))
        book.settle(token.id, pin, name)
    (home / "peers" / "bob.crt").unlink()
    (row,) = must("invite", "--list").out.splitlines()
    assert row.endswith("\t2 of 2\t\t\talice, bob (removed)")


def test_one_is_revoked_or_all(run: Run, must: Run) -> None:
    one, two, three = (made(must, *ADDRESS) for _ in range(3))
    assert must("invite", "--revoke", one.id.hex().upper(), "--json").json == {"revoked": [one.id.hex()]}
    assert "nothing to revoke" in must("invite", "--revoke", one.id.hex()).err
    assert set(must("invite", "--revoke", "all", "--json").json["revoked"]) == {two.id.hex(), three.id.hex()}
    unknown = run("invite", "--revoke", "\x1b[2J")
    assert unknown.code == 1
    assert "--list" in unknown.err
    assert "\x1b" not in unknown.err


def test_an_encrypted_key_is_not_needed(home: Path, tmp_path: Path) -> None:
    """What is in the token of the node is public: its fingerprint."""
    locked = tmp_path / "locked"
    made = process("keygen", "n", "--type", "p256", "--passphrase", "--home", locked, env={"PEERAUTH_PASSPHRASE": "x"})
    assert made.code == 0, made.err
    result = process("invite", *ADDRESS, "--home", locked)
    assert result.code == 0, result.err
    assert read_token(result.out).pin != read_token(process("invite", *ADDRESS, "--home", home).out).pin


def test_without_a_node_it_says_keygen(tmp_path: Path) -> None:
    result = process("invite", *ADDRESS, "--home", tmp_path)
    assert (result.code, result.out) == (1, "")
    assert "peerauth keygen" in short(result.err)


def test_the_qr_code_is_the_token_and_leaves_standard_output_alone(home: Path) -> None:
    result = process("--home", home, "invite", *ADDRESS, "--qr")
    token = read_token(result.out)
    assert result.out == token.text + "\n"
    shown = [line for line in result.err.splitlines() if set(line) <= set(" █▀▄") and line]
    halves = {"█": (1, 1), " ": (0, 0), "▀": (1, 0), "▄": (0, 1)}
    light = [[halves[character][half] for character in line] for line in shown for half in (0, 1)]
    expected = [list(row) for row in segno.make_qr(token.text, error="l").matrix_iter(border=4)]
    dark = [[1 - cell for cell in row] for row in light][: len(expected)]
    assert dark == expected


def test_on_a_terminal_the_qr_code_fits_a_usual_one(home: Path) -> None:
    terminal = Terminal("--home", home, "invite", *ADDRESS, "--qr", env={"COLUMNS": "80"})
    code, shown = terminal.end()
    assert code == 0
    assert os.linesep in shown
    widest = max((line for line in shown.splitlines() if "▀" in line), key=len)
    assert sum(character in " █▀▄" for character in widest) <= 80
