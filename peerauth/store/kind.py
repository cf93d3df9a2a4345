"""What every kind of service has in common, and the kind that needs no settings.

A kind is a frozen value with what its keys and options say; it does nothing by itself. services/offers.py makes it serve.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from peerauth.errors import BadInput

OnUnknown = Literal["refuse", "explain"]  # what is done with somebody who is not admitted


@dataclass(frozen=True, slots=True)
class Kind:
    """What is behind a service's door."""

    def __str__(self) -> str:
        """What it does, as in "db-1 relays to 127.0.0.1:5432 on 0.0.0.0:8443"."""
        raise NotImplementedError

    @property
    def speaks_http(self) -> bool:
        """Whether what is said there is HTTP/1.1, which ALPN is told."""
        return True

    @property
    def leads_to(self) -> str | None:
        """Where it leads, as config.toml says it; None where it leads nowhere else."""
        return None


@dataclass(frozen=True, slots=True)
class Hello(Kind):
    """Says hello: GET /hello answers who the caller is."""

    def __str__(self) -> str:
        return "says hello"


def check_on_unknown(chosen: OnUnknown, kind: Kind) -> OnUnknown:
    """`chosen`, if a service of this kind can do so with strangers. Raises BadInput("not-http")."""
    if chosen == "explain" and not kind.speaks_http:
        text = "strangers are told in HTTP why they are refused, and nobody here knows what a relay's target speaks"
        raise BadInput("not-http", text, "leave it out: they are refused by TLS, with an alert")
    return chosen
