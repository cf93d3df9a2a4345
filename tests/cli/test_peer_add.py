"""`peer add` pins what a person names, says what is unusual about it, and writes nothing unless all of it is fine."""

from __future__ import annotations

import base64
import ipaddress
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.cli import making
from tests.cli.conftest import Run
from tests.cli.making import DAY, Made, fingerprint, make, pem, write
from tests.cli.running import Terminal, process, short, tree


@pytest.fixture
def alice(tmp_path: Path) -> Path:
    """The certificate that alice sent."""
    return write(tmp_path / "alice.crt", pem(make("alice")))


def names(must: Run) -> list[str]:
    return [peer["name"] for peer in must("peer", "list", "--json").json]


def test_it_prints_name_and_fingerprint_and_pins_the_certificate(must: Run, home: Path, tmp_path: Path) -> None:
    made = make("whoever")
    result = must("peer", "add", write(tmp_path / "Alice Smith.pem", pem(made)))

    assert result.out == f"alice-smith {fingerprint(made)}\n"
    assert (home / "peers" / "alice-smith.crt").read_bytes() == pem(made)
    assert "warning" not in result.err
    assert "peerauth id --fingerprint" in result.err


@pytest.mark.parametrize("form", ["pem", "der", "p12", "pem with words around it"])
def test_every_usual_form_is_read(must: Run, home: Path, tmp_path: Path, form: str) -> None:
    made = make("alice")
    data = {
        "pem": pem(made),
        "der": making.der(made),
        "p12": making.archive(made, b"secret"),
        "pem with words around it": b"Bag Attributes\r\n    friendlyName: x\r\n" + pem(made) + b"\nbest regards\n",
    }[form]
    options = ["--passphrase-file", write(tmp_path / "secret", b"secret\n")] if form == "p12" else []
    must("peer", "add", write(tmp_path / "alice.file", data), *options)

    assert (home / "peers" / "alice.crt").read_bytes() == pem(made), "the key of a PKCS12 stays where it is"


def test_standard_input_is_named_by_the_certificate(must: Run) -> None:
    made = make("Carol's Laptop")
    assert must("peer", "add", "-", stdin=pem(made)).out == f"carol-s-laptop {fingerprint(made)}\n"


def test_what_the_shell_makes_of_a_command_is_read(home: Path) -> None:
    """`peer add <(ssh alice peerauth id --pem) --name alice`: a pipe that is open already, not a FIFO to wait for."""
    made = make("x")
    result = process("--home", home, "peer", "add", "/dev/fd/0", "--name", "alice", stdin=pem(made))

    assert result.out == f"alice {fingerprint(made)}\n", result.err


def test_several_files_are_several_peers(must: Run, tmp_path: Path) -> None:
    files = [write(tmp_path / f"{name}.crt", pem(make(name))) for name in ("alice", "bob")]
    result = must("peer", "add", *files)

    assert [line.split()[0] for line in result.out.splitlines()] == ["alice", "bob"]
    assert names(must) == ["alice", "bob"]


def test_several_certificates_in_a_file_are_peers_by_their_names(must: Run, tmp_path: Path) -> None:
    must("peer", "add", write(tmp_path / "all.pem", pem(make("alice"), make("bob"))))
    assert names(must) == ["alice", "bob"]


def test_several_certificates_in_a_file_are_one_peers_where_it_is_named(must: Run, tmp_path: Path) -> None:
    """The overlap of a rotation."""
    old, new = make("alice"), make("alice")
    file = write(tmp_path / "alice.pem", pem(old, new))
    must("peer", "add", file, "--name", "alice")

    assert must("peer", "list", "--json").json[0]["fingerprints"] == [fingerprint(old), fingerprint(new)]
    assert "alice is pinned already" in must("peer", "add", file).err


def test_two_peers_of_one_name_are_refused_unless_it_is_said_that_they_are_one(run: Run, home: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "both.pem", pem(make("alice"), make("alice")))
    before = tree(home)
    result = run("peer", "add", file)

    assert result.code == 1
    assert "--name alice" in result.err
    assert tree(home) == before
    assert run("peer", "add", file, "--name", "alice").code == 0


