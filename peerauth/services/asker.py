"""Who asks a backend, as the backend sees them."""

from __future__ import annotations

from abc import ABC, abstractmethod

from peerauth.tls.scratch import Scratch


class Asker(ABC):
    """Who asks a backend. Each request ends with one of `answered`, `no_answer`, `cut` and `upgraded`."""

    __slots__ = ()

    @abstractmethod
    def will_close(self) -> bool:
        """Whether the peer's connection carries nothing after this answer."""

    @abstractmethod
    def answer(self, data: bytes) -> None:
        """Pass this on to the peer."""

    @abstractmethod
    def answer_from(self, buffer: Scratch, size: int) -> None:
        """The same for the first `size` bytes of `buffer`."""

    @abstractmethod
    def answered(self) -> None:
        """The answer is complete."""

    @abstractmethod
    def no_answer(self, status: int, why: str, error: Exception | None) -> None:
        """There is none; `status` says so to the peer. `error`: the program could not be reached."""

    @abstractmethod
    def cut(self) -> None:
        """The answer broke off."""

    @abstractmethod
    def upgraded(self, head: bytes, rest: bytes) -> None:
        """The program speaks WebSocket from here on, of which `rest` is the beginning."""

    @abstractmethod
    def will_send_more(self) -> bool:
        """Whether the request is not complete."""

    @abstractmethod
    def takes_more(self) -> None:
        """More of the request can be sent."""

    @abstractmethod
    def abort(self) -> None:
        """End everything."""
