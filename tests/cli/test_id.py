"""`id` shows who this node is, and hands its identity out in the forms that other programs want."""

from __future__ import annotations

import socket
import stat
import subprocess
from pathlib import Path

import pytest
import segno

from peerauth.trust.fingerprint import Fingerprint
from tests.cli.conftest import Run
from tests.cli.running import Terminal, peerauth, process, short, tree
from tests.support import needs

PASSWORD = {"PEERAUTH_P12_PASSWORD": "changeit"}


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """The home of a node whose key has the passphrase `sesame`."""
    home = tmp_path / "locked"
    env = {"PEERAUTH_PASSPHRASE": "sesame"}
    assert peerauth("keygen", "safe", "--type", "p256", "--home", home, env=env).code == 0
    return home


def test_it_says_name_fingerprint_key_validity_and_files(must: Run) -> None:
    result = must("id")

    pin = must("id", "--fingerprint").out.strip()
    for text in ("node", pin, "EC P-256", "364 days left", "localhost", "node.crt", "node.key", "peers"):
        assert text in result.out
    assert result.err == ""


def test_json_has_the_same_facts(must: Run) -> None:
    facts = must("id", "--json").json

    assert facts["name"] == "node"
    assert facts["fingerprint"] == must("id", "--fingerprint").out.strip()
    assert facts["days_left"] == 364
    assert facts["files"]["certificate"].endswith("node.crt")
    assert facts["unusual"] == []


def test_pem_is_the_certificate_as_it_is_on_disk(must: Run, home: Path) -> None:
    assert must("id", "--pem").out == (home / "node.crt").read_text()


