"""Who is calling, as header fields for the backend; and the fields by which a caller might say so itself.

A backend believes what its proxy says. So what a client sends under one of these names is dropped, in every spelling that
some backend takes for it, and whether or not we set it: CGI and WSGI read `X_Peer_Name` as X-Peer-Name, and others so any
character but letters and digits. Nothing that is set here can hold the end of a line: what people and certificates say is
escaped.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable
from urllib.parse import quote

from peerauth.http.target import check_host
from peerauth.trust.certificate import Certificate
from peerauth.trust.fingerprint import Fingerprint
from peerauth.trust.peers import Peer

DEFAULT_HEADERS = frozenset(
    ("X-Peer-Name", "X-Peer-Fingerprint", "X-Peer-Tags", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host")
)

# The fields that some backend believes, as `folded`. First those about the connection: where it came from and over what.
_CLAIMS = frozenset(
    (
        b"forwarded",  # RFC 7239
        b"client-cert",  # RFC 9440
        b"client-cert-chain",
        b"x-real-ip",  # nginx
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"client-ip",
        b"true-client-ip",
        b"cf-connecting-ip",
        b"cf-connecting-ipv6",
        b"fastly-client-ip",
        b"x-appengine-user-ip",
        b"x-azure-clientip",
        b"x-azure-socketip",
        b"x-envoy-external-address",
        b"x-scheme",  # ingress-nginx
        b"x-url-scheme",
        b"front-end-https",  # IIS
        b"x-arr-ssl",
        b"x-arr-clientcert",  # Azure
        b"x-host",
        b"x-http-host-override",
        b"x-rewrite-url",  # IIS: another path than the one that the routes judged
    )
)
# And those that begin like this: in a backend's environment they are all of one kind.
_CLAIMING = (
    b"x-peer-",
    b"x-forwarded-",  # also -client-cert (Envoy), -tls-client-cert (Traefik), -user, -email, -groups (oauth2-proxy)
    b"x-original-",  # X-Original-URL (IIS, ingress-nginx), -Method, -Forwarded-For
    b"x-envoy-original-",
    b"x-envoy-peer-",
    b"x-ssl-",  # X-SSL-Client-CN, X-SSL-Cert (HAProxy, nginx)
    b"ssl-",  # ssl-client-cert (ingress-nginx), SSL-Client-Verify (Apache's variables)
    b"x-tls-",
    b"tls-",
    b"x-client-cert",  # X-Client-Cert-Present (Google), X-Client-Certificate
    b"x-client-dn",
    b"x-client-s-dn",
    b"x-client-subject",
    b"x-client-verify",
    b"x-client-fingerprint",
    b"x-client-cn",
    b"x-client-mtls",
    b"x-amzn-mtls-",
    b"cf-client-cert-",
    b"x-spiffe-",
    b"remote-",  # Remote-User (Authelia); Remote-Addr
    b"x-remote-",  # X-Remote-User, -Group, -Extra-… (Kubernetes)
    b"x-webauth-",  # Grafana
    b"x-auth-request-",  # oauth2-proxy
    b"x-authenticated-",  # Kong
    b"x-authentik-",
    b"x-pomerium-",
    b"x-goog-authenticated-user-",
    b"x-ms-client-principal",
    b"tailscale-user-",
)
_OVERRIDES = frozenset((b"x-http-method-override", b"x-http-method", b"x-method-override"))
_FOLD = bytes(
    byte + 32 if 65 <= byte <= 90 else byte if 97 <= byte <= 122 or 48 <= byte <= 57 else 45 for byte in range(256)
)
_SAFE = "!$&'()*+/:@?#[]"  # of a URI in Envoy's header, which gives a meaning to , ; = and quotes
_MOST_NAMES = 32  # that a certificate's alternative names put into a header


def folded(name: bytes) -> bytes:
    """What all spellings of a field's name have in common: lower case, and a hyphen for all but letters and digits."""
    return name.translate(_FOLD)


def is_claim(name: bytes) -> bool:
    """Whether a field of this name says who calls or what was asked for, in some spelling: it does not pass."""
    plain = folded(name)
    return plain in _CLAIMS or plain.startswith(_CLAIMING)


def overrides_method(name: bytes) -> bool:
    """Whether a field of this name makes another method of the request for some backends: not where there are routes."""
    return folded(name) in _OVERRIDES


