"""stunnel, HAProxy and nginx, as a careful person would set them up for pinned clients."""

from __future__ import annotations

import signal

from benchmarks.contenders.model import Contender, Place, reload_by

_HOUR = 3600


def _stunnel(place: Place) -> dict[str, str]:
    config = f"""\
foreground = yes
debug = 3
pid =
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1

[relay]
accept = 127.0.0.1:{place.listen}
connect = 127.0.0.1:{place.target}
cert = {place.server.certificate}
key = {place.server.key}
CAfile = {place.bundle}
verifyPeer = yes
sslVersionMin = TLSv1.3
TIMEOUTidle = {_HOUR}
"""
    return {"stunnel.conf": config, place.bundle.name: place.bundle_text()}


def _haproxy(place: Place) -> dict[str, str]:
    config = f"""\
global
    nbthread 1
    maxconn {place.connections + 100}
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
listen relay
    bind 127.0.0.1:{place.listen} ssl crt server.pem ca-file {place.bundle} verify required ssl-min-ver TLSv1.3
    server backend 127.0.0.1:{place.target}
"""
    return {"haproxy.cfg": config, "server.pem": place.server_text(), place.bundle.name: place.bundle_text()}


def _nginx(place: Place, module: str, body: str) -> dict[str, str]:
    config = f"""\
{module}daemon off;
worker_processes {place.workers};
worker_rlimit_nofile {2 * place.connections + 300};
pid {place.directory}/nginx.pid;
error_log {place.directory}/error.log crit;
events {{ worker_connections {2 * place.connections + 200}; }}
{body}"""
    return {"nginx.conf": config, place.bundle.name: place.bundle_text()}


def _nginx_server(place: Place) -> str:
    return f"""\
        listen 127.0.0.1:{place.listen} ssl backlog=4096;
        ssl_certificate {place.server.certificate};
        ssl_certificate_key {place.server.key};
        ssl_client_certificate {place.bundle};
        ssl_verify_client on;
        ssl_protocols TLSv1.3;
"""


def _nginx_stream(place: Place) -> dict[str, str]:
    body = f"""\
stream {{
    server {{
{_nginx_server(place)}        proxy_pass 127.0.0.1:{place.target};
        proxy_timeout 1h;
        tcp_nodelay on;
    }}
}}
"""
    return _nginx(place, "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n", body)


def _nginx_http(place: Place) -> dict[str, str]:
    temporary = "".join(
        f"    {kind}_temp_path {place.directory}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    body = f"""\
http {{
    access_log off;
{temporary}    keepalive_timeout 1h;
    keepalive_requests 100000000;
    upstream backend {{ server 127.0.0.1:{place.target}; keepalive 512; }}
    server {{
{_nginx_server(place)}        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }}
    }}
}}
"""
    return _nginx(place, "", body)


def _nginx_arguments(place: Place) -> list[str]:
    return ["-p", str(place.directory), "-c", str(place.directory / "nginx.conf"), "-e", str(place.directory / "error.log")]


STUNNEL = Contender(
    name="stunnel",
    program="stunnel4",
    package="stunnel4",
    files=_stunnel,
    arguments=lambda place: [str(place.directory / "stunnel.conf")],
    version=("stunnel4", "-version"),
    library=("stunnel4", "-version"),
    reload=reload_by(signal.SIGHUP),
    note="verifyPeer: the exact certificate; a thread for each connection",
)
HAPROXY = Contender(
    name="HAProxy",
    program="haproxy",
    package="haproxy",
    files=_haproxy,
    arguments=lambda place: ["-W", "-f", str(place.directory / "haproxy.cfg")],
    version=("haproxy", "-v"),
    library=("haproxy", "-vv"),
    reload=reload_by(signal.SIGUSR2),
    note="mode tcp, verify required; clients' certificates as authorities",
)
NGINX_STREAM = Contender(
    name="nginx stream",
    program="nginx",
    package="libnginx-mod-stream",
    files=_nginx_stream,
    arguments=_nginx_arguments,
    version=("nginx", "-v"),
    library=("nginx", "-V"),
    reload=reload_by(signal.SIGHUP),
    note="ssl_verify_client on; clients' certificates as authorities",
)
NGINX_HTTP = Contender(
    name="nginx http",
    program="nginx",
    package="nginx",
    files=_nginx_http,
    arguments=_nginx_arguments,
    version=("nginx", "-v"),
    library=("nginx", "-V"),
    reload=reload_by(signal.SIGHUP),
    http=True,
    note="a reverse proxy: a GET and 100 bytes where the others carry one byte each way",
)
