"""`pair`: two people, two nodes, and three words that one of them reads to the other."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from peerauth.address import DEFAULT_PORT, Address, parse_address
from peerauth.cli.command import command, option
from peerauth.cli.node import load_peers, run
from peerauth.cli.paired import tell
from peerauth.cli.peer_settings import TagOption, read_tags
from peerauth.cli.secret import PassphraseFileOption, load_own
from peerauth.cli.ui import Ui
from peerauth.errors import BadInput, UsageError

if TYPE_CHECKING:
    from peerauth.trust.certificate import Certificate


@command
def pair(
    ui: Ui,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[HOST:PORT [CODE]]", help="Where the other waits, and its three words.")
    ] = None,
    *,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="What we call the other (else what it proposes).", show_default=False)
    ] = None,
    own: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="What we propose to be called there.", show_default=False)
    ] = None,
    tag: TagOption = None,
    listen: Annotated[
        str | None,
        typer.Option("--listen", metavar="ADDRESS", help="Wait here, and not where this node serves.", show_default=False),
    ] = None,
    passphrase_file: PassphraseFileOption = None,
) -> None:
    """Pair with another node by a short code: both pin each other.

    Without an address, it shows a code of three words and waits, for two minutes and three guesses. With one, it is the
    other side; the code is read from standard input where it is not given.
    """
    from peerauth.trust.peers import check_name

    for label, given in (("--name", name), ("--as", own)):
        if given is not None:
            with option(label):
                check_name(given)
    tags = read_tags(tag or ())
    address, code = _where(words or [])
    if address is not None and listen is not None:
        raise UsageError("usage", "--listen is for the side that waits, which is given no address")
    loaded = load_own(ui, passphrase_file)
    config, identity = loaded.config, loaded.identity
    directory = load_peers(ui, config.peers)
    if name is not None and name in directory.current:
        known = f"there is a peer {name} already ({directory.current.peers[name].pins[0]})"
        hint = f"without --name, if it is the same node; else choose another, or first: peerauth peer remove {name}"
        raise BadInput("name-taken", known, hint)
    own = own or config.name
    if address is None:
        from peerauth.cli.pair_waiting import Waiter

        Waiter(ui, config, identity, directory).wait(listen, own, name, tags)
        return

    from peerauth.client.pairing import pair as pair_with
    from peerauth.store.config import reserved_names
    from peerauth.trust.peers import PeerSettings

    before = directory.current
    settings = PeerSettings(address=str(address), tags=tags)

    def pin(certificate: Certificate, proposed: str) -> str:
        reserved = None if name else reserved_names(config)
        return directory.enrol(name or proposed, certificate, settings, reserved)

    called, certificate = run(pair_with(identity, address, code or _read(ui), own, pin))
    tell(ui, called, certificate.fingerprint, certificate, before, paired=True)


def _where(words: list[str]) -> tuple[Address | None, str | None]:
    """The address and the code among the words. Raises UsageError."""
    from peerauth.trust.words import read_code

    if not words:
        return None, None
    first, *rest = words
    try:
        code = read_code(" ".join(words))
    except BadInput:
        pass
    else:
        raise UsageError("usage", "where does the other side wait?", f"peerauth pair HOST:PORT {code}")
    with option("HOST:PORT"):
        address = parse_address(first, default_port=DEFAULT_PORT)
    with option("CODE"):
        return address, read_code(" ".join(rest)) if rest else None


def _read(ui: Ui) -> str:
    """The code from standard input, so that it need not stand in the shell's history; asked for until it can be read."""
    from peerauth.trust.words import read_code

    asking = sys.stdin.isatty()
    while True:
        if asking:
            sys.stderr.write("Code: ")
            sys.stderr.flush()
        line = sys.stdin.readline(1000)
        if not line:
            raise UsageError("no-code", "the code that the other side shows is needed", "peerauth pair HOST:PORT CODE")
        try:
            return read_code(line)
        except BadInput as error:
            if not asking:
                raise
            ui.warn(error.message, error.hint)
