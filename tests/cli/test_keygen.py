"""`keygen` gives a machine an identity, never overwrites one unasked, and says what to type next."""

from __future__ import annotations

import signal
import socket
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from peerauth.cli import keygen
from peerauth.trust.identity import MAXIMUM_DAYS, KeyType
from tests.cli.running import Terminal, peerauth, process, short, tree
from tests.support import needs


def certificate(home: Path, name: str = "node") -> x509.Certificate:
    return x509.load_pem_x509_certificate((home / f"{name}.crt").read_bytes())


def test_it_writes_a_key_for_us_alone_a_certificate_a_config_and_peers(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    result = peerauth("keygen", "db-1", "--type", "p256", "--home", home)

    assert result.code == 0
    assert set(tree(home)) == {"db-1.key", "db-1.crt", "config.toml", "peers"}
    assert stat.S_IMODE((home / "db-1.key").stat().st_mode) == 0o600
    assert 'name = "db-1"' in (home / "config.toml").read_text()


def test_standard_output_is_the_fingerprint_alone_and_the_next_command_is_for_people(tmp_path: Path) -> None:
    result = peerauth("keygen", "db-1", "--type", "p256", "--home", tmp_path)
    pin = peerauth("id", "--fingerprint", "--home", tmp_path).out

    assert result.out == pin
    assert len(pin.strip()) == 95
    assert f"peerauth peer add db-1.crt --expect {pin.strip()}" in result.err
    assert "PRIVATE KEY" not in result.out + result.err


def test_quiet_leaves_the_data(tmp_path: Path) -> None:
    result = peerauth("keygen", "db-1", "--type", "p256", "--home", tmp_path, "-q")

    assert (len(result.out.strip()), result.err) == (95, "")


def test_json_says_the_same_to_a_program(tmp_path: Path) -> None:
    result = peerauth("keygen", "db-1", "--type", "ed25519", "--home", tmp_path, "--json")

    assert result.json["name"] == "db-1"
    assert result.json["key_type"] == "Ed25519"
    assert result.json["fingerprint"] == peerauth("id", "--fingerprint", "--home", tmp_path).out.strip()
    assert result.json["files"]["key"] == str(tmp_path / "db-1.key")
    assert result.json["kept"] == []
    assert result.json["not_after"].endswith("Z")


def test_the_default_certificate_has_the_profile_that_every_stack_accepts(tmp_path: Path) -> None:
    """RSA-4096 and DESIGN's extensions, as the real openssl reads them."""
    openssl = needs("openssl")
    result = peerauth("keygen", "db-1", "--san", "db.example", "--san", "10.1.2.3", "--home", tmp_path)
    assert result.code == 0, result.err

    text = subprocess.run(
        [openssl, "x509", "-in", tmp_path / "db-1.crt", "-noout", "-text"], capture_output=True, text=True, check=True
    ).stdout
    for line in (
        "Version: 3 (0x2)",
        "Public-Key: (4096 bit)",
        "Signature Algorithm: sha256WithRSAEncryption",
        "X509v3 Basic Constraints: critical\n                CA:FALSE",
        "X509v3 Key Usage: critical\n                Digital Signature, Key Encipherment",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "X509v3 Subject Key Identifier",
        "X509v3 Authority Key Identifier",
    ):
        assert line in text
    for name in ("DNS:db-1", "DNS:db.example", "DNS:localhost", "IP Address:127.0.0.1", "IP Address:10.1.2.3"):
        assert name in text

    made = certificate(tmp_path, "db-1")
    identifier = made.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()
    assert made.subject == made.issuer
    assert made.subject.rfc4514_string() == f"2.5.4.5={identifier[:16]},CN=db-1"
    assert timedelta(days=365) > made.not_valid_after_utc - datetime.now(UTC) > timedelta(days=364)


@pytest.mark.parametrize(("kind", "shown"), [("rsa3072", "RSA 3072"), ("p256", "EC P-256"), ("ed25519", "Ed25519")])
def test_the_kind_of_key_can_be_chosen(tmp_path: Path, kind: str, shown: str) -> None:
    assert peerauth("keygen", "n", "--type", kind, "--home", tmp_path, "--json").json["key_type"] == shown


def test_the_options_offer_what_the_trust_room_can_make() -> None:
    """The command spells them out because importing cryptography for --help would be slow."""
    parameters = keygen.keygen.__signature__.parameters  # type: ignore[attr-defined]
    assert set(get_args(get_args(parameters["kind"].annotation)[0])) == set(KeyType)
    assert get_args(parameters["days"].annotation)[1].max == MAXIMUM_DAYS


def test_the_name_is_the_hosts_where_none_is_given(tmp_path: Path) -> None:
    result = peerauth("keygen", "--type", "p256", "--home", tmp_path, "--json")

    assert result.json["name"].startswith(socket.gethostname().partition(".")[0].lower()[:1])
    assert (tmp_path / f"{result.json['name']}.crt").exists()


def test_the_name_is_the_nodes_where_one_lives_here_already(home: Path) -> None:
    result = peerauth("keygen", "--type", "p256", "--force", "--home", home, "--json")

    assert result.json["name"] == "node"


def test_a_key_that_is_there_is_not_touched(home: Path) -> None:
    before = tree(home)
    result = peerauth("keygen", "node", "--type", "p256", "--home", home)

    assert result.code == 1
    assert "is there already" in result.err
    assert "tell every peer: peerauth rotate; " in short(result.err)
    assert "peerauth keygen --force" in short(result.err)
    assert tree(home) == before


def test_force_makes_a_new_pair_and_keeps_the_old_one(home: Path) -> None:
    """Twice within one second as well: nothing is ever lost (promise 4)."""
    keys = [(home / "node.key").read_bytes()]
    for _ in range(2):
        result = peerauth("keygen", "--type", "p256", "--force", "--home", home)
        assert result.code == 0, result.err
        assert "kept the old pair" in result.err
        keys.append((home / "node.key").read_bytes())

    kept = {path.read_bytes() for path in home.glob("node.key.old-*")}
    assert kept == set(keys[:2])
    assert len(list(home.glob("node.crt.old-*"))) == 2
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in home.glob("node.key*"))
    assert peerauth("id", "--home", home).code == 0


