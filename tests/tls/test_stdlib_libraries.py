"""The drop-in context in the hands of real libraries, unmodified: each admits or reaches one peer and refuses another.

The refused one of a server was removed a moment ago, so OpenSSL lets it in and only the decision does not; the wrong
server for a client is another pinned peer.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import http.server
import socket
import socketserver
import ssl
import threading
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import aiohttp
import aiohttp.web
import httpx
import pytest
import requests
import urllib3
import uvicorn
import uvloop
from requests.adapters import HTTPAdapter
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from peerauth.tls.stdlib import PeerRefused, peer_of
from tests.support.dropin import DEADLINE_S, Node, Nodes

# Servers. Each answers with the name of the peer, as far as the library lets an application know it.


class Greeter(http.server.BaseHTTPRequestHandler):
    timeout = DEADLINE_S

    def do_GET(self) -> None:
        peer = peer_of(self.connection)
        body = f"hello {peer.name if peer else 'nobody'}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class PerConnection(http.server.ThreadingHTTPServer):
    """The recipe of docs/drop-in.md: the handshake is done by the thread of the connection, within a time."""

    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - socketserver's own types
        request.settimeout(DEADLINE_S)
        with self.context.wrap_socket(request, server_side=True) as secure:
            super().finish_request(secure, client_address)

    def handle_error(self, *_: object) -> None:
        pass  # it prints a traceback; the refusal is in the log


@contextmanager
def running(server: socketserver.TCPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def http_server_per_connection(context: ssl.SSLContext) -> AbstractContextManager[int]:
    server = PerConnection(("127.0.0.1", 0), Greeter)
    server.context = context
    return running(server)


def http_server_wrapped_listener(context: ssl.SSLContext) -> AbstractContextManager[int]:
    """What many scripts do, and what docs/drop-in.md advises against: it works, one connection after the other."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Greeter)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return running(server)


def socketserver_late_handshake(context: ssl.SSLContext) -> AbstractContextManager[int]:
    """The listener is wrapped, and the handshake left to the first read, in the connection's own thread."""

    class Server(socketserver.ThreadingTCPServer):
        def handle_error(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Greeter)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return running(server)


class OnLoop:
    """An asynchronous server in a thread of its own."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, serve: Callable[[asyncio.Future[int]], Coroutine[Any, Any, None]]
    ) -> None:
        self._loop = loop
        self._serve = serve

    @contextmanager
    def running(self) -> Iterator[int]:
        started: asyncio.Future[int] = self._loop.create_future()
        ready = threading.Event()
        port: list[int] = []

        def noted(future: asyncio.Future[int]) -> None:
            port.append(future.result())
            ready.set()

        started.add_done_callback(noted)
        task = self._loop.create_task(self._serve(started))
        thread = threading.Thread(target=self._run, args=(task,))
        thread.start()
        try:
            assert ready.wait(DEADLINE_S)
            yield port[0]
        finally:
            self._loop.call_soon_threadsafe(task.cancel)
            thread.join()
            self._loop.close()

    def _run(self, task: asyncio.Task[None]) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(task)
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())


def asyncio_streams(context: ssl.SSLContext, loop: asyncio.AbstractEventLoop) -> AbstractContextManager[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        peer = peer_of(writer)
        body = f"hello {peer.name if peer else 'nobody'}".encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def serve(started: asyncio.Future[int]) -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
        async with server:
            started.set_result(server.sockets[0].getsockname()[1])
            await server.serve_forever()

    return OnLoop(loop, serve).running()


def on_asyncio(context: ssl.SSLContext) -> AbstractContextManager[int]:
    return asyncio_streams(context, asyncio.new_event_loop())


def on_uvloop(context: ssl.SSLContext) -> AbstractContextManager[int]:
    return asyncio_streams(context, uvloop.new_event_loop())


def aiohttp_server(context: ssl.SSLContext) -> AbstractContextManager[int]:
    async def hello(request: aiohttp.web.Request) -> aiohttp.web.Response:
        peer = peer_of(request.transport)
        return aiohttp.web.Response(text=f"hello {peer.name if peer else 'nobody'}")

    async def serve(started: asyncio.Future[int]) -> None:
        application = aiohttp.web.Application()
        application.router.add_get("/", hello)
        runner = aiohttp.web.AppRunner(application)
        await runner.setup()
        try:
            await aiohttp.web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
            started.set_result(runner.addresses[0][1])
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    return OnLoop(asyncio.new_event_loop(), serve).running()


class TellingPeer(HttpToolsProtocol):
    """The recipe of docs/drop-in.md: the application finds the peer in its scope's state."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.app_state = {**self.app_state, "peer": peer_of(transport)}
        super().connection_made(transport)


