"""`python -m benchmarks`: run it; `python -m benchmarks report FILE.json`: make the page again."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from benchmarks import figures, machine, measurements, packages, report, results, rounds
from benchmarks.bench import Bench
from benchmarks.contenders import ALL, Contender
from benchmarks.load import build
from benchmarks.measurements.caller import Caller
from benchmarks.results import Results, Standing
from benchmarks.running import Failed, raise_file_limit

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
QUICK_ROUNDS, QUICK_SECONDS = 1, 1.0
BUSY = 0.7


def tell(line: str) -> None:
    """Say something to the person who waits."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    top.add_argument(
        "report",
        nargs="*",
        metavar="report FILE.json",
        help="make docs/benchmarks.md from earlier results; several files are put together",
    )
    top.add_argument("--quick", action="store_true", help="one round of a second each: to see that it works, not how fast")
    top.add_argument("--only", metavar="A,B", default="", help="these measurements (keys or groups; --list names them)")
    top.add_argument("--contenders", metavar="A,B", default="", help="these contenders, by name")
    top.add_argument("--rounds", type=int, default=0, help="how often everybody has a turn (5)")
    top.add_argument("--seconds", type=float, default=0.0, help="how long one measurement takes (4)")
    top.add_argument("--out", type=Path, default=Path("benchmarks.json"), help="where the results go (benchmarks.json)")
    top.add_argument("--page", type=Path, help="also write the results into this page (report: docs/benchmarks.md)")
    top.add_argument("--list", action="store_true", help="name the measurements and contenders, and end")
    return top


def main(words: list[str]) -> int:
    """Run, or report; return the exit code."""
    options = parser().parse_args(words)
    if options.report:
        if len(options.report) < 2 or options.report[0] != "report":
            parser().error(
                "say: report FILE.json, or several files, of which the later ones replace what they measured again"
            )
        together = results.merged([results.read(Path(file)) for file in options.report[1:]])
        report.write(together, options.page or PAGE)
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # leaves no contender behind
    try:
        done = run(options)
    except Failed as reason:
        tell(f"error: {reason}")
        return 1
    if options.page and done:
        report.write(done, options.page)
    return 0


def run(options: argparse.Namespace) -> Results | None:
    """Set everybody up, measure, and write the results after each group of measurements."""
    chosen = [one for one in ALL if not options.contenders or one.name in options.contenders.split(",")]
    if unknown := set(filter(None, options.contenders.split(","))) - {one.name for one in ALL}:
        raise Failed(f"no such contender: {', '.join(unknown)} ({', '.join(one.name for one in ALL)})")
    cache = Path(tempfile.gettempdir()) / f"peerauth-benchmark-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    if cache.stat().st_uid != os.getuid():
        raise Failed(f"{cache} is somebody else's")
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        bench = _bench(Path(scratch), cache, options, chosen)
        if options.list:
            for one in measurements.plan(bench, chosen):
                sys.stdout.write(f"{one.sheet.key:20} {one.sheet.group:20} {one.sheet.title}\n")
            return None
        standings = [_standing(bench, one) for one in chosen]
        present = [one for one, standing in zip(chosen, standings, strict=True) if not standing.left_out]
        wanted = set(filter(None, options.only.split(",")))
        planned = [m for m in measurements.plan(bench, present) if not wanted or wanted & {m.sheet.key, m.sheet.group}]
        if not planned:
            raise Failed("nothing to measure; --list names the measurements")
        number = options.rounds or (QUICK_ROUNDS if options.quick else 5)
        if machine.busy() > BUSY:
            tell(f"warning: the machine is busy (load {machine.busy():.1f}); the figures will not be worth much")
        done = Results(machine.facts(), _settings(options, bench, number), standings, [m.sheet for m in planned])
        for group in dict.fromkeys(m.sheet.group for m in planned):
            rounds.take([m for m in planned if m.sheet.group == group], number, tell)
            done.write(options.out)
    tell(f"results: {options.out}")
    return done


def _bench(scratch: Path, cache: Path, options: argparse.Namespace, chosen: list[Contender]) -> Bench:
    if problem := packages.install(packages.missing(chosen)):
        tell(f"warning: {problem}")
    programs = {one.name: path for one in chosen if (path := one.find()) is not None}
    if any(one.name == "ghostunnel" for one in chosen) and "ghostunnel" not in programs and not options.list:
        tell("building ghostunnel; the first time takes some minutes")
        try:
            programs["ghostunnel"] = str(packages.ghostunnel(cache))
        except Failed as reason:
            tell(f"warning: ghostunnel is left out: {reason}")
    scratch.chmod(0o755)
    seconds = options.seconds or (QUICK_SECONDS if options.quick else 4.0)
    return Bench(scratch, cache, build(cache), seconds, raise_file_limit(), programs, options.quick)


def _standing(bench: Bench, contender: Contender) -> Standing:
    """Find out whether a contender can take part: it is there, admits a pinned client, and refuses a stranger."""
    program = bench.programs.get(contender.name)
    if program is None:
        how = f"apt-get install {contender.package}" if contender.package else "see the page"
        return Standing(contender.name, left_out=f"not installed ({how})")
    version, library = machine.version(contender, program), machine.library(contender, program)
    try:
        with bench.up(contender) as there, there.load.holding("backend"):
            friend = Caller(there.place.listen, bench.identity("client", "p256"), http=contender.http)
            stranger = Caller(there.place.listen, bench.identity("stranger", "p256"), http=contender.http)
            there.running.wait_for(friend.enters, 5, "the pinned client is not admitted")
            left_out = "admits a stranger" if stranger.enters() else ""
    except Failed as reason:
        left_out = str(reason)
    tell(f"{contender.name} {version}, {library}: {left_out or 'ready'}")
    return Standing(contender.name, version, library, contender.note, left_out)


def _settings(options: argparse.Namespace, bench: Bench, number: int) -> dict[str, str]:
    return {
        "rounds": str(number),
        "seconds": f"{bench.seconds:g}",
        "quick": "yes" if options.quick else "no",
        "only": options.only,
        "open files": str(bench.files),
        "generator's limit": f"{figures.LIMIT:g}",
        "load average at the start": f"{machine.busy():.2f}",
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
