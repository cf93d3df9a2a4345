"""Whether what config.toml describes could run here and now: everything that is wrong with it, and all that is doubtful.

Nothing is changed, nobody is asked, and what is running goes on: an address is tried by binding to it for a moment.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.machinery import PathFinder
from pathlib import Path
from shutil import which

from peerauth.address import Address
from peerauth.errors import BadInput, printable
from peerauth.net.sockets import why_not
from peerauth.store.config import Config, Service, examine_config, read_config
from peerauth.store.document import Document, Mistake
from peerauth.store.files import shown
from peerauth.store.home import key_is_encrypted, read_identity, read_own_certificate
from peerauth.store.kinds import App, Command, Http, Relay, Root
from peerauth.store.peerdir import PeerDirectory
from peerauth.store.places import At
from peerauth.store.roots import check_root
from peerauth.store.socketfile import SocketFile
from peerauth.store.tunnels import doubts
from peerauth.trust import expiry


@dataclass(frozen=True)
class Finding:
    """Something to be looked at: in which line of config.toml, from 1, where it is about one, and what to write or type."""

    code: str
    text: str
    hint: str | None = None
    line: int | None = None


@dataclass(frozen=True)
class Examined:
    """What was found. `config`: without what is wrong. `mistakes` keep it from running; `warnings` may be meant so."""

    config: Config
    mistakes: tuple[Finding, ...]
    warnings: tuple[Finding, ...]


def examine(home: Path, now: datetime, passphrase: bytes | None = None) -> Examined:
    """Look at `home`/config.toml and what it speaks of. Raises BadInput("no-config"), or what keeps it from being read.

    Without its passphrase, an encrypted key is not looked into.
    """
    config, document, places = examine_config(read_config(home), home)
    mistakes = [_as_finding(mistake) for mistake in document.mistakes]
    mistakes += _own(config, document, now, passphrase) if config.name else ()
    directory = PeerDirectory(config.peers)
    directory.refresh()
    warnings = [Finding(problem.code, problem.message) for problem in directory.problems if config.peers.is_dir()]
    for service in config.services:
        block = _Block(document, places[service.listen])
        mistakes += block.cannot_listen(service.listen, warnings, service.file)
        mistakes += _cannot_be(service, config, block)
        warnings += _doubts_about(service, directory, block)
    for tunnel in config.tunnels:
        block = _Block(document, places[tunnel.listen])
        mistakes += block.cannot_listen(tunnel.listen, warnings, tunnel.file)
        warnings += [Finding("doubtful", text, hint, block.line("peer")) for text, hint in doubts(tunnel, directory.current)]
    if not mistakes and not config.services and not config.tunnels:
        mistakes.append(Finding("nothing-to-run", "there is no [[serve]] and no [[tunnel]]: nothing would run"))
    return Examined(config, _sorted(mistakes), _sorted(warnings))


def _as_finding(mistake: Mistake) -> Finding:
    return Finding(mistake.code, mistake.text, mistake.hint, mistake.line)


def _sorted(findings: list[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(dict.fromkeys(findings), key=lambda finding: (finding.line is None, finding.line or 0)))


def _own(config: Config, document: Document, now: datetime, passphrase: bytes | None) -> Iterator[Finding]:
    """The node's own key and certificate, and where its peers are."""
    if not config.peers.is_dir():
        at = document.line(("node", "peers"))
        yield Finding(
            "no-such-file", f"node.peers: there is no directory {config.peers}: nobody would be admitted", None, at
        )
    at = document.line(("node", "certificate"))
    try:
        certificate = read_own_certificate(config)
        if certificate.not_after <= now:
            text = f"node.certificate: this node's certificate {expiry.sentence(certificate.not_after, now)}"
            yield Finding("expired", text, expiry.advice(None, certificate.not_after, now), at)
        if passphrase is not None or not key_is_encrypted(config):
            read_identity(config, passphrase)
    except BadInput as error:
        if str(config.key) in error.message:
            at = document.line(("node", "key"))
        yield Finding(error.code, error.message, error.hint, at)


def _doubts_about(service: Service, directory: PeerDirectory, block: _Block) -> Iterator[Finding]:
    """Names that nobody has, and a target that is not there."""
    policy = service.policy
    for name in sorted(policy.names or ()):
        if name not in directory.current:
            text = f"the service '{service.name}' is for {name}, who is not pinned"
            yield Finding("not-pinned", text, f"peerauth peer add FILE --name {name}", block.line("allow"))
    if policy.names is not None and not policy.names and not policy.tags:
        yield Finding("nobody", f"the service '{service.name}' is for nobody: its allow is empty", None, block.line("allow"))
    for route in service.routes or ():
        for name in sorted((route.policy.names or frozenset()) - (policy.names or frozenset())):
            if name not in directory.current:
                text = f"the route {route} of the service '{service.name}' is for {name}, who is not pinned"
                yield Finding("not-pinned", text, f"peerauth peer add FILE --name {name}", block.line("routes"))
    kind = service.kind
    for target in kind.targets if isinstance(kind, Relay | Http) else ():
        if target.path is not None and not Path(target.path).exists():
            text = f"the service '{service.name}' leads to {target}, which is not there"
            key = "http" if isinstance(kind, Http) else "target"
            yield Finding("target-down", text, "is the program behind it running?", block.line(key))


def _cannot_be(service: Service, config: Config, block: _Block) -> Iterator[Finding]:
    """What keeps the service itself from running. Nothing is imported or started to find that out."""
    match service.kind:
        case Root(directory):
            try:
                check_root(directory, config)
            except BadInput as error:
                yield Finding(error.code, error.message, error.hint, block.line("root"))
        case Command(words, directory=directory):
            program = str((directory or Path()) / words[0]) if "/" in words[0] else words[0]
            if which(program) is None:
                text = f"there is no program {printable(words[0], 80)} that could be started"
                yield Finding("cannot-run", text, "is it installed, and on the PATH?", block.line("command"))
        case App(module=module, directory=directory):
            top = module.partition(".")[0]
            if PathFinder.find_spec(top, [str(directory), *sys.path]) is None:
                text = f"there is no module '{top}' in {shown(directory)}, nor where Python looks"
                yield Finding("app-not-found", text, "app_dir says where it is", block.line("app"))


@dataclass(frozen=True)
class _Block:
    """A [[serve]] or [[tunnel]] block, and where it stands."""

    document: Document
    at: At

    def line(self, key: str) -> int | None:
        """Of one of its keys; of the block, where that is not there."""
        return self.document.line((*self.at, key))

    def cannot_listen(self, address: Address, warnings: list[Finding], file: SocketFile | None = None) -> Iterator[Finding]:
        """What keeps it from listening for good; what may be otherwise in a moment, or for another user, is a warning."""
        error = why_not(address, file)
        if error is None:
            return
        number = error.__cause__.errno if isinstance(error.__cause__, OSError) else None
        passing = number in {errno.EADDRINUSE, errno.EACCES}
        hint = "is this node running already?" if number == errno.EADDRINUSE else error.hint
        finding = Finding(error.code, error.message, hint, self.line("listen"))
        if passing:
            warnings.append(finding)
        else:
            yield finding