async def greeting_application(scope: dict[str, Any], _: object, send: Callable[[dict[str, Any]], Awaitable[None]]) -> None:
    peer = scope["state"]["peer"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"close")]})
    await send({"type": "http.response.body", "body": f"hello {peer.name if peer else 'nobody'}".encode()})


@contextmanager
def uvicorn_on(loop: str, context: ssl.SSLContext) -> Iterator[int]:
    config = uvicorn.Config(
        greeting_application,
        ssl_context_factory=lambda _config, _default: context,
        http=TellingPeer,
        loop=loop,
        lifespan="off",
        log_config=None,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:  # listens already: a client that is early waits
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def uvicorn_on_asyncio(context: ssl.SSLContext) -> AbstractContextManager[int]:
    return uvicorn_on("asyncio", context)


def uvicorn_on_uvloop(context: ssl.SSLContext) -> AbstractContextManager[int]:
    return uvicorn_on("uvloop", context)


SERVERS = [
    http_server_per_connection,
    http_server_wrapped_listener,
    socketserver_late_handshake,
    on_asyncio,
    on_uvloop,
    aiohttp_server,
    uvicorn_on_asyncio,
    uvicorn_on_uvloop,
]


# Clients


def by_requests(url: str, context: ssl.SSLContext) -> str:
    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - as in requests
            super().init_poolmanager(*args, **options, ssl_context=context)

    with requests.Session() as session:
        session.trust_env = False
        session.mount("https://", Adapter())
        return session.get(url, timeout=DEADLINE_S).text


def by_urllib3(url: str, context: ssl.SSLContext) -> str:
    with urllib3.PoolManager(ssl_context=context, retries=False, timeout=DEADLINE_S) as pool:
        return pool.request("GET", url).data.decode()


def by_httpx(url: str, context: ssl.SSLContext) -> str:
    with httpx.Client(verify=context, trust_env=False, timeout=DEADLINE_S) as client:
        return client.get(url).text


def by_httpx_async(url: str, context: ssl.SSLContext) -> str:
    async def ask() -> str:
        async with httpx.AsyncClient(verify=context, trust_env=False, timeout=DEADLINE_S) as client:
            return (await client.get(url)).text

    return asyncio.run(ask())


@contextlib.asynccontextmanager
async def aiohttp_session(context: ssl.SSLContext) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:
        yield session


async def with_aiohttp(url: str, context: ssl.SSLContext) -> str:
    async with aiohttp_session(context) as session, session.get(url) as response:
        return await response.text()


def by_aiohttp(url: str, context: ssl.SSLContext) -> str:
    return asyncio.run(with_aiohttp(url, context))


def by_aiohttp_on_uvloop(url: str, context: ssl.SSLContext) -> str:
    return uvloop.run(with_aiohttp(url, context))


def by_http_client(url: str, context: ssl.SSLContext) -> str:
    connection = http.client.HTTPSConnection(url.split("/")[2], context=context, timeout=DEADLINE_S)
    with contextlib.closing(connection):
        connection.request("GET", "/")
        return connection.getresponse().read().decode()


def by_urllib(url: str, context: ssl.SSLContext) -> str:
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=DEADLINE_S) as response:
        text: str = response.read().decode()
        return text


CLIENTS = [
    by_requests,
    by_urllib3,
    by_httpx,
    by_httpx_async,
    by_aiohttp,
    by_aiohttp_on_uvloop,
    by_http_client,
    by_urllib,
]
TROUBLES = (OSError, requests.RequestException, urllib3.exceptions.HTTPError, httpx.HTTPError, aiohttp.ClientError)
TROUBLES += (http.client.HTTPException,)  # type: ignore[assignment]


