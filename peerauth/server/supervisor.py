"""The parent of several workers: it opens the doors, forks, watches, speaks, and passes on what it is told.

The rules:
1. It has no thread, no event loop and no inotify, ever: a fork of it at any time is a whole and quiet process.
2. It keeps every listening socket open. Who connects while a worker is dead waits in a queue that is not lost, and is taken
   in by another worker until the successor is there.
3. It looks at the peers and at the identity again before every fork, so no successor begins with somebody who was removed
   meanwhile, or presents what has been replaced.
4. It alone writes. It reads from its workers only when what it says is taken, so nothing heaps up here.
"""

from __future__ import annotations

import functools
import gc
import logging
import os
import select
import signal
import socket
import time
from typing import Any

from peerauth.audit import Event
from peerauth.errors import PeerAuthError
from peerauth.net.sockets import close_listener
from peerauth.server.channel import Inbox
from peerauth.server.contexts import Contexts
from peerauth.server.job import Job
from peerauth.server.presence import take_over, unusable
from peerauth.server.reloading import Reloading
from peerauth.server.signals import TOLD, heard
from peerauth.server.site import Place
from peerauth.server.speaker import Speaker, Voice
from peerauth.server.tally import Tally
from peerauth.server.watched import Watched, how_it_ended
from peerauth.server.window import Standing, Window
from peerauth.server.worker import DRAIN, LOOK, NOW, STAND_IN, STEP_BACK, Estate, work
from peerauth.services.app_failed import from_data

_GRACE = 5.0  # seconds for what should take none, before a worker is killed


