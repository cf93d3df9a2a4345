"""What has to be installed: the contenders, a compiler, and ghostunnel, which is built."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from benchmarks.contenders import GHOSTUNNEL, Contender
from benchmarks.running import Failed

BUILD_S = 900.0


def missing(contenders: Iterable[Contender]) -> list[str]:
    """Return the Debian packages that are missing for these contenders and for the generator."""
    wanted = [contender.package for contender in contenders if contender.package and contender.find() is None]
    if any(contender.name == "nginx stream" for contender in contenders) and not _nginx_has_streams():
        wanted.append("libnginx-mod-stream")
    if shutil.which("cc") is None:
        wanted.append("gcc")
    if not Path("/usr/include/openssl/ssl.h").exists():
        wanted.append("libssl-dev")
    return list(dict.fromkeys(wanted))


def _nginx_has_streams() -> bool:
    return Path("/usr/lib/nginx/modules/ngx_stream_module.so").exists()


def install(packages: list[str]) -> str:
    """Install packages where that is allowed; return what a person has to know or type, "" when all is there."""
    if not packages:
        return ""
    words = f"apt-get install --no-install-recommends {' '.join(packages)}"
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return f"missing, and only root on a Debian can install them here: sudo {words}"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    done = subprocess.run([*words.split(), "--yes", "--quiet"], env=environment, capture_output=True, check=False)
    return f"{words}: {done.stderr.decode('utf-8', 'replace')[-300:]}" if done.returncode else ""


def ghostunnel(directory: Path) -> Path:
    """Return ghostunnel's program, built from the sources of its Go module when it is not there yet.

    Built in a copy of the module, so that its own go.sum says which dependencies are the right ones.

    Raises:
        Failed: there is no Go, no module proxy, or it does not build.

    """
    program = directory / f"ghostunnel-{GHOSTUNNEL.built.rpartition('@')[2]}" / "ghostunnel"
    if program.exists():
        return program
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise Failed("no Go toolchain")
    module = _go(go, directory, "mod", "download", "-json", GHOSTUNNEL.built)
    sources = next(line.split('"')[3] for line in module.splitlines() if '"Dir"' in line)
    copy = directory / "ghostunnel-sources"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(sources, copy)
    for path in [copy, *copy.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)
    _go(go, copy, "build", "-mod=readonly", "-o", str(program), ".")
    return program


def _go(go: str, directory: Path, *words: str) -> str:
    directory.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PATH": f"{Path(go).parent}:{os.environ['PATH']}"}
    try:
        done = subprocess.run(
            [go, *words], cwd=directory, env=environment, capture_output=True, check=False, timeout=BUILD_S
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"go {words[0]} took longer than {BUILD_S:g} s") from None
    if done.returncode:
        raise Failed(f"go {words[0]}: {(done.stderr or done.stdout).decode('utf-8', 'replace').strip()[-300:]}")
    return done.stdout.decode()
