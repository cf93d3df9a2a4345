"""ssh through `peerauth connect` as its ProxyCommand, to an sshd that listens on loopback alone."""

from __future__ import annotations

import getpass
import hashlib
import os
import random
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.real.conftest import Launch
from tests.seeds.actors import DEADLINE_S, ENVIRONMENT, Home, must
from tests.seeds.conftest import Serve
from tests.support import needs
from tests.support.targets import unused_port

CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {place}/host
AuthorizedKeysFile {place}/user.pub
PidFile none
PasswordAuthentication no
PermitRootLogin yes
StrictModes no
UsePAM no
"""


@dataclass(frozen=True)
class Ssh:
    """A user of an sshd that is reached through the node."""

    place: Path
    port: int

    def run(self, home: Home, command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a command over there, reached with the certificate of this home."""
        proxy = [sys.executable, "-m", "peerauth", "connect", f"127.0.0.1:{self.port}", "--peer", "node"]
        options = {
            "ProxyCommand": shlex.join([*proxy, "--home", str(home.path)]),
            "UserKnownHostsFile": f'"{self.place}/known_hosts"',
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
        }
        given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return subprocess.run(
            [needs("ssh"), "-F", "none", "-i", self.place / "user", *given, f"{getpass.getuser()}@the-host", command],
            input=stdin,
            capture_output=True,
            env=ENVIRONMENT,
            timeout=DEADLINE_S,
            check=False,
        )


@pytest.fixture
def ssh(node: Home, tmp_path: Path, launch: Launch, serve: Serve) -> Ssh:
    """An sshd of this test's own, behind the node."""
    sshd, keygen, port = needs("sshd"), needs("ssh-keygen"), unused_port()
    for name in ("host", "user"):
        must(keygen, "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name, cwd=tmp_path)
    (tmp_path / "known_hosts").write_text(f"the-host {(tmp_path / 'host.pub').read_text()}")
    (tmp_path / "sshd_config").write_text(CONFIG.format(port=port, place=tmp_path))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd asks for it, and a container has nobody who makes it
    launch(sshd, "-D", "-e", "-f", tmp_path / "sshd_config", cwd=tmp_path).line("Server listening on 127.0.0.1")
    return Ssh(tmp_path, serve(node, "--target", f"127.0.0.1:{port}").port)


def test_ssh_carries_megabytes_both_ways_unharmed(ssh: Ssh, caller: Home, tmp_path: Path) -> None:
    data = random.Random(4).randbytes(8_000_000)  # noqa: S311 - noise, so that nothing compresses it
    there = ssh.run(caller, f"cat > {shlex.quote(str(tmp_path / 'sent'))} && echo done", data)
    assert (there.returncode, there.stdout) == (0, b"done\n"), there.stderr
    assert hashlib.sha256((tmp_path / "sent").read_bytes()).digest() == hashlib.sha256(data).digest()

    back = ssh.run(caller, f"cat {shlex.quote(str(tmp_path / 'sent'))}; exit 7")
    assert back.returncode == 7, back.stderr
    assert hashlib.sha256(back.stdout).digest() == hashlib.sha256(data).digest()


def test_ssh_of_a_stranger_never_reaches_the_sshd(ssh: Ssh, stranger: Home, node: Home) -> None:
    stranger.pin("node", node.pair.cert)
    refused = ssh.run(stranger, "echo in")
    assert (refused.returncode, refused.stdout) == (255, b"")
    assert b"refused us: our certificate is not pinned there" in refused.stderr
