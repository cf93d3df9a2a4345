"""The service that the options of `serve` describe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from peerauth.address import DEFAULT_PORT, Address, parse_address
from peerauth.cli.command import option
from peerauth.errors import UsageError

if TYPE_CHECKING:
    from peerauth.store.config import Config, Service
    from peerauth.store.kinds import Http, Interface, Kind, OnUnknown, Relay


@dataclass(frozen=True)
class Described:
    """What was given, option by option; nothing of it is read yet."""

    listen: list[str]
    target: list[str] | None = None
    http: list[str] | None = None
    root: str | None = None
    app: str | None = None
    words: list[str] | None = None
    app_dir: Path | None = None
    interface: Interface | None = None
    proxy_protocol: Literal["v2"] | None = None
    speaks: Literal["http", "tcp"] | None = None
    allow: list[str] | None = None
    on_unknown: OnUnknown | None = None

    @property
    def anything(self) -> bool:
        """Whether a service is described at all; otherwise those of config.toml are meant."""
        return bool(self.listen or self.allow or self.on_unknown or self._given())

    def services(self, config: Config) -> tuple[Service, ...]:
        """The service, once for each place where it listens; those of config.toml where no option describes any."""
        from peerauth.store.config import Service, policy_for
        from peerauth.store.kinds import Hello, check_on_unknown

        given = self._given()
        self._check(list(given))
        if not self.anything:
            if config.services:
                return config.services
            return (Service("hello", Address("0.0.0.0", DEFAULT_PORT)),)  # noqa: S104 - a server serves
        kind: Kind = Hello()
        for name, make in given.items():
            with option(name):
                kind = make()
            if not self.listen:
                raise UsageError("no-listen", f"{name} needs --listen", "for instance: --listen 0.0.0.0:8443")
        with option("--listen"):
            addresses = [parse_address(text, what="address") for text in self.listen or [f"0.0.0.0:{DEFAULT_PORT}"]]
        name = type(kind).__name__.lower()
        with option("--allow"):
            policy = policy_for(config, name, self.allow)
        with option("--on-unknown"):
            on_unknown = check_on_unknown(self.on_unknown or "refuse", kind)
        return tuple(Service(name, address, kind, policy, on_unknown) for address in addresses)

    def _given(self) -> dict[str, Callable[[], Kind]]:
        """What makes a kind of service of each option that says what it is."""
        from peerauth.store import kinds

        target, http, root, app, words = self.target, self.http, self.root, self.app, self.words
        given: dict[str, Callable[[], Kind]] = {}
        if target:
            given["--target"] = lambda: kinds.relay(target, proxy_protocol=self.proxy_protocol is not None)
        if http:
            given["--http"] = lambda: kinds.http(http)
        if root is not None:
            given["--root"] = lambda: kinds.root(root)
        if app is not None:
            given["--app"] = lambda: kinds.app(app, Path.cwd() / (self.app_dir or "."), self.interface or "auto")
        if words:
            given["COMMAND"] = lambda: kinds.run(words, self._way())
        return given

    def _check(self, given: list[str]) -> None:
        """Raise UsageError where options do not go together."""
        if len(given) > 1:
            raise UsageError("two-kinds", f"{' and '.join(given)} are different things to be", "a service is one of them")
        for name, value, needed in (
            ("--proxy-protocol", self.proxy_protocol, ("--target", "COMMAND")),
            ("--speaks", self.speaks, ("COMMAND",)),
            ("--app-dir", self.app_dir, ("--app",)),
            ("--interface", self.interface, ("--app",)),
        ):
            if value is not None and not set(needed) & set(given):
                raise UsageError("usage", f"{name} goes with {' or '.join(needed)}", "see: peerauth serve --help")
        if self.words and self.speaks != "tcp" and self.proxy_protocol:
            problem = "--proxy-protocol is for no program that speaks HTTP: it is told in header fields who the peer is"
            raise UsageError("usage", problem, "for another one: --speaks tcp")

    def _way(self) -> Http | Relay:
        """How connections go on to COMMAND."""
        from peerauth.store.kinds import Http, Relay

        if self.speaks == "tcp":
            return Relay((), self.proxy_protocol is not None)
        return Http(())
