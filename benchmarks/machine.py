"""Where the figures come from: the machine, and the version of everything that took part."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import subprocess
from pathlib import Path

from benchmarks.contenders import Contender

_LIBRARY = re.compile(r"(?:[Rr]unning +(?:on|with) +(?:OpenSSL version : )?|^)(OpenSSL \d[\w.]*)", re.MULTILINE)
_GO = re.compile(r"\bgo\d[\w.]*")


def facts() -> dict[str, str]:
    """What a reader needs to judge the figures."""
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "system": _system(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load generator's TLS library": said("openssl", "version").partition(" (")[0],
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def busy() -> float:
    """How many processes wanted to run in the last minute, before the benchmark adds its own."""
    return os.getloadavg()[0]


def version(contender: Contender, program: str) -> str:
    """What the contender says of itself, shortened to the number."""
    if contender.built:
        return contender.built.rpartition("@")[2].removeprefix("v")
    words = list(contender.version)
    text = said(program if words[0] == contender.program else words[0], *words[1:])
    found = re.search(r"\d+\.\d+(?:\.\d+)?(?:[-+~][\w.~+-]*)?", text)
    return found[0] if found else text.strip()[:60] or "unknown"


def library(contender: Contender, program: str) -> str:
    """The TLS library that the contender runs with."""
    words = list(contender.library)
    if words[0] == "go":
        words = ["go", "version", program]
    text = said(program if words[0] == contender.program else words[0], *words[1:])
    if running := _LIBRARY.search(text):
        return running[1]
    go = _GO.search(text)
    return f"Go crypto/tls ({go[0]})" if go else "unknown"


def said(*command: str) -> str:
    """What a command prints, wherever it prints it; "" if it cannot be run."""
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/go/bin"}
    try:
        done = subprocess.run(
            list(command), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=30, env=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _system() -> str:
    for line in Path("/etc/os-release").read_text("utf-8").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return platform.system()
