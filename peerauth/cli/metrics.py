"""`status --metrics`: the text format of Prometheus, as node_exporter's textfile collector takes it.

https://prometheus.io/docs/instrumenting/exposition_formats/ (text-based format 0.0.4). A file is as old as its last writing,
so when a certificate ends is there as a time as well, to be compared with the time of the question.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from peerauth.trust import expiry

if TYPE_CHECKING:
    from peerauth.cli.standing import Status
    from peerauth.trust.expiry import Ending

_MOST = 1000  # certificates that have samples of their own: each is a time series
_DAY = 86400
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

Sample = tuple[Mapping[str, str], float]


def exposition(found: Status) -> str:
    """The metrics, without the line break at the end."""
    now = found.now.timestamp()
    certificates = [(_labels("own", found.own), found.own)] if found.own else []
    certificates += [(_labels("peer", ending), ending) for ending in found.near[:_MOST]]
    soon = [({"days": str(days)}, len(found.within(days))) for days in expiry.LEVELS]
    metrics: list[tuple[str, str, str, Iterable[Sample]]] = [
        (
            "certificate_days_left",
            "gauge",
            "Days until the certificate ends, below zero when it has: this node's, and those of peers within 60 days.",
            [(labels, (ending.seconds - now) / _DAY) for labels, ending in certificates],
        ),
        (
            "certificate_not_after_seconds",
            "gauge",
            "When the certificate ends, in seconds since 1970.",
            [(labels, ending.seconds) for labels, ending in certificates],
        ),
        ("peers", "gauge", "Peers that are pinned.", [({}, found.peers)]),
        ("peers_expired", "gauge", "Peers whose certificate has ended.", [({}, len(found.expired))]),
        ("peers_expiring", "gauge", "Peers whose certificate ends within so many days.", soon),
        ("problems", "gauge", "Files among the peers that cannot be used.", [({}, len(found.problems))]),
        ("attention", "gauge", "Things that need a person: what status warns of.", [({}, len(found.attention))]),
        ("serving", "gauge", "Whether a server runs here.", [({}, int(found.serving))]),
    ]
    answers = [server for server in found.servers if server]
    if answers:
        metrics += _served(answers)
    return "\n".join(line for metric in metrics for line in _written(*metric))


def _served(servers: list[dict[str, Any]]) -> list[tuple[str, str, str, Iterable[Sample]]]:
    refused: dict[str, int] = {}
    for server in servers:
        counts = server.get("refused")
        for code, count in (counts if isinstance(counts, dict) else {}).items():
            refused[str(code)] = refused.get(str(code), 0) + _number(count)

    def over_all(key: str) -> list[Sample]:
        return [({}, sum(_number(server.get(key)) for server in servers))]

    return [
        ("connections", "gauge", "Admitted connections that are open.", over_all("connections")),
        ("admitted_total", "counter", "Connections that were admitted.", over_all("admitted")),
        ("ended_total", "counter", "Connections that ended because their peer was removed.", over_all("ended")),
        ("refused_total", "counter", "Refusals by code.", [({"code": code}, count) for code, count in refused.items()]),
    ]


def _labels(role: str, ending: Ending) -> dict[str, str]:
    return {"role": role, "name": ending.name, "fingerprint": str(ending.fingerprint)}


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _written(name: str, kind: str, text: str, samples: Iterable[Sample]) -> Iterable[str]:
    yield f"# HELP peerauth_{name} {text}"
    yield f"# TYPE peerauth_{name} {kind}"
    for labels, number in samples:
        inner = ",".join(f'{label}="{value.translate(_ESCAPES)}"' for label, value in labels.items())
        yield f"peerauth_{name}{'{' + inner + '}' if inner else ''} {round(number, 3):.15g}"