def test_another_node_does_not_move_in(home: Path) -> None:
    before = tree(home)
    result = peerauth("keygen", "other", "--type", "p256", "--home", home)

    assert result.code == 1
    assert "is the home of node, not of other" in result.err
    assert tree(home) == before


@pytest.mark.parametrize(
    "words",
    [
        ["UPPER"],
        ["../escape"],
        ["-n"],
        ["n", "--days", "0"],
        ["n", "--days", "36501"],
        ["n", "--days", "many"],
        ["n", "--type", "dsa"],
        ["n", "--san", "not a name"],
        ["n", "--san", ""],
        ["n", "m"],
    ],
)
def test_what_cannot_be_is_a_usage_error_and_writes_nothing(tmp_path: Path, words: list[str]) -> None:
    result = peerauth("keygen", *words, "--home", tmp_path / "home")

    assert result.code == 2
    assert result.err.startswith("error: ")
    assert "hint: " in result.err
    assert not (tmp_path / "home").exists()


def test_a_name_that_cannot_be_comes_with_one_that_can(tmp_path: Path) -> None:
    assert "for instance: my-laptop" in peerauth("keygen", "My Laptop", "--home", tmp_path).err


def test_a_passphrase_from_a_file_encrypts_the_key(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes("pass phräse\nsecond line\n".encode())
    home = tmp_path / "home"
    result = peerauth("keygen", "n", "--type", "p256", "--home", home, "--passphrase", "--passphrase-file", secret)

    key = (home / "n.key").read_bytes()
    assert result.code == 0
    assert b"ENCRYPTED PRIVATE KEY" in key
    load_pem_private_key(key, "pass phräse".encode())
    assert "phr\u00e4se" not in result.out + result.err


@pytest.mark.parametrize("flag", [["--passphrase"], []])
def test_a_passphrase_in_the_environment_encrypts_the_key(tmp_path: Path, flag: list[str]) -> None:
    result = peerauth("keygen", "n", "--type", "p256", "--home", tmp_path, *flag, env={"PEERAUTH_PASSPHRASE": "open"})

    assert result.code == 0
    load_pem_private_key((tmp_path / "n.key").read_bytes(), b"open")


def test_a_passphrase_that_nobody_can_be_asked_for_is_a_usage_error(tmp_path: Path) -> None:
    result = process("keygen", "n", "--type", "p256", "--home", tmp_path / "home", "--passphrase")

    assert result.code == 2
    assert "no terminal" in result.err
    assert "--passphrase-file FILE or $PEERAUTH_PASSPHRASE" in result.err
    assert not (tmp_path / "home").exists()


def test_a_passphrase_is_asked_for_twice_and_not_shown(tmp_path: Path) -> None:
    terminal = Terminal("keygen", "n", "--type", "p256", "--home", tmp_path / "home", "--passphrase")
    terminal.wait_for("Passphrase for the new key: ")
    terminal.type("sesame")
    terminal.wait_for("again: ")
    terminal.type("sesame")
    code, shown = terminal.end()

    assert code == 0
    assert "sesame" not in shown
    load_pem_private_key((tmp_path / "home" / "n.key").read_bytes(), b"sesame")


@pytest.mark.parametrize("second", ["seasme", ""])
def test_passphrases_that_differ_make_nothing(tmp_path: Path, second: str) -> None:
    terminal = Terminal("keygen", "n", "--type", "p256", "--home", tmp_path / "home", "--passphrase")
    terminal.wait_for("Passphrase for the new key: ")
    terminal.type("sesame")
    terminal.wait_for("again: ")
    terminal.type(second)
    code, shown = terminal.end()

    assert code == 1
    assert "did not agree" in shown
    assert not (tmp_path / "home").exists()


def test_ctrl_c_ends_it_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    """RSA is made in C, which does not look for signals. An unusually lucky key may be ready first: try again then."""
    code, home = 0, tmp_path
    for attempt in range(10):
        home = tmp_path / str(attempt)
        terminal = Terminal("keygen", "n", "--home", home)
        terminal.wait_for("making the key")
        terminal.process.send_signal(signal.SIGINT)
        code, shown = terminal.end()
        assert "Traceback" not in shown
        if code != 0:
            break
    assert code == 130
    assert not home.exists()