@pytest.mark.parametrize("serve", SERVERS)
def test_server_admits_its_peers_alone(node: Nodes, serve: Callable[[ssl.SSLContext], AbstractContextManager[int]]) -> None:
    """One that was removed is refused, as is a stranger; the server lives on and knows the next peer's name."""
    a, stays, gone, stranger = node("a"), node("stays"), node("gone"), node("stranger")
    for who in (stays, gone, stranger):
        who.knows(a)
    context = a.knows(stays, gone).server()

    with serve(context) as port:

        def visit(who: Node) -> str:
            return by_http_client(f"https://127.0.0.1:{port}/", who.client("a"))

        assert visit(gone) == "hello gone"
        a.forgets(gone)
        for refused in (gone, stranger):
            with pytest.raises((OSError, http.client.HTTPException)):
                visit(refused)
            assert visit(stays) == "hello stays"


@pytest.mark.parametrize("client", CLIENTS)
def test_client_reaches_its_peer_alone(node: Nodes, client: Callable[[str, ssl.SSLContext], str]) -> None:
    """Another pinned peer that answers instead is refused before it hears a request, and the error says who it is."""
    a, b, me = node("a"), node("b"), node("me")
    me.knows(a, b)
    for other in (a, b):
        other.knows(me)
    context = me.client("a")

    with http_server_per_connection(a.server()) as right, http_server_per_connection(b.server()) as wrong:
        assert client(f"https://localhost:{right}/", context) == "hello me"
        with pytest.raises(TROUBLES) as error:
            client(f"https://localhost:{wrong}/", context)
        assert client(f"https://localhost:{right}/", context) == "hello me"

    assert "that is b, not a" in str(error.value)
    assert refusal_behind(error.value) or isinstance(error.value, httpx.HTTPError)


def refusal_behind(error: BaseException | None) -> bool:
    """Whether our error, with its decision, can be had from the library's."""
    seen: list[object] = [error]
    for found in seen:
        if isinstance(found, PeerRefused):
            return True
        if isinstance(found, BaseException):
            more = [found.__cause__, found.__context__, getattr(found, "reason", None), *found.args]
            seen += [one for one in more if isinstance(one, BaseException) and one not in seen]
    return False


@pytest.mark.parametrize("library", ["requests", "urllib3"])
def test_libraries_that_compare_the_name_themselves_can_be_told_not_to(node: Nodes, library: str) -> None:
    """Of the clients here only these look for the URL's name in the certificate when `check_hostname` is off."""
    a, me = node("a"), node("me")
    a.knows(me)
    context = me.knows(a).client("a")

    def get(port: int, **options: Any) -> str:  # noqa: ANN401 - the library's
        url = f"https://127.0.0.2:{port}/"
        if library == "urllib3":
            with urllib3.PoolManager(ssl_context=context, retries=False, **options) as pool:
                return pool.request("GET", url).data.decode()
        adapter = HTTPAdapter()
        adapter.init_poolmanager(1, 1, ssl_context=context, **options)
        with requests.Session() as session:
            session.trust_env = False
            session.mount("https://", adapter)
            return session.get(url, timeout=DEADLINE_S).text

    server = PerConnection(("127.0.0.2", 0), Greeter)
    server.context = a.server()
    with running(server) as port:
        with pytest.raises(TROUBLES, match=r"127\.0\.0\.2"):
            get(port)
        assert get(port, assert_hostname=False) == "hello me"
        assert by_http_client(f"https://127.0.0.2:{port}/", context) == "hello me"


def test_one_silent_connection_holds_up_a_wrapped_listener_only(node: Nodes) -> None:
    """Why docs/drop-in.md says to wrap each connection: there, a caller who says nothing is nobody else's trouble."""
    a, me = node("a"), node("me")
    a.knows(me)
    client = me.knows(a).client("a")

    def visit(port: int, patience: float) -> str:
        with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)) as plain:
            plain.settimeout(patience)
            with client.wrap_socket(plain) as tls:
                tls.sendall(b"GET / HTTP/1.0\r\n\r\n")
                return tls.recv(1000).decode()

    with http_server_per_connection(a.server()) as port:
        assert visit(port, DEADLINE_S).startswith("HTTP/1.0 200")
    with http_server_wrapped_listener(a.server()) as port, pytest.raises(TimeoutError):
        visit(port, 0.2)