class Introduction:
    """What a backend is told of one connection: header lines, ready to be sent. Only the host differs between requests.

    `certificate` is the peer's DER, `remote` the address that it comes from ("" for a Unix socket), `chosen` which of
    HEADERS are set, `own` the DER of the certificate that this node showed.
    """

    __slots__ = ("_about", "_fixed", "_host", "_lines")

    def __init__(
        self,
        peer: Peer,
        fingerprint: Fingerprint,
        certificate: bytes,
        remote: str,
        chosen: frozenset[str],
        *,
        own: bytes = b"",
    ) -> None:
        facts = _Facts(peer, fingerprint, certificate, _plain_address(remote), own)
        values = [(name, _FIXED[name](facts)) for name in _FIXED if name in chosen]
        self._fixed = b"".join(_line(name, value.encode("ascii")) for name, value in values if value)
        self._about = [(name, about(facts.remote)) for name, about in _BY_HOST.items() if name in chosen]
        self._host: bytes | None = None
        self._lines = b""

    def lines(self, host: bytes) -> bytes:
        """The header lines for a request to this host; b"" for one that names none. Raises BadRequest for no host."""
        if host != self._host:
            self._lines = self._fixed + b"".join(_line(name, value) for name, about in self._about if (value := about(host)))
            self._host = host
        return self._lines


class _Facts:
    """What the values are made of; the certificates are read only where somebody asks for what they say."""

    def __init__(self, peer: Peer, fingerprint: Fingerprint, der: bytes, remote: str, own: bytes) -> None:
        self.peer, self.fingerprint, self.der, self.remote, self.own = peer, fingerprint, der, remote, own


def _line(name: str, value: bytes) -> bytes:
    return b"%b: %b\r\n" % (name.encode("ascii"), value)


def _plain_address(remote: str) -> str:
    """An address in its usual form: an IPv4 address that came through an IPv6 socket is an IPv4 address."""
    if not remote:
        return ""
    address = ipaddress.ip_address(remote)
    return str(getattr(address, "ipv4_mapped", None) or address).partition("%")[0]


def _tags(facts: _Facts) -> str:
    return ",".join(quote(tag, safe="!#$&'()*+/:=@[]") for tag in facts.peer.tags)


def _client_cert(facts: _Facts) -> str:
    """RFC 9440 section 2.2: the DER as a byte sequence of structured fields (RFC 8941 section 3.3.5)."""
    return f":{base64.b64encode(facts.der).decode('ascii')}:"


def _xfcc(facts: _Facts) -> str:
    """One element of Envoy's x-forwarded-client-cert, in Envoy's order."""
    certificate = Certificate(facts.der)
    parts = [f"By={_value(uri)}" for uri in _own_names(facts.own)]
    parts.append(f"Hash={facts.fingerprint.digest.hex()}")
    parts.append(f'Cert="{quote(certificate.pem, safe="")}"')
    parts.append(f'Subject="{certificate.rfc4514_subject}"')
    parts += [f"URI={_value(uri)}" for uri in certificate.uris[:_MOST_NAMES]]
    parts += [f"DNS={_value(name)}" for name in certificate.dns_names[:_MOST_NAMES]]
    return ";".join(parts)


def _own_names(der: bytes) -> list[str]:
    """How this node is called as a URI: as its certificate says, or else by its first name there (RFC 4501)."""
    if not der:
        return []
    own = Certificate(der)
    return list(own.uris[:_MOST_NAMES]) or [f"dns:{name}" for name in own.dns_names[:1]]


def _value(text: str) -> str:
    """A name from a certificate; what has a meaning in the header, or none in a URI, is percent-encoded."""
    return quote(text, safe=_SAFE + "%")


def _forwarded(remote: str) -> Callable[[bytes], bytes]:
    """RFC 7239 section 4; an IPv6 address is in brackets and quoted (section 6)."""
    node = f'"[{remote}]"' if ":" in remote else remote or "unknown"
    begin = f"for={node};".encode("ascii")

    def value(host: bytes) -> bytes:
        if not host:
            return begin + b"proto=https"
        shown = b'"%b"' % host if b":" in check_host(host) else host  # no token then (RFC 9110 section 5.6.2)
        return b"%bhost=%b;proto=https" % (begin, shown)

    return value


def _forwarded_host(_: str) -> Callable[[bytes], bytes]:
    return lambda host: check_host(host) if host else b""


_FIXED: dict[str, Callable[[_Facts], str]] = {
    "X-Peer-Name": lambda facts: quote(facts.peer.name, safe=""),
    "X-Peer-Fingerprint": lambda facts: str(facts.fingerprint),
    "X-Peer-Tags": _tags,
    "X-Forwarded-For": lambda facts: facts.remote,
    "X-Forwarded-Proto": lambda _: "https",
    "Client-Cert": _client_cert,
    "X-Forwarded-Client-Cert": _xfcc,
}
_BY_HOST: dict[str, Callable[[str], Callable[[bytes], bytes]]] = {
    "X-Forwarded-Host": _forwarded_host,
    "Forwarded": _forwarded,
}
HEADERS = (*_FIXED, *_BY_HOST)
"""Every field that can be chosen to be set."""
