"""Programs that are measured: started on one core, waited for, weighed (memory, CPU time) and stopped."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

CONTENDER_CORE, LOAD_CORE = "0", "1"
STOP_S = 5.0
_TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A contender could not do what was measured; the text is the reason that the report gives."""


def pinned(core: str | None, command: Sequence[str]) -> list[str]:
    """Return the command as one that runs on these cores only (`0`, `0,1`), or as it is, where there are no such cores."""
    there = core is not None and set(map(int, core.split(","))) <= os.sched_getaffinity(0)
    return ["taskset", "-c", str(core), *command] if there else list(command)


class Running:
    """A program and the processes that it started. Its output goes to a file, the same for everybody."""

    def __init__(
        self, command: Sequence[str], directory: Path, core: str | None, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log = directory / "output.txt"
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                pinned(core, command),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, "HOME": str(directory), **(environment or {})},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it, politely first; whatever it started and left behind too."""
        everybody = self.processes()
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for process in everybody[1:]:
            if os.path.exists(f"/proc/{process}/stat") and _session(process) == self._process.pid:  # noqa: PTH110 - procfs
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)

    def check(self) -> None:
        """Raise `Failed` with its last words if it has ended."""
        if self._process.poll() is not None:
            raise Failed(f"it ended: {self.last_words()}")

    def last_words(self) -> str:
        """The end of what it printed."""
        lines = self.log.read_text("utf-8", "replace").strip().splitlines()
        return " / ".join(lines[-2:])[-300:] or "without a word"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the first of its processes."""
        self._process.send_signal(number)

    def processes(self) -> list[int]:
        """Its process and all their children that are alive, itself first."""
        found = [self._process.pid]
        for process in found:
            with contextlib.suppress(OSError):
                for children in Path(f"/proc/{process}/task").glob("*/children"):
                    found += map(int, children.read_text("ascii").split())
        return found

    def private_memory(self) -> float:
        """Memory that is nobody else's, in KiB, over all its processes."""
        total = 0
        for process in self.processes():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{process}/smaps_rollup").read_text("ascii").splitlines():
                    if line.startswith(("Private_Clean:", "Private_Dirty:")):
                        total += int(line.split()[1])
        return float(total)

    def cpu_seconds(self) -> float:
        """CPU time of all its processes that are alive, in seconds."""
        ticks = 0
        for process in self.processes():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{process}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
        return ticks / _TICKS

    def wait_for(self, what: Callable[[], bool], limit_s: float, name: str) -> None:
        """Wait until `what` is so.

        Raises:
            Failed: it ended, or `limit_s` seconds have passed.

        """
        until = time.monotonic() + limit_s
        while not what():
            self.check()
            if time.monotonic() > until:
                raise Failed(f"gave up after {limit_s:.0f} s: {name}")
            time.sleep(0.002)


def _session(process: int) -> int:
    with contextlib.suppress(OSError):
        return os.getsid(process)
    return -1


def listens(port: int) -> bool:
    """Say whether somebody listens on 127.0.0.1:port, without disturbing them."""
    wanted = f"0100007F:{port:04X}"
    with Path("/proc/net/tcp").open(encoding="ascii") as table:
        next(table)  # the heads of the columns
        for line in table:
            _, local, _, state, *_ = line.split()
            if state != "0A":
                return False  # listeners come first, and after them perhaps 40 000 others
            if local == wanted:
                return True
    return False


def free_ports(count: int) -> list[int]:
    """Ports that nobody uses just now, below those that the kernel gives to clients, which would soon take them."""
    return list(_free_ports(count))


def _free_ports(count: int) -> Iterator[int]:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
    start = 10000 + os.getpid() * 7 % max(first - 12000, 1)
    for port in range(start, start + 1500):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port
        count -= 1
        if not count:
            return
    raise Failed("no free ports")


def raise_file_limit() -> int:
    """Raise the limit of open files as far as allowed, for us and what we start; return it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for wanted in (200_000, hard):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
            return wanted
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
