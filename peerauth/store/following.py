"""What somebody has said about a peer's certificate, done: on the peers directory, or as a question for a person."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from peerauth.store.config import Config
from peerauth.store.peerdir import PeerDirectory
from peerauth.store.pending import ask_person, forget_questions
from peerauth.store.state import State
from peerauth.trust.continuity import Kind, Statement, mentioned, read_statement
from peerauth.trust.peers import PeerSet
from peerauth.trust.succession import MOST, Bearer, Outcome, Verdict, judge


def follow(
    directory: PeerDirectory, statements: Sequence[bytes], bearer: Bearer, config: Config | None, address: str
) -> Verdict:
    """Take statements in, as they came from `bearer`, and do what the rule says; what was done.

    Without `config` there is no home where a question could wait, and what a person would be asked is refused; `address` is
    where they were heard, for that person. Raises BadInput("bad-statement"), or PeerAuthError when something could not be
    written.
    """
    if len(statements) > MOST:
        return Verdict(Outcome.REFUSED, reason=f"there are more than {MOST} statements")
    said = _read(statements, directory.current)
    if not said:
        return Verdict(Outcome.REFUSED, reason="no statement is about a certificate that is pinned here")

    def decide(peers: PeerSet) -> Verdict:
        return judge(said, peers, bearer, config.accept if config else "auto", datetime.now(UTC))

    before = directory.current
    verdict = decide(before)
    if verdict.steps:  # only then is anybody else made to wait, and the directory looked at
        verdict = directory.follow(decide)
    return _ask(verdict, State(config.path.parent) if config else None, (before, directory.current), address)


def _read(statements: Sequence[bytes], peers: PeerSet) -> list[Statement]:
    """The statements; none where they are about nobody who is known.

    Those that are about a pin are checked first: a stranger has no signature of its key, and hears no of the first one.
    """
    about = [any(peers.holder(pin) is not None for pin in mentioned(one)) for one in statements]
    if not any(about) and not peers.pins_keys:
        return []
    order = sorted(range(len(statements)), key=lambda at: not about[at])
    read = {at: read_statement(statements[at]) for at in order}
    return [read[at] for at in range(len(statements))]


def _ask(verdict: Verdict, state: State | None, known: Iterable[PeerSet], address: str) -> Verdict:
    if state is not None:
        for step in verdict.steps:
            if step.kind is not Kind.NEXT:
                gone = step.new if step.kind is Kind.WITHDRAWN else step.old
                forget_questions(state, step.peer, [gone.fingerprint])
    if verdict.question is None:
        return verdict
    if state is None:
        return replace(verdict, outcome=Outcome.REFUSED, question=None, reason="there is nobody to ask here")
    for peers in known:  # what a person has pinned by its file since waits for nobody's word, and nobody sees it wait
        peer = peers.get(verdict.question.peer)
        forget_questions(state, verdict.question.peer, peer.pins if peer else ())
    if not ask_person(state, verdict.question, address):
        reason = "another certificate waits for a person's word already"
        return replace(verdict, outcome=Outcome.REFUSED, question=None, reason=reason, conflict=True)
    return verdict
