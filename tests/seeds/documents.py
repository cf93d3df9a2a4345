"""The certificates of the five documents, made by the documents' own commands.

Where a document leaves a command to its Makefile (000) or its pictures (003), the usual one stands in.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.seeds.actors import Home, Pair, must

PASSWORD = "changeit"  # noqa: S105 - the document's own

_DEFAULTS = "\n" * 5
"""Country, state, locality, organisation, unit: return is pressed, as people do."""

_SERVER_CONFIG = """\
[req]
distinguished_name = dn
req_extensions = req_ext
prompt = no
[dn]
O = Example
CN = {name}
[req_ext]
subjectAltName = DNS:localhost, IP:127.0.0.1
"""

_CLIENT_CONFIG = """\
[req]
distinguished_name = dn
req_extensions = req_ext
prompt = no
[dn]
O = Example
CN = {name}
[req_ext]
extendedKeyUsage = clientAuth
"""


@dataclass(frozen=True)
class Leaves:
    """What one CA issued: two leaves to pin, and two more of the same kind that nobody pins."""

    place: Path

    def pair(self, name: str) -> Pair:
        """Return the leaf and its key."""
        return Pair(self.place / f"{name}.crt", self.place / f"{name}.key")

    @property
    def ca(self) -> Path:
        """The CA's certificate."""
        return self.place / "ca.crt"

    @property
    def server(self) -> Pair:
        """The server's leaf."""
        return self.pair("server")

    @property
    def client(self) -> Pair:
        """The client's leaf."""
        return self.pair("client")

    @property
    def other_server(self) -> Pair:
        """Made as the server's was, by the same CA, with the same subject."""
        return self.pair("other-server")

    @property
    def other_client(self) -> Pair:
        """Made as the client's was, by the same CA, with the same subject."""
        return self.pair("other-client")


def answers(common_name: str) -> str:
    """What a person types when `openssl req` asks for a distinguished name."""
    return f"{_DEFAULTS}{common_name}\n\n"


def shell(line: str, place: Path, *, stdin: str = "") -> str:
    """Run one line of a document."""
    return must(*shlex.split(line), cwd=place, stdin=stdin)


def together(make: Callable[[str], object], names: Iterable[str]) -> None:
    """Make several at the same time: most of it is the search for primes."""
    with ThreadPoolExecutor() as workers:
        list(workers.map(make, names))


def seed_000(place: Path) -> None:
    """`make all`: a CA, a server's and a client's certificate."""
    shell("openssl req -x509 -newkey rsa:2048 -nodes -days 365 -keyout ca.key -out ca.crt -subj /CN=ca", place)
    (place / "san.cnf").write_text("subjectAltName = DNS:localhost, IP:127.0.0.1\n")
    for file in ("server", "client", "other-server", "other-client"):
        name = "localhost" if file.endswith("server") else "client"
        shell(f"openssl req -newkey rsa:2048 -nodes -keyout {file}.key -out {file}.csr -subj /CN={name}", place)
        shell(
            f"openssl x509 -req -in {file}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out {file}.crt -days 365 "
            "-sha256 -extfile san.cnf",
            place,
        )


def seed_001(place: Path) -> None:
    """Self-signed, RSA-4096, CA:TRUE: step 1 of the document, for the server, the client and the bad client."""

    def make(who: str) -> None:
        shell(
            f"openssl req -nodes -x509 -newkey rsa:4096 -keyout {who}Key.pem -out {who}Crt.pem -days 365",
            place,
            stdin=answers("localhost" if who == "server" else "client"),
        )

    together(make, ("server", "client", "bad"))


def seed_002(place: Path) -> None:
    """Steps one to seven of the document."""
    shell("openssl req -new -x509 -nodes -days 365 -subj '/CN=my-ca' -keyout ca.key -out ca.crt", place)
    for file in ("server", "client", "other-server", "other-client"):
        name = "localhost" if file.endswith("server") else "my-client"
        shell(f"openssl genrsa -out {file}.key 2048", place)
        shell(f"openssl req -new -key {file}.key -subj '/CN={name}' -out {file}.csr", place)
        shell(
            f"openssl x509 -req -in {file}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -out {file}.crt",
            place,
        )


def seed_003(place: Path) -> None:
    """Key stores by keytool: the server's line is the document's; the client's and the bad client's are made like it."""

    def make(who: str) -> None:
        shell(
            f'keytool -genkeypair -alias {who} -keyalg RSA -keysize 4096 -validity 365 -dname "CN={who.capitalize()},'
            f'OU=Server,O=Examples,L=,S=CA,C=U" -keypass {PASSWORD} -keystore {who}.p12 -storeType PKCS12 '
            f"-storepass {PASSWORD}",
            place,
        )
        shell(f"keytool -export -alias {who} -file {who}.cer -keystore {who}.p12 -storepass {PASSWORD}", place)

    together(make, ("server", "client", "bad"))


def truststore(place: Path, name: str, *certs: Path) -> Path:
    """Set up trust as step 3 of document 003 does."""
    store = place / f"{name}.p12"
    for number, cert in enumerate(certs):
        must(
            *("keytool", "-import", "-noprompt", "-alias", f"peer-{number}", "-file", cert),
            *("-keystore", store, "-storepass", PASSWORD, "-storetype", "PKCS12"),
            cwd=place,
        )
    return store


def seed_004(place: Path) -> None:
    """The commands of the document, with the configuration files that it mentions."""
    shell("openssl genrsa -out ca.key 2048", place)
    shell("openssl req -x509 -new -nodes -key ca.key -sha256 -days 3650 -out ca.crt", place, stdin=answers("Example CA"))
    for file in ("server", "client", "other-server", "other-client"):
        if file.endswith("server"):
            config, text = f"{file}.openssl.cnf", _SERVER_CONFIG.format(name="localhost")
        else:
            config, text = f"{file}.openssl_client.cnf", _CLIENT_CONFIG.format(name="client")
        (place / config).write_text(text)
        shell(f"openssl genrsa -out {file}.key 2048", place)
        shell(f"openssl req -new -key {file}.key -out {file}.csr -config {config}", place)
        shell(
            f"openssl x509 -req -in {file}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out {file}.crt -days 365 "
            f"-sha256 -extensions req_ext -extfile {config}",
            place,
        )


def keygen(place: Path, name: str, *options: str) -> Home:
    """Make a node."""
    home = Home(place / name, name)
    home.path.mkdir()
    result = home.peerauth("keygen", name, *options)
    assert result.code == 0, result.err
    return home
