"""What a service is made of: from its kind, as config.toml has it, to what serves its guests in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from peerauth.audit import Audit
from peerauth.services.guest import Serve
from peerauth.store.config import Config, Service
from peerauth.store.kinds import App, Command, Hello, Http, Kind, Relay, Root


async def _nothing() -> None:
    """There is nothing to be closed."""


@dataclass(frozen=True)
class Offer:
    """A service that is ready to serve.

    `wind_down` is called when the server begins to stop: connections on which nothing goes on end, so that nobody waits for
    them. `close` is awaited when the last guest has gone.
    """

    serve: Serve
    close: Callable[[], Awaitable[None]] = _nothing
    wind_down: Callable[[], None] = lambda: None


def _import(kind: Kind) -> None:
    """Have what serves this kind loaded: a tenth of a second, the first time that there is one."""
    match kind:
        case Hello() | App():
            import peerauth.services.asgi
            import peerauth.services.guarded
            import peerauth.services.websocket_bounds
        case Root():
            import peerauth.services.files
        case Http():
            import peerauth.services.front
            import peerauth.services.proxy  # noqa: F401


async def make_offer(service: Service, audit: Audit, config: Config | None = None, *, aside: bool = False) -> Offer:
    """Make this service ready, in the running loop, before anybody is let in. Raises PeerAuthError.

    `aside`: this loop serves others meanwhile, who do not wait for what is imported.
    """
    if aside:
        await asyncio.to_thread(_import, service.kind)
    match service.kind:
        case Hello():
            from peerauth.services.asgi import Asgi
            from peerauth.services.guarded import guarded
            from peerauth.services.hello import hello

            asgi = Asgi(guarded(hello, service, audit), "hello")
            return Offer(asgi.serve, asgi.close, asgi.wind_down)
        case Relay(targets, proxy_protocol, patient):
            from peerauth.services.proxy_protocol import introduce
            from peerauth.services.relay import relay_service
            from peerauth.services.targets import Targets

            reached = Targets(service.name, targets, audit, patient=patient)
            return Offer(relay_service(reached, introduce if proxy_protocol else None))
        case Http():
            return _proxy(service, service.kind, audit)
        case Command():
            return await make_offer(replace(service, kind=service.kind.front), audit, config, aside=aside)
        case Root(directory):
            from peerauth.services.files import Files
            from peerauth.store.roots import check_root

            if config is not None:
                await asyncio.to_thread(check_root, directory, config)
            files = Files(service, directory, config.key if config else None, audit)
            return Offer(files.serve, files.close, files.wind_down)
        case App() as app:
            from peerauth.services.app_aside import load_aside
            from peerauth.services.app_loading import load
            from peerauth.services.asgi import Asgi
            from peerauth.services.guarded import guarded
            from peerauth.services.lifespan import lifespan_of

            application = await load_aside(app) if aside else load(app)
            lifespan = lifespan_of(application, app.leads_to)
            asgi = Asgi(guarded(application, service, audit), app.leads_to, websockets=True, lifespan=lifespan)
            await asgi.start()
            return Offer(asgi.serve, asgi.close, asgi.wind_down)
    raise AssertionError(f"nobody serves a {type(service.kind).__name__}")


def _proxy(service: Service, kind: Http, audit: Audit) -> Offer:
    from peerauth.services.front import make_front
    from peerauth.services.patience import Patience
    from peerauth.services.proxy import proxy_service

    patience = Patience(asyncio.get_running_loop(), kind.timeout / 4)

    async def close() -> None:
        patience.close()

    return Offer(proxy_service(make_front(service, kind, audit, patience)), close, patience.wind_down)