class Supervisor:
    """The workers of one node. `run` returns after an orderly stop."""

    def __init__(self, job: Job, workers: int, voice: Voice) -> None:
        self._voice = voice
        self._tally = Tally(workers, job.config.limits.max_connections)
        self._workers = [Watched(number) for number in range(workers)]
        self._speaker = Speaker(voice)
        self._announced = False
        self._stopping: str | None = None
        self._failure: PeerAuthError | None = None  # why it could not begin
        self._deadline: float | None = None
        contexts = Contexts(job.identity, job.config.min_tls, self._tally)
        self._reloading = Reloading(job, Estate((), contexts, self._tally), self._speaker.say)
        self._listed: list[Place] = []  # what was said to listen
        self._window = Window(job.config.path.parent, self._facts)

    @property
    def _job(self) -> Job:
        return self._reloading.job

    @property
    def _estate(self) -> Estate:
        return self._reloading.estate

    def run(self) -> None:
        """Serve until told to stop. Raises PeerAuthError: `cannot-listen`, or `worker-failed` when they cannot start."""
        try:
            self._reloading.open()
            self._standing = Standing(lambda: self._job, lambda: self._estate.places(self._job), self._tally)
            self._window.open()
            with heard(*TOLD, signal.SIGCHLD) as (self._wake, self._woken):
                self._supervise()
            if self._failure is not None:
                raise self._failure
        finally:
            self._window.close()
            self._kill()
            self._close_doors()
            self._speaker.end()

    def _supervise(self) -> None:
        while self._stopping is None or any(worker.pid for worker in self._workers):
            self._start_due()
            self._arrange()
            self._speaker.speak()
            ready = self._wait()
            for worker in self._workers:
                if worker.channel is not None and worker.channel.fileno() in ready:
                    self._hear(worker)
            if self._window.fd in ready:
                self._window.show()
            self._reap()
            self._be_told()
            self._look_at_commands()
            self._keep_time()
            if self._stopping is None and self._announced and self._reloading.go_on(self._workers, deaf=self._is_deaf):
                self._list()

    @property
    def _is_deaf(self) -> bool:
        """Whether what there is to say waits for somebody to read it, and workers meanwhile."""
        return self._speaker.waits and self._voice.outlet is not None

    def _wait(self) -> set[int]:
        """Until something happens that we can deal with: a signal, a worker's word, an outlet that takes more, or a time."""
        poll = select.poll()
        poll.register(self._wake.fileno(), select.POLLIN)
        if self._window.fd is not None:
            poll.register(self._window.fd, select.POLLIN)
        if self._is_deaf and self._voice.outlet is not None:
            poll.register(self._voice.outlet, select.POLLOUT)
        else:
            for worker in self._workers:
                if worker.channel is not None and worker.inbox is not None and not worker.inbox.ended:
                    poll.register(worker.channel.fileno(), select.POLLIN)
        times = [self._deadline, self._speaker.due, self._reloading.due]
        times += (worker.due for worker in self._workers if self._starts)
        until = min((moment for moment in times if moment is not None), default=None)
        wait = None if until is None else max(0.0, until - time.monotonic()) * 1000 + 1
        return {descriptor for descriptor, _ in poll.poll(wait)}

    # Workers come and go

    @property
    def _starts(self) -> bool:
        return self._stopping is None and not self._reloading.is_under_way

    def _start_due(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if self._starts and worker.due is not None and worker.due <= now:
                self._start(worker)

    def _start(self, worker: Watched) -> None:
        worker.due = None
        if self._announced:
            peers = self._job.peers
            if peers.current.narrowed_by(peers.refresh()):
                self._tally.begin_epoch()
            self._look_at_own()
        try:
            self._fork(worker)
        except OSError as error:
            if not self._announced:
                raise
            self._again(worker, 0.0, f"could not be started ({error.strerror or error})")

    def _look_at_own(self) -> None:
        own = self._job.own
        try:
            if own is not None:
                take_over(own, self._estate.contexts)
        except PeerAuthError as error:
            self._speaker.say(unusable(error))

    def _fork(self, worker: Watched) -> None:
        ours, theirs = socket.socketpair()
        gc.collect()
        gc.freeze()  # what is never looked at again by the collector stays shared memory
        signal.pthread_sigmask(signal.SIG_BLOCK, TOLD)
        try:
            pid = os.fork()
            if pid == 0:
                self._be_worker(worker.number, ours, theirs)
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, TOLD)
            theirs.close()
            gc.unfreeze()
        worker.pid, worker.channel, worker.inbox = pid, ours, Inbox(ours)
        worker.ready, worker.started = False, time.monotonic()
        self._speaker.once.joins(worker.number + 1)

    def _be_worker(self, number: int, ours: socket.socket, theirs: socket.socket) -> None:
        """In the child, from which there is no way back."""
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for told in TOLD:
                signal.signal(told, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, TOLD)
            others = [worker.channel for worker in self._workers if worker.channel is not None]
            self._window.leave()
            for sock in (ours, self._wake, self._woken, *others):
                sock.close()  # most of all the parent's ends of channels, which must end with the parent
            work(number, self._job, self._estate, theirs)
            code = 0
        except Exception:
            logging.getLogger("peerauth").exception("worker %d failed", number + 1)
        finally:
            os._exit(code)

    def _reap(self) -> None:
        for worker in self._workers:
            if worker.pid is None:
                continue
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                self._buried(worker, os.waitstatus_to_exitcode(status))

    def _buried(self, worker: Watched, code: int) -> None:
        while worker.inbox is not None and not worker.inbox.ended and self._hear(worker):
            pass
        if worker.channel is not None:
            worker.channel.close()
        pid, worker.pid, worker.channel, worker.inbox, worker.ready = worker.pid, None, None, None, False
        self._tally.forget(worker.number)
        self._reloading.gone(worker)
        if self._stopping is not None:
            return
        how = how_it_ended(code)
        if not self._announced:
            raise PeerAuthError("worker-failed", f"{worker.shown} could not start: it {how}")
        self._again(worker, time.monotonic() - worker.started, how, pid)

    def _again(self, worker: Watched, lived: float, how: str, pid: int | None = None) -> None:
        pause = worker.pauses.after(lived)
        worker.due = time.monotonic() + pause
        when = f"in {pause:g} s" if pause else "at once"
        text = f"{worker.shown} {how}; it is started again {when}"
        self._speaker.say(Event("worker-ended", text, code="worker-ended", worker=worker.number + 1, pid=pid))

    def _arrange(self) -> None:
        """Whoever is not there has a stand-in who is; when all are to end, there are no doors to stand at."""
        for worker in self._workers if self._stopping is None else ():
            if worker.ready:
                if worker.stand_in is not None:
                    worker.stand_in.tell(STEP_BACK, worker.number)
                    worker.stand_in = None
            elif worker.stand_in is None or not worker.stand_in.ready:
                worker.stand_in = next((other for other in self._workers if other.ready), None)
                if worker.stand_in is not None:
                    worker.stand_in.tell(STAND_IN, worker.number)

    # What they say

    def _facts(self) -> dict[str, Any]:
        return self._standing.facts(sum(worker.ready for worker in self._workers))

    def _hear(self, worker: Watched) -> bool:
        heard = False
        assert worker.inbox is not None
        for kind, value in worker.inbox.read():
            heard = True
            if kind == "ready":
                self._is_ready(worker)
            elif kind == "failed":
                self._has_failed(worker, value)
            elif not self._reloading.heard(worker, kind, value, self._workers):
                self._speaker.pass_on(worker.number + 1, kind, value)
        return heard

    def _has_failed(self, worker: Watched, value: object) -> None:
        error = from_data(value)
        if error is None:
            return
        if self._announced:
            text = f"{worker.shown} could not start: {error.message}"
            self._speaker.say(Event("problem", text, error.hint, code=error.code, worker=worker.number + 1))
        elif self._failure is None:
            self._failure = error
            self._stop(NOW)

    def _is_ready(self, worker: Watched) -> None:
        worker.ready = True
        number, text = worker.number + 1, f"{worker.shown} is process {worker.pid}"
        self._speaker.say(Event("worker-started", text, worker=number, pid=worker.pid))
        if self._announced or self._stopping is not None or not all(other.ready for other in self._workers):
            return  # whoever stops has shut its doors, and has nothing to announce
        self._announced = True
        self._list()

    def _list(self) -> None:
        """Say what listens, without what was said before."""
        before, self._listed = self._listed, self._estate.places(self._job)
        for place in self._listed:
            if place not in before:
                self._speaker.later(functools.partial(self._voice.listening, *place))

    # What we are told, and the end

    def _be_told(self) -> None:
        try:
            told = self._wake.recv(4096)
        except BlockingIOError:
            return
        for number in told:
            if number == signal.SIGTERM or (number == signal.SIGHUP and self._voice.hung_up()):
                self._stop(DRAIN)
            elif number == signal.SIGINT:
                self._stop(NOW)
            elif number == signal.SIGHUP:
                self._reloading.want()
                for worker in self._workers:
                    worker.tell(LOOK)
            elif number == signal.SIGUSR1:
                self._speaker.later(lambda: self._voice.status(self._tally.totals))

    def _look_at_commands(self) -> None:
        """Once after each signal, SIGCHLD among them, is often enough."""
        commands = self._job.commands if self._stopping is None else None
        ended = commands.tend() if commands is not None else None
        if ended is not None:
            self._speaker.say(ended)
            self._stop(DRAIN)

    def _stop(self, how: str) -> None:
        """Let connections finish for a while (DRAIN), or end at once (NOW), which the second time is always meant."""
        if self._stopping is not None:
            how = NOW
        else:
            self._close_doors()
            if how == DRAIN and (count := self._tally.connections):
                self._speaker.later(lambda: self._voice.stopping(count, self._job.config.limits.drain))
        self._stopping = how
        self._deadline = time.monotonic() + _GRACE + (self._job.config.limits.drain if how == DRAIN else 0)
        for worker in self._workers:
            worker.tell(how)

    def _keep_time(self) -> None:
        now = time.monotonic()
        self._speaker.keep_time(now)
        if self._deadline is not None and now >= self._deadline:
            if self._stopping == DRAIN:
                self._stop(NOW)
            else:
                self._kill()

    def _close_doors(self) -> None:
        self._reloading.end()
        for sock in self._estate.all():
            if sock.fileno() >= 0:
                close_listener(sock)

    def _kill(self) -> None:
        for worker in self._workers:
            worker.kill()
        for worker in self._workers:
            if worker.pid is not None:
                os.waitpid(worker.pid, 0)
                worker.pid = None
                if worker.channel is not None:
                    worker.channel.close()
