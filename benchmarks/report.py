"""The page of a run: tables, plots, the goals, the wins and the losses, between two marks in docs/benchmarks.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from benchmarks import figures
from benchmarks.goals import HTTP, US, against_best, goals
from benchmarks.plots import Bar, chart
from benchmarks.results import Column, Results, Sheet
from benchmarks.running import Failed

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
EVEN = 0.03  # within so much, nobody has won


def write(results: Results, page: Path) -> None:
    """Write the plots beside the page, and the results into it.

    Raises:
        Failed: the page has no place for results.

    """
    text = page.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise Failed(f"{page} has no {BEGIN} ... {END}")
    directory = page.with_suffix("")
    directory.mkdir(exist_ok=True)
    for old in directory.glob("*.svg"):
        old.unlink()
    for sheet in results.sheets:
        (directory / f"{sheet.key}.svg").write_text(plot(sheet), "utf-8")
    page.write_text(f"{before}{BEGIN}\n\n{render(results, directory.name)}\n{END}{after}", "utf-8")


def render(results: Results, plots: str) -> str:
    """Return the results as Markdown; `plots` is the directory of the SVG files as the page names it."""
    parts = ["## Results", "", *_warnings(results), *_origin(results), "", "### The goals", "", *_goals(results), ""]
    parts += [*_verdicts(results), "### Every measurement", ""]
    for sheet in results.sheets:
        parts += [f"#### {sheet.title}", "", f"![{sheet.title}]({plots}/{sheet.key}.svg)", "", *_table(sheet), ""]
    return "\n".join(parts)


def plot(sheet: Sheet) -> str:
    """Return the bar chart of the sheet's headline."""
    column = sheet.columns[0]
    bars = []
    for name in sheet.samples:
        found = figures.summary(sheet, name, column.key)
        if found is None:
            bars.append(Bar(name, failed="; ".join(figures.failures(sheet, name)) or "no figure"))
        else:
            text = f"{number(found.median)} {column.unit}".strip()
            bars.append(Bar(name, found.median, found.low, found.high, text, name == sheet.baseline))
    return chart(f"{sheet.title}: {column.title}", column.unit, column.better, bars)


def number(value: float) -> str:
    """Return three digits that matter, thousands set apart."""
    if abs(value) >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}".replace(",", "\u202f")
    return f"{value:.3g}"


def _warnings(results: Results) -> Iterator[str]:
    if results.settings.get("quick") == "yes":
        yield "**A quick run: it shows that everything works, not how fast anything is.**"
        yield ""
    if only := results.settings.get("only"):
        yield f"**Only these were measured: {only}.**"
        yield ""


def _origin(results: Results) -> Iterator[str]:
    machine, settings = results.machine, results.settings
    runs = f", put together from {settings['runs']} runs" if "runs" in settings else ""
    yield f"Medians of {settings['rounds']} rounds of {settings['seconds']} s{runs}; measured {machine['date']} on:"
    yield ""
    yield "| | |"
    yield "|---|---|"
    for key, value in machine.items():
        if key != "date":
            yield f"| {key} | {value} |"
    yield f"| load average when it began | {settings['load average at the start']} |"
    yield ""
    yield "| contender | version | TLS library | set up as |"
    yield "|---|---|---|---|"
    for one in results.contenders:
        said = f"**left out:** {_plain(one.left_out)}" if one.left_out else one.note
        yield f"| {one.name} | {one.version} | {one.library} | {said} |"


def _goals(results: Results) -> Iterator[str]:
    yield "| | goal | measured | |"
    yield "|---|---|---|---|"
    for goal in goals(results):
        verdict = {True: "reached", False: "**not reached**", None: ""}[goal.reached]
        yield f"| {goal.text} | {goal.wanted} | {goal.got} | {verdict} |"


def _verdicts(results: Results) -> Iterator[str]:
    """Every figure beside that of the best other relay, sorted by who is ahead."""
    ahead: list[str] = []
    behind: list[str] = []
    even: list[str] = []
    for sheet in results.sheets:
        for column in sheet.columns:
            if (found := against_best(sheet, column.key)) is None:
                continue
            gain = found[0] if column.better == "more" else 1 / found[0]
            line = f"- {sheet.title}, {column.title}: {_both(sheet, column, found[1])} ({found[0]:.2f} x)"
            (even if abs(gain - 1) <= EVEN else ahead if gain > 1 else behind).append(line)
    failed = [
        f"- {sheet.title}: {_plain('; '.join(figures.failures(sheet, US)))}"
        for sheet in results.sheets
        if figures.failures(sheet, US)
    ]
    for title, lines in (
        ("Where peerauth loses to the best other relay", behind),
        ("Where it fails", failed),
        ("Where it wins", ahead),
        (f"Where nobody does (within {EVEN:.0%})", even),
    ):
        if lines:
            yield f"### {title}"
            yield ""
            yield from lines
            yield ""


def _both(sheet: Sheet, column: Column, rival: str) -> str:
    ours, theirs = figures.summary(sheet, US, column.key), figures.summary(sheet, rival, column.key)
    assert ours is not None
    assert theirs is not None
    return f"{number(ours.median)} {column.unit}, {rival} {number(theirs.median)} {column.unit}".replace(" ,", ",")


def _table(sheet: Sheet) -> Iterator[str]:
    heads = [f"{column.title}{f' ({column.unit})' if column.unit else ''}" for column in sheet.columns]
    with_generator = any(figures.summary(sheet, name, figures.GENERATOR) for name in sheet.samples)
    yield f"| | {' | '.join(heads)} | {sheet.baseline} / this |{' generator |' if with_generator else ''}"
    yield f"|---|{'---|' * (len(heads) + 1 + with_generator)}"
    notes: dict[str, None] = {}
    for name in sheet.samples:
        cells = [_cell(sheet, name, column) for column in sheet.columns]
        ratio = figures.ratio(sheet, sheet.baseline, name, sheet.columns[0].key)
        mark = " (HTTP)" if name in HTTP else ""
        row = f"| {name}{mark} | {' | '.join(cells)} | {f'{ratio:.2f}' if ratio is not None else ''} |"
        yield row + (f" {_generator(sheet, name)} |" if with_generator else "")
        notes.update(dict.fromkeys(_notes(sheet, name)))
    if notes:
        yield ""
        yield from notes


def _cell(sheet: Sheet, name: str, column: Column) -> str:
    found = figures.summary(sheet, name, column.key)
    if found is None:
        return "failed" if figures.failures(sheet, name) else "-"
    if found.rounds == 1:
        return number(found.median)
    return f"{number(found.median)} ({number(found.low)} to {number(found.high)})"


def _generator(sheet: Sheet, name: str) -> str:
    share = figures.summary(sheet, name, figures.GENERATOR)
    if share is None:
        return ""
    return f"{share.median:.0%}{' **the limit**' if figures.generator_was_the_limit(sheet, name) else ''}"


def _notes(sheet: Sheet, name: str) -> Iterator[str]:
    total = len(sheet.samples[name])
    for reason in figures.failures(sheet, name):
        times = sum(sample.failed == reason for sample in sheet.samples[name])
        yield f"- {name} failed in {times} of {total} rounds: {_plain(reason)}"
    for sample in sheet.samples[name]:
        for key in ("failures", "change", "pings"):
            if key in sample.facts:
                yield f"- {name}: {_plain(sample.facts[key])}"


def _plain(text: str) -> str:
    """Words of other programs as text: nothing in them is Markdown, and no path of this machine is kept."""
    text = re.sub(r"(/[\w.+@-]+){2,}", "…", text)
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(text.split()))
