"""The programs that are compared, each in one definition; all get the same certificates, one worker, and no access log."""

from benchmarks.contenders.model import Contender, Place
from benchmarks.contenders.others import CADDY, GHOSTUNNEL, HITCH
from benchmarks.contenders.ourselves import PEERAUTH, PEERAUTH_HTTP
from benchmarks.contenders.packaged import HAPROXY, NGINX_HTTP, NGINX_STREAM, STUNNEL

ALL: tuple[Contender, ...] = (
    PEERAUTH, STUNNEL, HAPROXY, NGINX_STREAM, NGINX_HTTP, CADDY, HITCH, GHOSTUNNEL,
)  # fmt: skip

__all__ = ["ALL", "GHOSTUNNEL", "PEERAUTH", "PEERAUTH_HTTP", "Contender", "Place"]