def test_the_fingerprint_is_the_one_openssl_prints(must: Run, home: Path) -> None:
    shown = subprocess.run(
        [needs("openssl"), "x509", "-in", home / "node.crt", "-noout", "-fingerprint", "-sha256"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert shown.partition("=")[2] == must("id", "--fingerprint").out


@pytest.mark.parametrize("words", [["id"], ["id", "--pem"], ["id", "--fingerprint"], ["id", "--json"]])
def test_it_does_not_need_the_passphrase(locked: Path, words: list[str]) -> None:
    assert peerauth(*words, "--home", locked).code == 0


def test_a_key_that_does_not_belong_to_the_certificate_is_reported(run: Run, home: Path, locked: Path) -> None:
    (home / "node.crt").write_bytes((locked / "safe.crt").read_bytes())
    result = run("id")

    assert result.code == 1
    assert "node.key" in result.err


def test_an_exposed_key_is_warned_about_until_it_is_not(run: Run, home: Path) -> None:
    (home / "node.key").chmod(0o644)
    warned = run("id")
    (home / "node.key").chmod(0o600)

    assert warned.code == 0
    assert "others on this machine can read" in warned.err
    assert "hint: chmod 600" in warned.err
    assert run("id").err == ""


def test_p12_holds_key_and_certificate_for_our_eyes_only(must: Run, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "node.p12"
    must("id", "--p12", file, env=PASSWORD)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shown = subprocess.run(
        [needs("openssl"), "pkcs12", "-in", file, "-passin", "pass:changeit", "-nodes"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert (home / "node.crt").read_text().strip() in shown
    assert "PRIVATE KEY" in shown


def test_p12_takes_its_password_from_a_file(must: Run, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("changeit\r\n")
    must("id", "--p12", tmp_path / "it.p12", "--p12-password-file", secret)

    subprocess.run(
        [needs("openssl"), "pkcs12", "-in", tmp_path / "it.p12", "-passin", "pass:changeit", "-noout"], check=True
    )


def test_p12_overwrites_only_when_told_to(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "it.p12"
    file.write_bytes(b"precious")
    refused = run("id", "--p12", file, env=PASSWORD)

    assert refused.code == 1
    assert "--force" in refused.err
    assert file.read_bytes() == b"precious"
    assert run("id", "--p12", file, "--force", env=PASSWORD).code == 0
    assert file.read_bytes() != b"precious"


@pytest.mark.parametrize(("password", "code"), [("changeit", 0), ("chängeit", 1)])
def test_p12_passwords_are_ascii_because_programs_disagree_on_the_rest(
    run: Run, tmp_path: Path, password: str, code: int
) -> None:
    result = run("id", "--p12", tmp_path / "it.p12", env={"PEERAUTH_P12_PASSWORD": password})

    assert result.code == code
    assert (tmp_path / "it.p12").exists() == (code == 0)


@pytest.mark.parametrize(("password", "warned"), [("change", False), ("chang", True)])
def test_p12_passwords_that_keytool_would_not_take_are_warned_about(
    must: Run, tmp_path: Path, password: str, *, warned: bool
) -> None:
    result = must("id", "--p12", tmp_path / "it.p12", env={"PEERAUTH_P12_PASSWORD": password})
    assert ("keytool" in result.err) == warned


def test_p12_of_a_locked_key_needs_the_passphrase(locked: Path, tmp_path: Path) -> None:
    without = process("id", "--home", locked, "--p12", tmp_path / "it.p12", env=PASSWORD)
    wrong = peerauth("id", "--home", locked, "--p12", tmp_path / "it.p12", env={**PASSWORD, "PEERAUTH_PASSPHRASE": "x"})
    assert (without.code, wrong.code) == (2, 1)
    assert "safe.key" in wrong.err
    assert not (tmp_path / "it.p12").exists()

    right = {**PASSWORD, "PEERAUTH_PASSPHRASE": "sesame"}
    assert peerauth("id", "--home", locked, "--p12", tmp_path / "it.p12", env=right).code == 0


def test_the_environment_may_name_the_passphrase_file(locked: Path, tmp_path: Path) -> None:
    for text, code in (("sesame\nmore\n", 0), ("sesame" * 500, 1)):
        secret = tmp_path / "secret"
        secret.write_text(text)
        env = {**PASSWORD, "PEERAUTH_PASSPHRASE_FILE": str(secret)}
        assert peerauth("id", "--home", locked, "--p12", tmp_path / f"{code}.p12", env=env).code == code


def test_a_passphrase_that_was_mistyped_may_be_typed_again(locked: Path, tmp_path: Path) -> None:
    terminal = Terminal("id", "--home", locked, "--p12", tmp_path / "it.p12", env=PASSWORD)
    for attempt in ("seasme", "sesame"):
        terminal.wait_for("Passphrase of .*: ")
        terminal.type(attempt)
    code, shown = terminal.end()

    assert code == 0, shown
    assert (tmp_path / "it.p12").exists()


def test_three_wrong_passphrases_are_enough(locked: Path, tmp_path: Path) -> None:
    terminal = Terminal("id", "--home", locked, "--p12", tmp_path / "it.p12", env=PASSWORD)
    for _ in range(3):
        terminal.wait_for("Passphrase of .*: ")
        terminal.type("wrong")
    code, shown = terminal.end()

    assert code == 1
    assert "does not open the private key" in shown


@pytest.mark.parametrize(
    "words", [["--pem", "--fingerprint"], ["--pem", "--p12", "x.p12"], ["--p12", "-"], ["--p12"], ["surplus"]]
)
def test_what_does_not_go_together_is_a_usage_error(run: Run, home: Path, words: list[str]) -> None:
    before = tree(home)
    assert run("id", *words, env=PASSWORD).code == 2
    assert tree(home) == before


def test_a_directory_without_a_node_says_how_to_make_one(tmp_path: Path) -> None:
    result = peerauth("id", "--home", tmp_path)

    assert result.code == 1
    assert "is not the home of a node" in result.err
    assert "peerauth keygen" in short(result.err)


def test_above_a_node_it_is_not_proposed_to_make_another(home: Path) -> None:
    """As after `keygen --home db-1`, when the directory was not entered."""
    above = peerauth("id", "--home", home.parent)

    assert above.code == 1
    assert "keygen" not in above.err
    assert short(above.err).endswith(f"name it with --home: {home}\n")


BLOCKS = {" ": (1, 1), "▀": (0, 1), "▄": (1, 0), "█": (0, 0)}  # (upper, lower): 1 is dark


def modules(picture: str) -> list[bytearray]:
    """A QR code as it is printed, as rows of dark and light modules without the quiet zone."""
    rows = []
    for line in picture.splitlines():
        rows += [bytearray(BLOCKS[block][half] for block in line) for half in (0, 1)]
    size = len(rows[0])
    assert not any(any(row) for row in [*rows[:4], *rows[size - 4 : size]])
    return [row[4:-4] for row in rows[4 : size - 4]]


def test_the_qr_code_says_fingerprint_address_and_name(must: Run) -> None:
    result = must("id", "--qr", "--address", "db.example:8443")
    pin = Fingerprint.parse(must("id", "--fingerprint").out)
    link = f"peerauth://{pin.digest.hex()}@db.example:8443?name=node"
    assert result.err == f"{link}\n"
    assert "\x1b" not in result.out
    assert modules(result.out) == list(segno.make_qr(link).matrix)
    assert modules(result.out) != list(segno.make_qr(link.replace("node", "noda")).matrix)
    assert must("id", "--qr", "--address", "db.example", "--json").json["link"] == link
    assert Fingerprint.parse(link) == pin


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_on_a_terminal_light_is_light_whatever_its_colours(home: Path, variables: dict[str, str], coloured: bool) -> None:
    terminal = Terminal("id", "--qr", "--address", "db.example:1", "--home", home, env=variables)
    code, shown = terminal.end()
    assert code == 0
    rows = [line for line in shown.split("\r\n") if "█" in line or "▀" in line]
    assert all((line.startswith("\x1b[97;40m") and line.endswith("\x1b[0m")) is coloured for line in rows)
    picture = "\n".join(line.removeprefix("\x1b[97;40m").removesuffix("\x1b[0m") for line in rows)
    link = Fingerprint.parse(peerauth("id", "--fingerprint", "--home", home).out).link("db.example:1", "node")
    assert modules(picture) == list(segno.make_qr(link).matrix)


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ('"10.1.2.3:9000"', "10.1.2.3:9000"),
        ('"unix:/run/x"', None),
        ('":9000"', "9000"),
        ('"0.0.0.0:9000"', "9000"),
        ('"[::]:9000"', "9000"),
        ('"[2001:db8::1]:9000"', "[2001:db8::1]:9000"),
    ],
)
def test_without_an_address_it_is_where_the_first_service_is_reached(
    must: Run, home: Path, listen: str, expected: str | None
) -> None:
    (home / "config.toml").write_text(f'[node]\nname = "node"\n[[serve]]\nlisten = {listen}\n')
    address = must("id", "--qr", "--json").json["address"]
    host = socket.gethostname()
    assert address == (f"{host}:8443" if expected is None else f"{host}:{expected}" if expected.isdigit() else expected)


def test_an_address_that_leads_nowhere_from_elsewhere_is_warned_about(must: Run) -> None:
    assert "leads nowhere from other machines" in must("id", "--qr", "--address", "127.0.0.1:1").err
    assert "leads nowhere" not in must("id", "--qr", "--address", "127.1.example:1").err


@pytest.mark.parametrize(
    "words",
    [
        ["--qr", "--words"],
        ["--pem", "--words"],
        ["--address", "a:1"],
        ["--qr", "--address", "unix:x"],
        ["--qr", "--address", ":1"],
    ],
)
def test_what_does_not_go_together_is_refused(run: Run, words: list[str]) -> None:
    assert run("id", *words).code == 2


def test_words_can_be_read_to_somebody_who_types_them(must: Run, home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert peerauth("keygen", "other", "--type", "p256", "--home", other).code == 0
    result = must("id", "--words")
    assert "no secret" in result.err
    assert must("id", "--words", "--json").json["words"].split() == result.out.split()
    typed = " ".join(word[:4].upper() for word in result.out.split())
    assert peerauth("peer", "add", home / "node.crt", "--expect", typed, "--home", other).code == 0
    assert result.out.split() == [
        word
        for line in peerauth("peer", "show", "node", "--home", other).out.splitlines()[3:7]
        for word in line.split()
        if word not in {"in", "words:"}
    ]
    wrong = peerauth("peer", "add", home / "node.crt", "--expect", typed.rsplit(" ", 1)[0], "--home", other)
    assert (wrong.code, "and these are 23" in wrong.err) == (2, True)
    other_words = peerauth("id", "--words", "--home", other).out
    assert peerauth("peer", "add", home / "node.crt", "--expect", other_words, "--home", other).code == 3


@pytest.mark.parametrize(("days", "said"), [("20", "expires in 19 days"), ("40", "")])
def test_a_certificate_that_ends_soon_is_warned_about_with_what_to_type(tmp_path: Path, days: str, said: str) -> None:
    assert peerauth("keygen", "node", "--type", "p256", "--days", days, "--home", tmp_path).code == 0
    result = peerauth("id", "--home", tmp_path)
    assert result.code == 0
    assert bool(result.err) == bool(said)
    assert said in result.err
    assert ("peerauth rotate" in short(result.err)) == bool(said)
    assert bool(peerauth("id", "--json", "--home", tmp_path).json["unusual"]) == bool(said)
