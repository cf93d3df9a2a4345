"""What a run leaves behind, and its JSON: sheets of samples, one for each contender and round, and where they come from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Column:
    """One figure of a measurement: its key in a sample, what it is called, its unit, and which way is good."""

    key: str
    title: str
    unit: str
    better: Literal["more", "less"]


@dataclass(frozen=True)
class Sample:
    """What one contender did in one round: figures by column (and `generator`, its CPU share), or why there are none."""

    values: dict[str, float] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    failed: str = ""


@dataclass(frozen=True)
class Sheet:
    """One measurement. `samples` has one entry per name and in it one per round; the first column is the headline.

    Ratios are to `baseline`, round by round.
    """

    key: str
    group: str
    title: str
    columns: tuple[Column, ...]
    baseline: str = "peerauth"
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def add(self, name: str, sample: Sample) -> None:
        """Note the next round of `name`."""
        self.samples.setdefault(name, []).append(sample)


@dataclass(frozen=True)
class Standing:
    """A contender as it was set up: its version, its TLS library, what has to be known, or why it was left out."""

    name: str
    version: str = ""
    library: str = ""
    note: str = ""
    left_out: str = ""


@dataclass(frozen=True)
class Results:
    """A whole run."""

    machine: dict[str, str]
    settings: dict[str, str]
    contenders: list[Standing]
    sheets: list[Sheet]

    def write(self, path: Path) -> None:
        """Write the JSON, whole or not at all."""
        draft = path.with_name(f"{path.name}.part")
        draft.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")
        draft.replace(path)


def merged(runs: list[Results]) -> Results:
    """Return one page's worth of several runs on one machine: what was measured again replaces what it was before.

    Where only some contenders were measured again, the others keep what they had.
    """
    first = runs[0]
    sheets: dict[str, Sheet] = {}
    for run in runs:
        for sheet in run.sheets:
            before = sheets[sheet.key].samples if sheet.key in sheets else {}
            sheets[sheet.key] = replace(sheet, samples={**before, **sheet.samples})
    standings = {one.name: one for run in reversed(runs) for one in run.contenders}
    settings = dict(first.settings)
    for key in ("rounds", "seconds"):
        settings[key] = " or ".join(dict.fromkeys(run.settings[key] for run in runs))
    if len(runs) > 1:
        settings |= {"runs": str(len(runs)), "only": ""}
    return Results(first.machine, settings, [standings[one.name] for one in first.contenders], list(sheets.values()))


def read(path: Path) -> Results:
    """Read what `Results.write` wrote.

    Raises:
        KeyError, TypeError, ValueError: it is something else.

    """
    data = json.loads(path.read_text("utf-8"))
    return Results(
        data["machine"],
        data["settings"],
        [Standing(**standing) for standing in data["contenders"]],
        [_sheet(sheet) for sheet in data["sheets"]],
    )


def _sheet(data: dict[str, Any]) -> Sheet:
    columns = tuple(Column(**column) for column in data["columns"])
    samples = {name: [Sample(**sample) for sample in rounds] for name, rounds in data["samples"].items()}
    return Sheet(data["key"], data["group"], data["title"], columns, data["baseline"], samples)