def test_of_a_chain_the_leaf_is_pinned(must: Run, home: Path, tmp_path: Path) -> None:
    authority = make("Some CA", ca=True)
    leaf = make("alice", issuer=authority)
    result = must("peer", "add", write(tmp_path / "fullchain.pem", pem(leaf, authority)), "--name", "alice")

    assert (home / "peers" / "alice.crt").read_bytes() == pem(leaf)
    assert "left out" in result.err
    assert "issued by a certificate authority" in result.err


def test_adding_twice_changes_nothing_and_is_no_error(must: Run, home: Path, alice: Path) -> None:
    first = must("peer", "add", alice)
    before = tree(home)
    again = must("peer", "add", alice)

    assert "alice is pinned already" in again.err
    assert again.out == first.out
    assert tree(home) == before


def test_a_pinned_certificate_keeps_its_name_whatever_its_file_is_called(
    must: Run, run: Run, home: Path, alice: Path, tmp_path: Path
) -> None:
    must("peer", "add", alice, "--name", "al")
    copy = write(tmp_path / "copy.crt", alice.read_bytes())

    assert must("peer", "add", copy).out.startswith("al ")
    before = tree(home)
    other = run("peer", "add", copy, "--name", "copy")
    assert other.code == 1
    assert "peerauth peer rename al copy" in short(other.err)
    assert tree(home) == before


def test_a_name_that_another_certificate_has_is_refused(run: Run, home: Path, alice: Path, tmp_path: Path) -> None:
    assert run("peer", "add", alice).code == 0
    before = tree(home)
    impostor = write(tmp_path / "impostor.crt", pem(make("alice")))
    result = run("peer", "add", impostor, "--name", "alice")

    assert result.code == 1
    assert "another certificate" in result.err
    assert tree(home) == before
    assert run("peer", "add", impostor).code == 0


@pytest.mark.parametrize(
    "form",
    [
        "{0}",
        "sha256 Fingerprint={0}",
        "SHA256:{1}",
        "{2}",
    ],
)
def test_an_expected_fingerprint_is_read_in_every_usual_form(must: Run, tmp_path: Path, form: str) -> None:
    made = make("alice")
    pin = fingerprint(made)
    raw = bytes.fromhex(pin.replace(":", ""))
    text = form.format(pin, base64.b64encode(raw).decode().rstrip("="), raw.hex())
    result = must("peer", "add", write(tmp_path / "alice.crt", pem(made)), "--expect", text)

    assert "compare" not in result.err


def test_another_certificate_than_expected_is_refused_and_both_are_shown(run: Run, home: Path, alice: Path) -> None:
    """Exit code 3: refused by trust."""
    expected = fingerprint(make("alice"))
    before = tree(home)
    result = run("peer", "add", alice, "--expect", expected, "--note", "x")

    assert result.code == 3
    assert expected in result.err
    assert result.err.count(":") > 62, "the one that was found is shown too"
    assert "alice.crt" in result.err
    assert tree(home) == before


def test_what_is_expected_of_several_is_a_usage_error(run: Run, home: Path, alice: Path, tmp_path: Path) -> None:
    bob = write(tmp_path / "bob.crt", pem(make("bob")))
    before = tree(home)
    assert run("peer", "add", alice, bob, "--expect", fingerprint(make())).code == 2
    assert run("peer", "add", alice, bob, "--name", "both").code == 2
    assert tree(home) == before


def test_notes_are_written_and_left_alone_by_what_does_not_mention_them(must: Run, home: Path, alice: Path) -> None:
    options = ("--note", 'the "heating" ž', "--tag", "ci", "--tag", "prod", "--address", "db.example:8443")
    restrictions = (
        "--from",
        "10.1.2.3/8",
        "--from",
        "2001:db8::1",
        "--max-connections",
        "5",
        "--pin",
        "key",
        "--rotation",
        "ask",
    )
    must("peer", "add", alice, *options, *restrictions, "--until", "2099-01-31")
    must("peer", "add", alice)
    must("peer", "add", alice, "--max-connections", "6")

    noted = tomllib.loads((home / "peers" / "alice.toml").read_text())
    until = noted.pop("until")
    assert noted == {
        "note": 'the "heating" ž',
        "tags": ["ci", "prod"],
        "address": "db.example:8443",
        "from": ["10.0.0.0/8", "2001:db8::1/128"],
        "max_connections": 6,
        "pin": "key",
        "rotation": "ask",
    }
    assert until == datetime(2099, 2, 1, tzinfo=UTC), "a bare date is its end"
    assert ipaddress.ip_network(noted["from"][1]).prefixlen == 128


