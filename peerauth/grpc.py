"""gRPC by pinned certificates: it does its own TLS (BoringSSL's) and asks nobody about a certificate.

    callers = Callers(Node.load("db-1"))
    server = grpc.server(ThreadPoolExecutor(8), interceptors=[callers])
    server.add_secure_port("0.0.0.0:8443", callers.credentials())  # in a method: callers.peer_of(context).name

    channel = grpc.secure_channel("db-1.example:8443", **reaching(Node.load("alice"), "db-1"))

With `grpc.aio` the same, with `AioCallers`. The rules:

1. BoringSSL is given pinned certificates as roots, and takes each for itself. One that may sign others, by what it says of
   itself (`Certificate.signs_nothing`), is not among them: its owner is not admitted, and neither is what its owner signs.
2. A server decides about each call again, on the exact leaf: `decide` is asked before the method is.
3. A change of the peer set counts for the next connection and the next call, at most `FRESH_S` seconds later; so does
   another identity of our own, for the next connection. What a channel was made with it keeps.
4. A call under way whose caller is admitted no more is ended: `cancel` for a method in a thread, whose own waiting nobody
   can end; a coroutine is cancelled, and its caller hears why. A channel is closed where `close_when_removed` says so.
5. A server's peers are BoringSSL's list of roots: hundreds, perhaps a thousand (docs/servers.md has more limits).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, Final, TypeAlias
from urllib.parse import unquote
from weakref import ref

import grpc
import grpc.aio

from peerauth.node import Node
from peerauth.store.config import policy_for
from peerauth.tls.gate import FRESH_S, RefusalLog
from peerauth.trust.certificate import Certificate
from peerauth.trust.decision import Address, Admitted, Code, Refused, decide
from peerauth.trust.explain import refused_client
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import Peer, PeerSet
from peerauth.trust.reading import read_certificates

_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Context: TypeAlias = "grpc.ServicerContext | grpc.aio.ServicerContext[Any, Any]"
_Behavior = Callable[..., Any]

_log = logging.getLogger("peerauth")
_KINDS: Final[dict[tuple[bool, bool], tuple[str, Callable[..., Any]]]] = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}  # by whether the request and the response are streams


def reaching(node: Node, peer: str) -> dict[str, Any]:
    """What `grpc.secure_channel` needs to reach this peer and nobody else: `credentials` and `options`.

    The host's name is not compared: gRPC is told to expect one of the certificate's own. Raises BadInput as `Peers.roots`.
    """
    roots, identity = node.peers.roots(peer), node.follow_identity()
    first = read_certificates(roots)[0]
    expected = next(iter(first.alternative_names), first.common_name)
    return {
        "credentials": grpc.ssl_channel_credentials(roots, identity.key_pem(), identity.certificate.pem.encode()),
        "options": (("grpc.ssl_target_name_override", expected),),
    }


def close_when_removed(channel: Any, node: Node, peer: str) -> None:  # noqa: ANN401 - of grpc, or of grpc.aio
    """Close this channel to the peer, and so end its calls, when a certificate that it takes is admitted no more.

    To be called when the channel is made with `reaching`; one of `grpc.aio` in its loop. Raises BadInput as `Peers.roots`.
    """
    loop: asyncio.AbstractEventLoop | None = None
    if isinstance(channel, grpc.aio.Channel):
        loop = asyncio.get_running_loop()
    watched = _Channel(channel, loop, node, peer)
    _watched.add(watched)
    node.peers.lookout.tell(watched.review)


class _Channel:
    """An open channel, as far as its end is concerned."""

    def __init__(self, channel: Any, loop: asyncio.AbstractEventLoop | None, node: Node, peer: str) -> None:  # noqa: ANN401
        self._channel, self._loop, self._node, self._peer = ref(channel), loop, node, peer
        self._takes = [one.der for one in read_certificates(node.peers.roots(peer))]

    def review(self) -> None:
        """Close it, if it is time to."""
        channel = self._channel()
        if channel is not None:
            meant, now = self._node.peers.directory.current.only(self._peer), datetime.now(UTC)
            if all(isinstance(decide(one, meant, now=now), Admitted) for one in self._takes):
                return
            _log.warning(
                "the channel to %s is closed: it is admitted no more, or not by all that the channel takes", self._peer
            )
            if self._loop is None:
                channel.close()
            else:
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    self._loop.call_soon_threadsafe(lambda: asyncio.ensure_future(channel.close()))
        _watched.discard(self)


_watched: set[_Channel] = set()  # whom the lookout calls it does not keep


class _Call:
    """A call under way, and who makes it."""

    def __init__(self, leaf: bytes | None, remote: Address | None, end: Callable[[], object]) -> None:
        self.leaf, self.remote, self.end = leaf, remote, end
        self.refused: Refused | None = None
        self.sending = False  # gRPC has the task; cancelled there, it would end without a status, and the call would not


class _Judge:
    """Who may call a server: its credentials, and the decision about each call. Safe in any thread."""

    def __init__(self, node: Node, *, allow: list[str] | None = None) -> None:
        self._node = node
        self._policy = policy_for(node.config, "library", allow)
        self._peers, self._looked_at = PeerSet(), float("-inf")
        self._left_out: set[str] = set()
        self._said = RefusalLog()
        self._calls: set[_Call] = set()
        self._lock = threading.Lock()

    def credentials(self) -> grpc.ServerCredentials:
        """The credentials for one `add_secure_port`: this node's certificate and those of its peers, followed."""
        given = self._given()

        def changed() -> Any:  # noqa: ANN401 - the stubs do not know of None, which is no change
            nonlocal given
            now = self._given()
            if now == given:
                return None
            given = now
            return self._configuration()

        return grpc.dynamic_ssl_server_credentials(self._configuration(), changed, True)

    def peer_of(self, context: _Context) -> Peer | None:
        """Who makes this call; None when it would not be admitted now."""
        decision = self._decide(context)
        return decision.peer if isinstance(decision, Admitted) else None

    def _decide(self, context: _Context) -> Admitted | Refused:
        return decide(_leaf(context), self._fresh_peers(), self._policy, _remote(context), now=datetime.now(UTC))

    def review(self) -> None:
        """The list may be another one: end the calls of those who are admitted no more."""
        with self._lock:
            calls, self._looked_at = list(self._calls), float("-inf")
        for call in calls:
            decision = decide(call.leaf, self._fresh_peers(), self._policy, call.remote, now=datetime.now(UTC))
            if isinstance(decision, Refused) and call.refused is None:
                call.refused = decision
                self._aborted(decision, call.remote)
                call.end()

    def _note(self, context: _Context, end: Callable[[], object]) -> _Call:
        call = _Call(_leaf(context), _remote(context), end)
        with self._lock:
            self._calls.add(call)
        self._node.peers.lookout.tell(self.review)
        return call

    def _forget(self, call: _Call) -> None:
        with self._lock:
            self._calls.discard(call)

    @contextlib.asynccontextmanager
    async def _admitted(self, context: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[_Call]:
        """What the running task does while its caller is admitted, and no longer; then it is aborted."""
        if refused := self._refusal(context):
            await context.abort(*refused)
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None

        def end() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(lambda: call in self._calls and not call.sending and task.cancel())

        call = self._note(context, end)
        try:
            yield call
        except asyncio.CancelledError:
            if call.refused is None:
                raise
            task.uncancel()
            await context.abort(*_status(call.refused))
        finally:
            self._forget(call)

    def _refusal(self, context: _Context) -> tuple[grpc.StatusCode, str] | None:
        """How this call is to be aborted; None when it is admitted."""
        decision = self._decide(context)
        if isinstance(decision, Admitted):
            return None
        return self._aborted(decision, _remote(context))

    def _aborted(self, decision: Refused, remote: Address | None) -> tuple[grpc.StatusCode, str]:
        message, hint = refused_client(decision)
        self._said.say(remote, f"{message} ({hint})" if hint else message)
        return _status(decision)

    def _fresh_peers(self) -> PeerSet:
        with self._lock:
            if time.monotonic() >= self._looked_at + FRESH_S:
                try:
                    self._peers = self._node.peers.directory.refresh()
                except Exception:  # noqa: BLE001 - whatever ails the source, the answer is no
                    _log.exception("the peers cannot be read: nobody is admitted")
                    self._peers = PeerSet()
                self._looked_at = time.monotonic()
            return self._peers

    def _given(self) -> tuple[Fingerprint, PeerSet]:
        """What a configuration is made of."""
        return self._node.follow_identity().certificate.fingerprint, self._fresh_peers()

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        identity, peers, pinned = self._node.follow_identity(), self._fresh_peers(), self._certificates()
        left_out = {peer.name for one in pinned if not one.signs_nothing and (peer := peers.known(one))}
        for name in sorted(left_out - self._left_out):
            _log.warning("gRPC cannot admit %s: its certificate may sign others, and gRPC would admit them, too", name)
        self._left_out = left_out
        pair = (identity.key_pem(), identity.certificate.pem.encode())
        roots = "".join(one.pem for one in pinned if one.signs_nothing).encode()  # none: BoringSSL refuses everybody
        return grpc.ssl_server_certificate_configuration([pair], roots)

    def _certificates(self) -> list[Certificate]:
        try:
            return list(self._node.peers.certificates())
        except Exception:  # noqa: BLE001 - without them BoringSSL refuses, which is safe
            _log.exception("the certificates of the peers cannot be read: gRPC refuses everybody")
            return []

    def _judged(self, handler: _Handler | None) -> _Handler | None:
        """The same method, which is asked for nobody who is refused."""
        if handler is None:
            return None
        kind, make = _KINDS[bool(handler.request_streaming), bool(handler.response_streaming)]
        behavior = self._after_admission(getattr(handler, kind))
        judged: _Handler = make(behavior, handler.request_deserializer, handler.response_serializer)
        return judged

    def _after_admission(self, behavior: _Behavior) -> _Behavior:
        async def once(request: Any, context: Any) -> Any:  # noqa: ANN401 - messages are whatever the service has
            async with self._admitted(context):
                return await behavior(request, context)

        async def stream(request: Any, context: Any) -> Any:  # noqa: ANN401 - as above
            async with self._admitted(context) as call, contextlib.aclosing(behavior(request, context)) as responses:
                async for response in responses:
                    call.sending = True
                    yield response
                    call.sending = False
                    if call.refused is not None:
                        raise asyncio.CancelledError

        def blocking(request: Any, context: Any) -> Any:  # noqa: ANN401 - as above
            if refused := self._refusal(context):
                context.abort(*refused)
            cancel = getattr(context, "cancel", None)  # a method in a thread of grpc.aio has none
            if cancel is not None:
                call = self._note(context, cancel)
                if not context.add_callback(lambda: self._forget(call)):
                    self._forget(call)
            return behavior(request, context)

        if inspect.isasyncgenfunction(behavior):
            return stream
        return once if inspect.iscoroutinefunction(behavior) else blocking


class Callers(_Judge, grpc.ServerInterceptor):
    """The callers of a `grpc.server`: pinned peers, or only those in `allow` (names, `tag:NAME`, `@group`)."""

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], _Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """As gRPC says."""
        return self._judged(continuation(handler_call_details))


class AioCallers(_Judge, grpc.aio.ServerInterceptor):
    """The callers of a `grpc.aio.server`: pinned peers, or only those in `allow`."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """As gRPC says."""
        return self._judged(await continuation(handler_call_details))


def _status(refused: Refused) -> tuple[grpc.StatusCode, str]:
    known = refused.code is Code.NOT_ALLOWED
    return grpc.StatusCode.PERMISSION_DENIED if known else grpc.StatusCode.UNAUTHENTICATED, refused.reason


def _leaf(context: _Context) -> bytes | None:
    presented = [pem for pem in context.auth_context().get("x509_pem_cert", ()) if pem]
    return _der(presented[0]) if presented else None


@functools.lru_cache(maxsize=1024)
def _der(pem: bytes) -> bytes:
    return read_certificates(pem)[0].der


def _remote(context: _Context) -> Address | None:
    kind, _, address = unquote(context.peer()).partition(":")
    return ip_address(address.rpartition(":")[0].strip("[]")) if kind in {"ipv4", "ipv6"} else None
