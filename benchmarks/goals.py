"""The goals that were set before anything was measured, and whether a run reached them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks import figures
from benchmarks.measurements.limits import ALONE, BOTH, OURS
from benchmarks.results import Results, Sheet

US = "peerauth"
LISTING = "peerauth peer list (100 peers)"
HTTP = {"nginx http", "Caddy"}  # they keep their connections to the backend, so a new client costs them less


@dataclass(frozen=True)
class Goal:
    """One goal: what, how much, what came out, and whether that is enough (None: not measured)."""

    text: str
    wanted: str
    got: str
    reached: bool | None


def goals(results: Results) -> list[Goal]:
    """Return every goal with what this run says about it."""
    return list(_goals({sheet.key: sheet for sheet in results.sheets}))


def relays(sheet: Sheet) -> set[str]:
    """The contenders that do the same job as peerauth does."""
    return set(sheet.samples) - HTTP - {US, ALONE}


def against_best(sheet: Sheet | None, key: str) -> tuple[float, str] | None:
    """Return peerauth's ratio to the best of the other relays, and that one's name."""
    rival = figures.best(sheet, key, apart_from=US, among=relays(sheet)) if sheet else None
    found = figures.ratio(sheet, US, rival, key) if sheet and rival else None
    return (found, rival) if found is not None and rival else None


def _goals(sheets: dict[str, Sheet]) -> Iterator[Goal]:
    yield _at_least(sheets, "full", "rate", 2.2, "full handshakes/s, RSA-4096")
    yield _of_raw(sheets)
    yield _at_least(sheets, "resumed", "rate", 1.3, "resumed connections/s")
    for key, way in (("down", "backend to client"), ("up", "client to backend")):
        for streams in (1, 16):
            yield _at_least(sheets, f"{key}-{streams}", "rate", 1.2, f"bulk, {way}, streams: {streams}")
    yield _at_most(sheets, "ping-1", "p50_us", 1.0, "100-byte round trip p50, 1 connection")
    yield _at_least(sheets, "ping-64", "rate", 0.9, "100-byte round trips/s, 64 connections")
    yield _than_stunnel(sheets)
    yield _requests(sheets, "Caddy", 1.0)
    yield _requests(sheets, "nginx http", 0.65)
    yield _at_most(sheets, "storm", "p99_us", 1.0, "p99 of established connections in a handshake storm")
    yield _figure(sheets, "idle", US, key="per_connection_kb", most=30, unit="KB", text="memory per idle connection")
    yield _pool_handshakes(sheets)
    for key, most, unit, text in (
        ("load_s", 3, "s", "100 000 peer files: start to first handshake"),
        ("memory_mb", 100, "MB", "100 000 peer files: private memory"),
        ("added_ms", 250, "ms", "100 000 peer files: a new peer enters"),
        ("removed_ms", 250, "ms", "100 000 peer files: a removed peer is refused"),
        ("cut_ms", 250, "ms", "100 000 peer files: a removed peer's connection ends"),
        ("stall_ms", 20, "ms", "100 000 peer files: others' slowest round trip at a change"),
    ):
        yield _figure(sheets, "pool-100000", US, key=key, most=most, unit=unit, text=text)
    yield _workers(sheets)
    yield _figure(sheets, "startup", LISTING, key="ms", most=250, unit="ms", text="listing 100 peers")


def _at_least(sheets: dict[str, Sheet], sheet: str, key: str, factor: float, text: str) -> Goal:
    found = against_best(sheets.get(sheet), key)
    if found is None:
        return Goal(text, f">= {factor:g} x the best", "not measured", None)
    return Goal(text, f">= {factor:g} x the best", f"{found[0]:.2f} x {found[1]}", found[0] >= factor)


def _at_most(sheets: dict[str, Sheet], sheet: str, key: str, factor: float, text: str) -> Goal:
    found = against_best(sheets.get(sheet), key)
    if found is None:
        return Goal(text, f"<= {factor:g} x the best", "not measured", None)
    return Goal(text, f"<= {factor:g} x the best", f"{found[0]:.2f} x {found[1]}", found[0] <= factor)


def _than_stunnel(sheets: dict[str, Sheet]) -> Goal:
    text, wanted = "the same, against stunnel", ">= 1.3 x stunnel"
    found = figures.ratio(sheets["ping-64"], US, "stunnel", "rate") if "ping-64" in sheets else None
    return _ratio(text, wanted, found, 1.3)


def _requests(sheets: dict[str, Sheet], rival: str, factor: float) -> Goal:
    text, wanted = f"HTTP requests/s, 64 connections, against {rival.removesuffix(' http')}", f">= {factor:g} x {rival}"
    found = figures.ratio(sheets["requests-64"], US, rival, "rate") if "requests-64" in sheets else None
    return _ratio(text, wanted, found, factor)


def _of_raw(sheets: dict[str, Sheet]) -> Goal:
    text, wanted = "the same, against the library alone", ">= 0.7 x its raw signature rate"
    found = figures.ratio(sheets["full"], US, ALONE, "rate") if "full" in sheets else None
    return _ratio(text, wanted, found, 0.7)


def _pool_handshakes(sheets: dict[str, Sheet]) -> Goal:
    text, wanted = "handshake time at 100 000 peers", "<= 1.05 x the time at 1 peer"
    if not {"pool-1", "pool-100000"} <= sheets.keys():
        return Goal(text, wanted, "not measured", None)
    found = figures.ratio_between(sheets["pool-1"], sheets["pool-100000"], US, "rate")  # time is one over the rate
    return _ratio(text, wanted, found, 1.05, most=True)


def _workers(sheets: dict[str, Sheet]) -> Goal:
    text, wanted = "two workers", ">= 1.9 x one on two cores"
    if "workers" not in sheets:
        return Goal(text, wanted, "not measured", None)
    goal = _ratio(text, wanted, figures.ratio(sheets["workers"], "2 workers", "1 worker", "rate"), 1.9)
    limit = figures.ratio(sheets["limits"], BOTH, OURS, "sign") if "limits" in sheets else None
    return goal if limit is None else replace(goal, got=f"{goal.got}; two processes that only sign: {limit:.2f} x")


def _figure(sheets: dict[str, Sheet], sheet: str, name: str, *, key: str, most: float, unit: str, text: str) -> Goal:
    wanted = f"<= {most:g} {unit}"
    found = figures.summary(sheets[sheet], name, key) if sheet in sheets else None
    if found is None:
        return Goal(text, wanted, "not measured", None)
    return Goal(text, wanted, f"{found.median:.3g} {unit}", found.median <= most)


def _ratio(text: str, wanted: str, found: float | None, bound: float, *, most: bool = False) -> Goal:
    if found is None:
        return Goal(text, wanted, "not measured", None)
    return Goal(text, wanted, f"{found:.2f} x", found <= bound if most else found >= bound)
