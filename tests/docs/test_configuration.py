"""docs/configuration.md has every key that the program knows and no other, and the example node of this repository runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from peerauth.store.config import parse_config
from peerauth.store.peerfile import parse_settings
from peerauth.store.schema import Table
from tests.cli.running import peerauth
from tests.docs.pages import CHECKOUT, Block, rows, sections, spans
from tests.docs.terminals import Terminals
from tests.support.programs import needs

PAGE = (CHECKOUT / "docs/configuration.md").read_text("utf-8")
HOME = Path("home")
NOTED = "What a rotation notes there"
OF_KINDS = {  # keys of one kind of service
    **dict.fromkeys(("app_dir", "interface"), 'app = "main:app"\n'),
    "speaks": 'command = ["x"]\n',
}
FREE = "groups"  # its keys are a person's own

Parse = Callable[[str], object]


def config(text: str) -> object:
    return parse_config(text.encode(), HOME)


def settings(text: str) -> object:
    return parse_settings(text.encode(), HOME / "peers/alice.toml")


def listed(section: str) -> dict[str, str]:
    """The keys of a section with their defaults, as TOML; empty where there is none."""
    found = {}
    for key, _, default, _ in rows(sections(PAGE)[section]):
        (name,) = spans(key)
        found[name] = "".join(spans(default))
    return found


def asked_for(parse: Parse, text: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Every key that the program looks for while it reads this."""
    asked: set[str] = set()
    real = Table._get

    def spy(table: Table, key: str, *expected: object) -> object:
        asked.add(f"{table._prefix}{key}")
        return real(table, key, *expected)  # type: ignore[arg-type]

    def has(table: Table, key: str) -> bool:
        asked.add(f"{table._prefix}{key}")
        return key in table._values

    monkeypatch.setattr(Table, "_get", spy)
    monkeypatch.setattr(Table, "has", has)
    parse(text)
    return asked


def test_every_key_of_config_toml_is_listed_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = (
        "",
        'app = "main:app"\n',
        'root = "x"\n',
        'target = ":2"\n',
        'command = ["x"]\n',
        'http = ":2"\nroutes = [{ path = "/" }]\n',
    )
    serve = '[node]\nname = "x"\n[[serve]]\nlisten = ":1"\n'
    tunnel = '[[tunnel]]\nlisten = ":2"\npeer = "y"\n'
    known = set().union(*(asked_for(config, serve + kind + tunnel, monkeypatch) for kind in kinds))
    tables = {
        "node": "[node]",
        "tunnel[1]": "[[tunnel]]",
        "serve[1]": "[[serve]]",
        "serve[1].routes[1]": "[[serve.routes]]",
        "limits": "[limits]",
        "refusals": "[refusals]",
        "rotation": "[rotation]",
    }
    assert known - {"node", "serve", "tunnel", "limits", "refusals", "rotation", FREE} == {
        f"{prefix}.{key}" for prefix, section in tables.items() for key in listed(section)
    }


def test_every_key_of_a_peers_notes_is_listed_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked_for(settings, "", monkeypatch) == {*listed("peers/NAME.toml"), *listed(NOTED)}


def test_a_default_is_what_an_unset_key_means() -> None:
    node = '[node]\nname = "x"\n'
    serve = f'{node}[[serve]]\nlisten = ":1"\n'
    tunnel = f'{node}[[tunnel]]\nlisten = ":1"\npeer = "y"\n'
    limits = f"{node}[limits]\n"
    compared = 0
    for section, start, parse in (
        ("[node]", node, config),
        ("[[serve]]", serve, config),
        ("[[tunnel]]", tunnel, config),
        ("[limits]", limits, config),
        ("[refusals]", f"{node}[refusals]\n", config),
        ("[rotation]", f"{node}[rotation]\n", config),
        ("peers/NAME.toml", "", settings),
    ):
        for key, default in listed(section).items():
            if default:
                before = start + OF_KINDS.get(key, "")
                assert parse(f"{before}{key} = {default}\n") == parse(before), key
                compared += 1
    assert compared >= 12


def test_a_key_that_is_not_listed_is_an_error() -> None:
    """The twin of all of the above: what is not in the tables is not read."""
    assert config('[node]\nname = "x"\n')
    with pytest.raises(Exception, match=r"unknown setting 'node\.colour'"):
        config('[node]\nname = "x"\ncolour = "red"\n')


def uncommented(text: str) -> str:
    """The example with everything in it that is commented out, and is not a sentence."""
    setting = re.compile(r"^# (?=\[+\w+\]+$|[a-z_]+ = )", re.MULTILINE)
    return setting.sub("", text)


def test_every_setting_that_the_example_comments_out_is_valid() -> None:
    example = (CHECKOUT / "config.toml").read_text("utf-8")
    full = uncommented(example)
    known = {
        key
        for section in ("[node]", "[[serve]]", "[[tunnel]]", "[limits]", "[refusals]", "[rotation]")
        for key in listed(section)
    }
    shown = set(re.findall(r"^([a-z_]+) = ", full, re.MULTILINE))
    assert known <= shown, f"the example does not show {known - shown}"
    assert config(full) != config(example)


def test_the_example_is_a_node_that_runs(terminals: Terminals) -> None:
    home = terminals.directory / "example"
    home.mkdir()
    shutil.copytree(CHECKOUT / "peers", home / "peers")
    (home / "config.toml").write_text(terminals.ports.replaced((CHECKOUT / "config.toml").read_text("utf-8")))
    alice = terminals.directory / "alice"
    assert peerauth("keygen", "alice", "--type", "p256", "--home", alice).code == 0
    port = terminals.ports.number("8443")
    lines = f"""\
$ cd example && peerauth keygen --type p256
AB:CD:EF:12:…
$ peerauth peer add ../alice/alice.crt
alice AB:CD:EF:12:…
$ peerauth serve
example says hello on 127.0.0.1:{port} for 1 peer: alice
… admitted: alice from 127.0.0.1:…
"""
    terminals.type(Block("console", lines, "example"))
    lines = f"""\
$ cd alice && peerauth peer add ../example/example.crt --address localhost:{port}
example AB:CD:EF:12:…
$ peerauth get https://example/hello
Hello, alice!
"""
    terminals.type(Block("console", lines, "alice"))


def test_the_notes_that_the_example_shows_are_valid() -> None:
    (block,) = re.findall(r"```toml\n(.*?)```", (CHECKOUT / "peers/README.md").read_text("utf-8"), re.DOTALL)
    assert set(re.findall(r"^([a-z_]+) = ", block, re.MULTILINE)) == set(listed("peers/NAME.toml"))
    assert settings(block)


def test_the_example_is_part_of_the_repository() -> None:
    """Whoever clones it has the example; what is tried out beside it is theirs."""
    asked = ["config.toml", "peers/README.md", "peers/alice.crt", "example.key", "example.crt"]
    git = [needs("git"), "-c", "safe.directory=*", "check-ignore", *asked]
    done = subprocess.run(git, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if done.returncode > 1:
        pytest.skip("not a git checkout")
    assert done.stdout.split() == ["peers/alice.crt", "example.key", "example.crt"]
