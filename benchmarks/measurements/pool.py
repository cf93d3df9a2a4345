"""The size of the pool: what 1, 100, 10 000 and 100 000 peers cost, and when a change of it takes effect."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from ssl import SSLSocket

from benchmarks.bench import Bench, Measurement, Set
from benchmarks.contenders import Contender
from benchmarks.identities import pool
from benchmarks.load import Load, sample
from benchmarks.measurements.caller import Caller
from benchmarks.results import Column, Sample, Sheet
from benchmarks.running import CONTENDER_CORE, Failed

SIZES = (1, 100, 10_000, 100_000)
GIVE_UP_S = 60.0
SETTLE_S = 8.0  # after the start, before handshakes are counted: what a program still does then is no part of a handshake
SURE = 3  # so often in a row: while a program reloads, its old and its new process answer in turn
PINGS_S = 4.0  # round trips of other connections, while peers come and go
LIVES_ON_S = 1.0  # a connection that is still there so long after its peer is refused, stays
MOST_ROUNDS = 3
COLUMNS = (
    Column("load_s", "start to first handshake", "s", "less"),
    Column("memory_mb", "private memory", "MB", "less"),
    Column("rate", "full handshakes", "1/s", "more"),
    Column("added_ms", "a new peer enters after", "ms", "less"),
    Column("removed_ms", "a removed peer is refused after", "ms", "less"),
    Column("cut_ms", "its open connection ends after", "ms", "less"),
    Column("stall_ms", "slowest round trip of 8 others meanwhile", "ms", "less"),
)


def plan(bench: Bench, contenders: Sequence[Contender]) -> list[Measurement]:
    """Plan one sheet for each size, measured in the same rounds."""
    return [
        Measurement(
            Sheet(f"pool-{size}", "pool", f"A pool of {size:,} peers".replace(",", " "), COLUMNS),
            {contender.name: _pool(bench, contender, size) for contender in contenders},
            MOST_ROUNDS,
        )
        for size in (SIZES[:3] if bench.quick else SIZES)
    ]


def _pool(bench: Bench, contender: Contender, size: int) -> Callable[[], Sample]:
    def measure() -> Sample:
        others = pool(bench.cache / f"pool-{size}", size)
        place = bench.place(contender, peers=others)
        program = bench.programs[contender.name]
        load = Load(bench.generator, place.listen, bench.identity("client", "p256"), place.target, contender.http)
        contender.lay_out(place)
        for peer in others:
            peer.read_bytes()  # so that everybody finds them in memory, not only whoever comes second
        try:
            with load.holding("backend"):
                start = time.perf_counter()
                with contender.start(place, program, CONTENDER_CORE) as running:
                    first = Caller(place.listen, load.client, http=contender.http)
                    running.wait_for(first.enters, GIVE_UP_S, f"no handshake with {size} peers")
                    loaded = time.perf_counter() - start
                    return _measure(bench, contender, Set(running, place, program, load), loaded)
        finally:
            shutil.rmtree(place.directory, ignore_errors=True)

    return measure


def _measure(bench: Bench, contender: Contender, there: Set, loaded: float) -> Sample:
    outside = replace(there.load, backend=0)
    memory = there.running.private_memory()
    time.sleep(SETTLE_S)
    measured = outside.run("full", bench.seconds)
    figures = {"load_s": loaded, "memory_mb": memory / 1024, "rate": float(measured["rate"])}
    facts = {}
    with ThreadPoolExecutor(1) as beside:
        pings = beside.submit(outside.run, "ping", PINGS_S, "--number", "8", "--every", "2000")
        try:
            figures |= _change(bench, contender, there)
        except Failed as reason:
            facts["change"] = str(reason)
        try:
            figures["stall_ms"] = float(pings.result()["max_us"]) / 1e3
        except Failed as reason:
            facts["pings"] = str(reason)
    done = sample(measured, figures)
    return replace(done, facts={**done.facts, **facts})


def _change(bench: Bench, contender: Contender, there: Set) -> dict[str, float]:
    """Admit one more peer, let it open a connection, and remove it again; the clock starts when the files are written."""
    extra = bench.identity("newcomer", "p256")
    newcomer = Caller(there.place.listen, extra, http=contender.http)
    if newcomer.enters():
        raise Failed("a stranger is admitted")
    added = _takes(contender, there, (*there.place.peers, extra.certificate), newcomer.enters, "a new peer enters")
    with contextlib.closing(_connected(newcomer)) as held:
        removed = _takes(contender, there, there.place.peers, lambda: not newcomer.enters(), "a removed peer is refused")
        start = time.perf_counter()
        figures = {"added_ms": added * 1e3, "removed_ms": removed * 1e3}
        if newcomer.ends(held, LIVES_ON_S):
            figures["cut_ms"] = (removed + time.perf_counter() - start) * 1e3
    return figures


def _takes(contender: Contender, there: Set, peers: tuple[Path, ...], what: Callable[[], bool], name: str) -> float:
    """Write the peers, make the contender take them in, and return the seconds until `what` is so."""
    place = replace(there.place, peers=peers)
    contender.lay_out(place)
    start = time.perf_counter()
    contender.reload(there.running, place, there.program)
    while True:
        there.running.wait_for(what, start + GIVE_UP_S - time.perf_counter(), name)
        took = time.perf_counter() - start
        if all(what() for _ in range(SURE)):
            return took


def _connected(newcomer: Caller) -> SSLSocket:
    """Return a connection of one who was admitted just now, by the last of several processes perhaps not yet."""
    for _ in range(100):
        with contextlib.suppress(OSError):
            return newcomer.connect()
    raise Failed("a new peer is admitted only sometimes")
