"""Every command of the README is typed, its example runs, and what it names exists."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from peerauth import Node, peer_of
from tests.docs.pages import CHECKOUT, blocks, commands, options, prose, rows, sections, spans, typed, what_is_wrong
from tests.docs.terminals import READY, Terminals
from tests.support.programs import needs

README = (CHECKOUT / "README.md").read_text("utf-8")


def test_what_the_terminals_show_is_what_happens(terminals: Terminals) -> None:
    needs("curl")
    console = blocks(README, "console")
    assert console
    assert all(block.terminal for block in console), "a console block needs its <!-- terminal: NAME -->"
    for block in console:
        terminals.type(block)


def test_every_command_named_in_the_text_exists_with_its_options() -> None:
    named = [span for span in spans(README) if typed(span)]
    assert len(named) >= 10
    assert [wrong for span in named for line in typed(span) if (wrong := what_is_wrong(line))] == []


def test_every_option_in_the_table_of_commands_is_one_of_that_row() -> None:
    for what, does in rows(sections(README)["Commands"]):
        command = next(name for name in sorted(commands(), reverse=True) if what.startswith(f"`{name}"))
        named = {word for span in spans(does) for word in span.split() if word.startswith("-") and word != "-"}
        assert named <= options(command), f"{command}: {named - options(command)}"


def test_every_command_has_its_row_in_the_table() -> None:
    table = " ".join(spans("\n".join(what for what, _ in rows(sections(README)["Commands"]))))
    leaves = [name for name, command in commands().items() if not getattr(command, "commands", None)]
    assert [name for name in leaves if name.split()[-1] not in table.split()] == []


def test_every_target_of_make_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z-]+)", "\n".join([*spans(README), *(b.text for b in blocks(README, "sh"))])))
    assert {"demo", "test"} <= named
    assert named <= targets


def test_the_relay_and_the_tunnel_of_the_text_carry_bytes_both_ways(terminals: Terminals, nodes: Path) -> None:
    """The words about real work: a service behind `serve --target`, reached through `connect --listen`."""
    relay, tunnel = (
        found[0] for word in ("serve", "connect") if (found := re.findall(rf"`(peerauth {word} .*?--listen [^`]+)`", README))
    )
    target = re.findall(r"--target (\S+)", relay)
    assert target == re.findall(r"--listen (\S+)", tunnel), "the example uses the same address on both machines"
    relay = terminals.ports.replaced(relay.replace(target[0], "127.0.0.1:8444"))
    tunnel = terminals.ports.replaced(tunnel)

    async def main() -> bytes:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.read()).upper())
            writer.close()

        async with await asyncio.start_server(echo, "127.0.0.1", terminals.ports.number("8444")):
            reader, writer = await asyncio.open_connection("127.0.0.1", terminals.ports.number("5432"))
            writer.write(b"there and back")
            writer.write_eof()
            answer = await reader.read()
            writer.close()
            return answer

    running = [
        terminals.start(["bash", "-c", f"exec {line}"], nodes / home) for line, home in ((relay, "db-1"), (tunnel, "alice"))
    ]
    try:
        for one in running:
            one.wait_for(READY)
        assert asyncio.run(main()) == b"THERE AND BACK"
    finally:
        for one in running:
            one.end()


def test_the_example_of_the_library_serves_a_client_of_the_library(terminals: Terminals, nodes: Path) -> None:
    (example,) = blocks(README, "python")
    assert '`reader, writer = await node.open_connection("db-1")`' in prose(README)

    async def main() -> tuple[str, bytes]:
        node = Node.load(nodes / "alice")
        reader, writer = await node.open_connection("db-1")
        peer = peer_of(writer)
        assert peer is not None
        answer = await reader.read()
        writer.close()
        return peer.name, answer

    server = terminals.start([sys.executable, "-c", terminals.ports.replaced(example.text)], nodes)
    try:
        server.wait_for_port(terminals.ports.number("8443"))
        assert asyncio.run(main()) == ("db-1", b"Hello, alice!\n")
    finally:
        server.end()


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("peerauth serve --listen :1", None),
        ("peerauth serve --liten :1", "'peerauth serve' has no --liten"),
        ("peerauth peer add FILE --expect X", None),
        ("peerauth peer ad FILE", "there is no command 'peerauth peer ad'"),
        ("peerauth kegen", "there is no command 'peerauth kegen'"),
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str, wrong: str | None) -> None:
    assert what_is_wrong(line) == wrong