def test_until_may_be_a_length_of_time(must: Run, alice: Path) -> None:
    must("peer", "add", alice, "--until", "30d")
    until = datetime.fromisoformat(must("peer", "show", "alice", "--json").json["until"])
    assert timedelta(days=29) < until - datetime.now(UTC) <= timedelta(days=30)


@pytest.mark.parametrize(
    ("option", "bad", "good"),
    [
        ("--until", "soon", "2099-01-01"),
        ("--until", "2001-01-01", "2099-01-01T12:00:00Z"),
        ("--until", "90", "90s"),
        ("--until", "999999w", "99w"),
        ("--from", "10.0.0.0/33", "10.0.0.0/32"),
        ("--from", "everywhere", "0.0.0.0/0"),
        ("--address", "db.example", "db.example:1"),
        ("--address", "db.example:65536", "db.example:65535"),
        ("--tag", "two words", "two-words"),
        ("--tag", "", "x"),
        ("--max-connections", "0", "1"),
        ("--pin", "spki", "key"),
        ("--rotation", "sometimes", "never"),
        ("--name", "../alice", "alice"),
        ("--name", "", "a"),
        ("--note", "x" * 1001, "x" * 1000),
        ("--expect", "AB:CD", None),
    ],
)
def test_values_that_cannot_be_are_usage_errors_that_name_the_option(
    run: Run, home: Path, alice: Path, option: str, bad: str, good: str | None
) -> None:
    before = tree(home)
    result = run("peer", "add", alice, option, bad)

    assert result.code == 2
    assert result.err.startswith("error: ")
    assert option in result.err
    assert tree(home) == before
    if good is not None:
        assert run("peer", "add", alice, option, good).code == 0


RSA_1024 = rsa.generate_private_key(65537, 1024)  # noqa: S505 - weak on purpose
RSA_2048 = rsa.generate_private_key(65537, 2048)
FINE = make("alice")


@pytest.mark.parametrize(
    ("odd", "said", "twin"),
    [
        (make("alice", ca=True), "CA:TRUE", FINE),
        (make("alice", key=RSA_1024), "weak", make("alice", key=RSA_2048)),
        (make("alice", end=20 * DAY), "expires in 19 days", make("alice", end=40 * DAY)),
        (make("alice", end=-DAY / 2), "expired 12 hours ago", FINE),
        (make("alice", start=DAY), "not valid before", FINE),
        (make("alice", san=False), "no subjectAltName", FINE),
    ],
)
def test_what_is_unusual_is_said_and_pinned_nevertheless(
    must: Run, tmp_path: Path, odd: Made, said: str, twin: Made
) -> None:
    result = must("peer", "add", write(tmp_path / "odd.crt", pem(odd)), "--json")
    usual = must("peer", "add", write(tmp_path / "twin.crt", pem(twin)))

    assert "warning: odd: it" in result.err
    assert said in result.err
    assert any(said in sentence for sentence in result.json["peers"][0]["unusual"])
    assert said not in usual.err


def test_a_certificate_of_an_authority_suggests_pinning_its_key(must: Run, tmp_path: Path) -> None:
    """Let's Encrypt's last 90 days; whoever has pinned the key is told what is pinned then."""
    issued = write(tmp_path / "web.crt", pem(make("web", issuer=make("authority", ca=True))))
    assert "--pin key" in must("peer", "add", issued).err
    told = must("peer", "add", issued, "--pin", "key").err
    assert "its key is pinned, not its issuer" in told
    assert "--pin key" not in told
    assert "--pin key" not in must("peer", "add", write(tmp_path / "alice.crt", pem(FINE))).err


