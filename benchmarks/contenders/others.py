"""hitch, Caddy, and ghostunnel, which no Debian 12 package has and `packages` builds."""

from __future__ import annotations

import os
import signal

from benchmarks.contenders.model import Contender, Place, reload_by, reload_by_command


def _hitch(place: Place) -> dict[str, str]:
    config = f"""\
frontend = "[127.0.0.1]:{place.listen}"
backend = "[127.0.0.1]:{place.target}"
pem-file = "{place.directory}/server.pem"
client-verify = required
client-verify-ca = "{place.bundle}"
tls-protos = TLSv1.3
workers = {place.workers}
backlog = 4096
log-level = 1
daemon = off
"""
    if os.geteuid() == 0:  # it runs as anybody but root
        config += 'user = "nobody"\ngroup = "nogroup"\n'
    return {"hitch.conf": config, "server.pem": place.server_text(), place.bundle.name: place.bundle_text()}


def _caddy(place: Place) -> dict[str, str]:
    leaves = "\n".join(f"            trusted_leaf_cert_file {peer}" for peer in place.peers)
    config = f"""\
{{
    admin unix/{place.directory}/admin.sock
    auto_https off
    servers {{
        protocols h1
    }}
}}
https://localhost:{place.listen} {{
    bind 127.0.0.1
    tls {place.server.certificate} {place.server.key} {{
        protocols tls1.3
        client_auth {{
            mode require
{leaves}
        }}
    }}
    reverse_proxy 127.0.0.1:{place.target}
}}
"""
    return {"Caddyfile": config}


def _caddy_reload(place: Place) -> list[str]:
    return ["reload", "--config", f"{place.directory}/Caddyfile", "--address", f"unix/{place.directory}/admin.sock"]


def _ghostunnel(place: Place) -> list[str]:
    return [
        "server",
        f"--listen=127.0.0.1:{place.listen}",
        f"--target=127.0.0.1:{place.target}",
        f"--cert={place.server.certificate}",
        f"--key={place.server.key}",
        f"--cacert={place.bundle}",
        "--allow-all",
        "--quiet=all",
    ]


HITCH = Contender(
    name="hitch",
    program="hitch",
    package="hitch",
    files=_hitch,
    arguments=lambda place: [f"--config={place.directory}/hitch.conf"],
    version=("hitch", "--version"),
    library=("openssl", "version"),
    reload=reload_by(signal.SIGHUP),
    note="client-verify required; clients' certificates as authorities",
)
CADDY = Contender(
    name="Caddy",
    program="caddy",
    package="caddy",
    files=_caddy,
    arguments=lambda place: ["run", "--config", f"{place.directory}/Caddyfile"],
    version=("caddy", "version"),
    library=("caddy", "build-info"),
    reload=reload_by_command(_caddy_reload),
    http=True,
    note="trusted_leaf_cert_file: the exact certificate; a GET and 100 bytes where the others carry one byte each way",
)
GHOSTUNNEL = Contender(
    name="ghostunnel",
    program="ghostunnel",
    package="",
    files=lambda place: {place.bundle.name: place.bundle_text()},
    arguments=_ghostunnel,
    version=(),
    library=("go", "version"),
    reload=reload_by(signal.SIGHUP),
    note="--cacert; clients' certificates as authorities",
    built="github.com/ghostunnel/ghostunnel@v1.8.4",
)