def test_a_pinned_certificate_that_ends_is_no_news_where_its_key_is_pinned(must: Run, tmp_path: Path) -> None:
    soon = write(tmp_path / "web.crt", pem(make("web", end=3 * DAY)))
    assert "expires in 2 days" in must("peer", "add", soon).err
    must("peer", "add", soon, "--pin", "key")
    (listed,) = must("peer", "list", "--json").json
    assert (listed["expires"], listed["days_left"]) == (None, None)
    assert listed["certificates"][0]["days_left"] == 2
    assert must("peer", "list").out.split("\t")[3] == "key pinned"
    shown = must("peer", "show", "web").out
    assert "its key, in any certificate that is valid" in shown
    assert "unusual" not in shown


RENEWED = making.make("web", end=100 * DAY, key=FINE[0]), making.make("web", end=200 * DAY, key=FINE[0])


@pytest.mark.parametrize("words", [[], ["--name", "web"], ["--name", "web", "--pin", "key"]], ids=" ".join)
def test_a_newer_certificate_over_a_pinned_key_takes_the_place_of_the_old_one(
    must: Run, home: Path, tmp_path: Path, words: list[str]
) -> None:
    """It is admitted already; in `peers/` it is shown, and known to those who must have the certificate itself."""
    old, new = RENEWED
    must("peer", "add", write(tmp_path / "web.crt", pem(old)), "--pin", "key", "--note", "x")
    result = must("peer", "add", write(tmp_path / "fullchain.pem", pem(new)), *words, "--json")

    assert result.json["peers"][0] | {"unusual": []} == {
        "name": "web",
        "fingerprints": [fingerprint(new)],
        "added": False,
        "changed": True,
        "unusual": [],
    }
    assert (home / "peers" / "web.crt").read_bytes() == pem(new)
    facts = must("peer", "show", "web", "--json").json
    assert (facts["pin"], facts["note"], facts["fingerprints"]) == ("key", "x", [fingerprint(new)])
    again = must("peer", "add", tmp_path / "fullchain.pem", *words, "--json").json["peers"][0]
    assert (again["added"], again["changed"]) == (False, False)


def test_where_the_certificate_is_pinned_a_newer_one_over_its_key_is_another(run: Run, home: Path, tmp_path: Path) -> None:
    """The twin: nothing is changed, and pinning the key is suggested; over another key it is not."""
    old, new = RENEWED
    assert run("peer", "add", write(tmp_path / "web.crt", pem(old))).code == 0
    before = tree(home)
    result = run("peer", "add", write(tmp_path / "new.crt", pem(new)), "--name", "web", "--pin", "key")
    other = run("peer", "add", write(tmp_path / "other.crt", pem(make("web"))), "--name", "web", "--pin", "key")

    assert (result.code, other.code) == (1, 1)
    assert "with another certificate" in result.err
    assert "with --pin key if its software always renews it over the same key" in result.err
    assert "--pin key" not in other.err
    assert tree(home) == before


def test_a_pinned_key_is_not_pinned_under_another_name(run: Run, home: Path, tmp_path: Path) -> None:
    old, new = RENEWED
    assert run("peer", "add", write(tmp_path / "web.crt", pem(old)), "--pin", "key").code == 0
    before = tree(home)
    result = run("peer", "add", write(tmp_path / "new.crt", pem(new)), "--name", "web2")

    assert result.code == 1
    assert "this certificate's key is pinned already, as web" in result.err
    assert tree(home) == before


def test_other_keys_of_a_peer_are_not_lost_when_one_is_renewed(run: Run, home: Path, tmp_path: Path) -> None:
    """Two machines under one name: the newer certificate of the one does not push the other out."""
    old, new = RENEWED
    both = write(tmp_path / "web.crt", pem(old, make("second")))
    assert run("peer", "add", both, "--name", "web", "--pin", "key").code == 0
    before = tree(home)
    result = run("peer", "add", write(tmp_path / "new.crt", pem(new)))

    assert result.code == 1
    assert "admitted with this certificate already" in result.err
    assert "web.crt" in result.err
    assert tree(home) == before


def test_the_same_subject_as_another_peer_is_said(must: Run, alice: Path, tmp_path: Path) -> None:
    must("peer", "add", alice)
    twin = must("peer", "add", write(tmp_path / "twin.crt", pem(make("alice"))))
    other = must("peer", "add", write(tmp_path / "other.crt", pem(make("bob"))))

    assert "same subject as the peer alice" in twin.err
    assert "same subject" not in other.err


def test_our_own_certificate_is_warned_about(must: Run, home: Path) -> None:
    assert "this node's own certificate" in must("peer", "add", home / "node.crt").err


@pytest.mark.parametrize("kind", ["pkcs8", "with its certificate", "der"])
def test_a_private_key_is_refused_without_being_shown_or_copied(run: Run, home: Path, tmp_path: Path, kind: str) -> None:
    made = make("alice", key=ec.generate_private_key(ec.SECP256R1()))
    secret = making.key_pem(made)
    data = {
        "pkcs8": secret,
        "with its certificate": pem(made) + secret,
        "der": made[0].private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
    }[kind]
    before = tree(home)
    result = run("peer", "add", write(tmp_path / "oops.pem", data))

    assert result.code == 1
    assert "oops.pem: it holds a private key" in result.err
    assert all(line not in result.out + result.err for line in secret.decode().splitlines()[1:-1])
    assert tree(home) == before
    assert run("peer", "add", write(tmp_path / "right.pem", pem(made))).code == 0


def test_of_several_files_all_are_added_or_none(run: Run, home: Path, alice: Path, tmp_path: Path) -> None:
    before = tree(home)
    broken = write(tmp_path / "bob.crt", pem(make("bob"))[:200])
    result = run("peer", "add", alice, broken)

    assert result.code == 1
    assert "bob.crt" in result.err
    assert result.out == ""
    assert tree(home) == before


def test_one_certificate_under_two_names_is_refused_before_anything_is_written(
    run: Run, home: Path, alice: Path, tmp_path: Path
) -> None:
    before = tree(home)
    result = run("peer", "add", alice, write(tmp_path / "copy.crt", alice.read_bytes()))

    assert result.code == 1
    assert "the same certificate" in result.err
    assert tree(home) == before
    assert run("peer", "add", alice, alice).code == 0


def test_a_pkcs12_without_its_password(home: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "alice.p12", making.archive(make("alice"), b"secret"))
    before = tree(home)
    unasked = process("--home", home, "peer", "add", file)
    wrong = process("--home", home, "peer", "add", file, "--passphrase-file", write(tmp_path / "pw", b"guess"))

    assert (unasked.code, wrong.code) == (2, 1)
    assert "alice.p12" in unasked.err
    assert "--passphrase-file" in unasked.err
    assert "alice.p12: this password does not open" in wrong.err
    assert tree(home) == before


def test_the_password_of_a_pkcs12_is_asked_for_on_a_terminal(home: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "alice.p12", making.archive(make("alice"), b"secret"))
    terminal = Terminal("--home", home, "peer", "add", file)
    terminal.wait_for("Password of .*alice.p12: ")
    terminal.type("secret")
    code, shown = terminal.end()

    assert code == 0, shown
    assert "pinned alice" in shown


def test_json_is_one_value(must: Run, tmp_path: Path) -> None:
    made = make("alice")
    file = write(tmp_path / "alice.crt", pem(made))
    first, again = (must("peer", "add", file, "--json").json["peers"] for _ in range(2))

    told = {"name": "alice", "fingerprints": [fingerprint(made)], "unusual": []}
    assert first == [{**told, "added": True, "changed": True}]
    assert again == [{**told, "added": False, "changed": False}]


def test_a_file_of_ours_that_is_broken_is_not_written_over(run: Run, home: Path, alice: Path) -> None:
    (home / "peers" / "alice.crt").write_bytes(b"half a certif")
    before = tree(home)
    result = run("peer", "add", alice)

    assert result.code == 1
    assert "cannot be used" in result.err
    assert tree(home) == before
    (home / "peers" / "alice.crt").unlink()
    assert run("peer", "add", alice).code == 0


def test_peers_is_made_where_it_is_missing(must: Run, home: Path, alice: Path) -> None:
    (home / "peers").rmdir()
    must("peer", "add", alice)
    assert (home / "peers" / "alice.crt").exists()
