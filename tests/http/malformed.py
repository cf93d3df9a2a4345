"""Requests that must not reach a program: each with a name, where it is from, and the status that it deserves.

RFC numbers name the rule that is broken; other names are those under which the attack is known: "smuggler" is the list
of permutations of PortSwigger's HTTP Request Smuggler; "llhttp", "node", "haproxy", "apache" are advisories of these.
"""

from __future__ import annotations

from dataclasses import dataclass

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: node\r\n\r\n"
TOP = b"POST /a HTTP/1.1\r\nHost: node\r\n"
GET = b"GET /a HTTP/1.1\r\nHost: node\r\n"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
CHUNKED = TOP + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Malformed:
    """What is sent, all at once, with another request behind it."""

    name: str
    source: str
    data: bytes
    status: tuple[int, ...] = (400,)

    def __str__(self) -> str:
        return self.name


def _field(name: str, source: str, line: bytes, *status: int) -> Malformed:
    return Malformed(name, source, GET + line + b"\r\n\r\n", status or (400,))


def _length(name: str, source: str, *values: bytes) -> Malformed:
    lines = b"".join(b"Content-Length: %b\r\n" % value for value in values)
    return Malformed(f"length-{name}", source, TOP + lines + b"\r\nhello")


def _coding(name: str, line: bytes, source: str = "RFC 9112 6.1; TE.TE, smuggler", *status: int) -> Malformed:
    return Malformed(f"coding-{name}", source, TOP + line + b"\r\n\r\n" + CHUNKS, status or (400,))


def _chunks(name: str, data: bytes, source: str = "RFC 9112 7.1") -> Malformed:
    return Malformed(f"chunk-{name}", source, CHUNKED + data)


def _first(name: str, line: bytes, source: str = "RFC 9112 3", *status: int) -> Malformed:
    return Malformed(f"line-{name}", source, line + b"\r\nHost: node\r\n\r\n", status or (400,))


def _host(name: str, source: str, *lines: bytes) -> Malformed:
    return Malformed(f"host-{name}", source, b"GET /a HTTP/1.1\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n")


FRAMING = [
    Malformed("CL.TE", "RFC 9112 6.3", TOP + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG"),
    Malformed("TE.CL", "RFC 9112 6.3", TOP + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\nGPOST"),
    Malformed("TE-with-length-0", "RFC 9112 6.3", TOP + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS),
    Malformed("TE-in-HTTP-1.0", "RFC 9112 6.1", CHUNKED.replace(b"1.1", b"1.0", 1) + CHUNKS),
    _length("twice-different", "RFC 9112 6.3", b"5", b"6"),
    _length("twice-the-same", "RFC 9112 6.3", b"5", b"5"),
    _length("list", "RFC 9112 6.3", b"5, 5"),
    _length("list-different", "RFC 9112 6.3", b"5, 6"),
    _length("plus", "RFC 9110 8.6; node CVE-2018-7159", b"+5"),
    _length("minus", "RFC 9110 8.6", b"-5"),
    _length("minus-zero", "RFC 9110 8.6", b"-0"),
    _length("hex", "RFC 9110 8.6", b"0x5"),
    _length("octal", "RFC 9110 8.6", b"0o5"),
    _length("underscore-in-it", "Python's int()", b"1_0"),
    _length("spaces", "RFC 9110 8.6; node CVE-2018-7159", b"5 5"),
    _length("empty", "RFC 9110 8.6; haproxy CVE-2023-40225", b""),
    _length("exponent", "RFC 9110 8.6", b"5e0"),
    _length("fraction", "RFC 9110 8.6", b"5.0"),
    _length("semicolon", "RFC 9110 8.6", b"5;"),
    _length("quoted", "RFC 9110 8.6", b'"5"'),
    _length("word", "RFC 9110 8.6", b"five"),
    _length("wide-digit", "Python's int()", "\uff15".encode()),
    _length("vertical-tab", "RFC 9110 5.6.3", b"\x0b5"),
    _length("nul", "RFC 9110 5.5", b"5\x00"),
    _length("overflow-64", "RFC 9110 8.6; haproxy CVE-2021-40346", b"18446744073709551621"),
    _length("overflow-32-digits", "RFC 9110 8.6", b"9" * 32),
    Malformed("length-space-before-colon", "RFC 9112 5.1", TOP + b"Content-Length : 5\r\n\r\nhello"),
    Malformed("length-folded", "RFC 9112 5.2", TOP + b"Content-Length:\r\n 5\r\n\r\nhello"),
    Malformed("length-named-with-nul", "RFC 9110 5.1", TOP + b"Content-Length\x00: 5\r\n\r\nhello"),
    _coding("space-before-colon", b"Transfer-Encoding : chunked"),
    _coding("tab-before-colon", b"Transfer-Encoding\t: chunked"),
    _coding("leading-space", b" Transfer-Encoding: chunked"),
    _coding("folded", b"Transfer-Encoding:\r\n chunked"),
    _coding("folded-tab", b"Transfer-Encoding:\r\n\tchunked"),
    _coding("hidden-by-fold", b"X: a\r\n Transfer-Encoding: chunked"),
    _coding("after-bare-lf", b"X: a\nTransfer-Encoding: chunked"),
    _coding("after-bare-cr", b"X: a\rTransfer-Encoding: chunked"),
    _coding("twice", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    _coding("twice-other-first", b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked", "TE.TE", 400, 501),
    _coding("twice-other-last", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
    _coding("twice-in-list", b"Transfer-Encoding: chunked, chunked"),
    _coding("list-identity-last", b"Transfer-Encoding: chunked, identity"),
    _coding("list-identity-first", b"Transfer-Encoding: identity, chunked"),
    _coding("list-empty-member", b"Transfer-Encoding: chunked,"),
    _coding("list-leading-comma", b"Transfer-Encoding: ,chunked"),
    _coding("gzip", b"Transfer-Encoding: gzip, chunked", "RFC 9112 6.1", 400, 501),
    _coding("identity", b"Transfer-Encoding: identity", "RFC 9112 6.1", 400, 501),
    _coding("x-chunked", b"Transfer-Encoding: xchunked"),
    _coding("chunked-x", b"Transfer-Encoding: chunkedx"),
    _coding("parameter", b"Transfer-Encoding: chunked;q=1"),
    _coding("quoted", b'Transfer-Encoding: "chunked"'),
    _coding("single-quoted", b"Transfer-Encoding: 'chunked'"),
    _coding("empty", b"Transfer-Encoding:", "RFC 9112 6.1", 400, 501),
    _coding("vertical-tab", b"Transfer-Encoding: \x0bchunked"),
    _coding("form-feed", b"Transfer-Encoding: chunked\x0c"),
    _coding("nul", b"Transfer-Encoding: chunked\x00"),
    _coding("backspace", b"Transfer-Encoding: \x08chunked"),
    _coding("high-byte", b"Transfer-Encoding: \xffchunked"),
    _coding("no-break-space", b"Transfer-Encoding: \xa0chunked"),
    _coding("wide-k", "Transfer-Encoding: chun\u212aed".encode(), "case folding of U+212A", 400, 501),
    _coding("named-with-nul", b"Transfer-Encoding\x00: chunked"),
    _coding("named-with-high-byte", b"Transfer-Encoding\xa0: chunked"),
    _coding("colon-twice", b"Transfer-Encoding:: chunked", "TE.TE", 400, 501),
    _coding("connection-names-it", b"Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding"),
]

CHUNK = [
    _chunks("hex-prefix", b"0x5\r\nhello\r\n0\r\n\r\n"),
    _chunks("plus", b"+5\r\nhello\r\n0\r\n\r\n"),
    _chunks("minus", b"-5\r\nhello\r\n0\r\n\r\n"),
    _chunks("underscore", b"0_5\r\nhello\r\n0\r\n\r\n", "Python's int()"),
    _chunks("leading-space", b" 5\r\nhello\r\n0\r\n\r\n"),
    _chunks("trailing-space", b"5 \r\nhello\r\n0\r\n\r\n", "RFC 9112 7.1; smuggler"),
    _chunks("trailing-tab", b"5\t\r\nhello\r\n0\r\n\r\n"),
    _chunks("empty-size", b"\r\nhello\r\n0\r\n\r\n"),
    _chunks("no-hex", b"G\r\nhello\r\n0\r\n\r\n"),
    _chunks("wide-digit", "\uff15\r\nhello\r\n0\r\n\r\n".encode()),
    _chunks("overflow-64", b"10000000000000005\r\nhello\r\n0\r\n\r\n", "RFC 9112 7.1.1"),
    _chunks("overflow-many", b"f" * 40 + b"\r\nhello\r\n0\r\n\r\n", "RFC 9112 7.1.1"),
    _chunks("many-zeros", b"0" * 300 + b"5\r\nhello\r\n0\r\n\r\n", "RFC 9112 7.1.1"),
    _chunks("size-bare-lf", b"5\nhello\r\n0\r\n\r\n", "RFC 9112 2.2; TERM.EXT"),
    _chunks("size-bare-cr", b"5\rXhello\r\n0\r\n\r\n", "RFC 9112 2.2"),
    _chunks("data-bare-lf", b"5\r\nhello\n0\r\n\r\n", "RFC 9112 7.1; EXT.TERM"),
    _chunks("data-too-long", b"5\r\nhellothere\r\n0\r\n\r\n", "spill.TE"),
    _chunks("data-without-end", b"5\r\nhello0\r\n\r\n"),
    _chunks("data-two-bytes-other", b"5\r\nhelloXX0\r\n\r\n", "llhttp, pound: spill"),
    _chunks("extension-bare-lf", b"5;a\nhello\r\n0\r\n\r\n", "RFC 9112 7.1.1; TERM.EXT"),
    _chunks("extension-bare-cr", b"5;a\rb\r\nhello\r\n0\r\n\r\n", "RFC 9112 7.1.1; EXT.TERM"),
    _chunks("extension-nul", b"5;a\x00\r\nhello\r\n0\r\n\r\n", "RFC 9112 7.1.1"),
    _chunks("extension-no-name", b"5;\r\nhello\r\n0\r\n\r\n", "RFC 9112 7.1.1"),
    _chunks("extension-open-quote", b'5;a="\r\nhello\r\n0\r\n\r\n', "RFC 9112 7.1.1"),
    _chunks("extension-lf-in-quotes", b'5;a="x\ny"\r\nhello\r\n0\r\n\r\n', "RFC 9112 7.1.1; Funky chunks"),
    _chunks("extension-huge", b"5;" + b"a" * 20_000 + b"\r\nhello\r\n0\r\n\r\n", "RFC 9112 7.1.1; node CVE-2024-22019"),
    _chunks("last-bare-lf", b"5\r\nhello\r\n0\n\n", "RFC 9112 7.1"),
    _chunks("last-then-garbage", b"5\r\nhello\r\n0\r\nX\r\n\r\n", "RFC 9112 7.1.2"),
    _chunks("trailer-space-before-colon", b"0\r\nX : y\r\n\r\n", "RFC 9112 5.1"),
    _chunks("trailer-folded", b"0\r\nX: y\r\n z\r\n\r\n", "RFC 9112 5.2"),
    _chunks("trailer-bare-lf", b"0\r\nX: y\nZ: a\r\n\r\n", "RFC 9112 2.2"),
    _chunks("trailer-nul", b"0\r\nX: \x00\r\n\r\n", "RFC 9110 5.5"),
    _chunks("trailers-huge", b"0\r\n" + b"X: y\r\n" * 5000 + b"\r\n", "RFC 9110 6.5"),
]

LINE = [
    _first("two-spaces", b"GET  /a HTTP/1.1"),
    _first("tabs", b"GET\t/a\tHTTP/1.1"),
    _first("leading-space", b" GET /a HTTP/1.1"),
    _first("trailing-space", b"GET /a HTTP/1.1 "),
    _first("no-target", b"GET HTTP/1.1"),
    _first("no-version", b"GET /a"),
    _first("no-method", b"/a HTTP/1.1"),
    _first("four-words", b"GET /a b HTTP/1.1"),
    _first("bare-cr", b"GET /a HTTP/1.1\rX", "RFC 9112 2.2"),
    _first("vertical-tab", b"GET\x0b/a HTTP/1.1"),
    _first("HTTP-0.9", b"GET /a HTTP/0.9", "RFC 9112 2.3", 400, 505),
    _first("HTTP-1.2", b"GET /a HTTP/1.2", "RFC 9112 2.3", 400, 505),
    _first("HTTP-1.10", b"GET /a HTTP/1.10", "RFC 9112 2.3", 400, 505),
    _first("HTTP-1.", b"GET /a HTTP/1.", "RFC 9112 2.3"),
    _first("HTTP-1", b"GET /a HTTP/1", "RFC 9112 2.3", 400, 505),
    _first("HTTP-01.1", b"GET /a HTTP/01.1", "RFC 9112 2.3", 400, 505),
    _first("HTTP-2.0", b"GET /a HTTP/2.0", "RFC 9112 2.3", 400, 505),
    _first("lower-case-version", b"GET /a http/1.1", "RFC 9112 2.3"),
    _first("other-protocol", b"GET /a ICE/1.1", "llhttp accepts it"),
    _first("version-wide-digit", "GET /a HTTP/\uff11.1".encode(), "RFC 9112 2.3"),
    _first("method-with-nul", b"G\x00ET /a HTTP/1.1", "RFC 9110 9.1"),
    _first("method-with-parenthesis", b"GET( /a HTTP/1.1", "RFC 9110 9.1"),
    _first("method-with-colon", b"GET: /a HTTP/1.1", "RFC 9110 9.1"),
    _first("method-long", b"G" * 500 + b" /a HTTP/1.1", "RFC 9110 15.6.2", 400, 501),
    _first("CONNECT", b"CONNECT node:443 HTTP/1.1", "RFC 9110 9.3.6", 400, 405, 501),
    _first("CONNECT-path", b"CONNECT /a HTTP/1.1", "RFC 9110 9.3.6", 400, 405, 501),
    _first("authority-form", b"GET node:443 HTTP/1.1", "RFC 9112 3.2.3"),
    _first("asterisk-form-of-GET", b"GET * HTTP/1.1", "RFC 9112 3.2.4"),
    _first("absolute-other-host", b"GET http://other/a HTTP/1.1", "RFC 9112 3.2.2"),
    _first("absolute-other-port", b"GET https://node:1/a HTTP/1.1", "RFC 9112 3.2.2"),
    _first("absolute-userinfo", b"GET http://other@node/a HTTP/1.1", "RFC 9110 4.2.4"),
    _first("absolute-userinfo-2", b"GET http://node@other/a HTTP/1.1", "RFC 9110 4.2.4"),
    _first("absolute-other-scheme", b"GET ftp://node/a HTTP/1.1", "RFC 9112 3.2.2"),
    _first("absolute-backslash", b"GET http://node\\@other/a HTTP/1.1", "apache CVE-2011-3368"),
    _first("at-sign", b"GET @other/a HTTP/1.1", "apache CVE-2011-3368"),
    _first("relative", b"GET a HTTP/1.1", "RFC 9112 3.2.1"),
    _first("query-alone", b"GET ?a HTTP/1.1", "RFC 9112 3.2.1"),
    _first("fragment", b"GET /a#b HTTP/1.1", "RFC 9112 3.2"),
    _first("nul", b"GET /a\x00b HTTP/1.1", "RFC 3986"),
    _first("delete", b"GET /a\x7f HTTP/1.1", "RFC 3986"),
    _first("high-byte", b"GET /\xc3\xa4 HTTP/1.1", "RFC 3986"),
    _first("backslash", b"GET /a\\..\\b HTTP/1.1", "RFC 3986"),
    _first("bad-escape", b"GET /a%zz HTTP/1.1", "RFC 3986"),
    _first("above-the-root", b"GET /../../etc/passwd HTTP/1.1", "RFC 3986 5.2.4"),
    _first("above-the-root-escaped", b"GET /a/%2e%2e/%2E./b HTTP/1.1", "RFC 3986 5.2.4"),
    Malformed("line-HTTP-0.9-simple", "RFC 1945 4.1", b"GET /a\r\n\r\n"),
    Malformed("line-HTTP-2-preface", "RFC 9113 3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (400, 505)),
    Malformed("line-bare-lf", "RFC 9112 2.2", b"GET /a HTTP/1.1\nHost: node\n\n"),
    Malformed("line-one-bare-lf", "RFC 9112 2.2", b"GET /a HTTP/1.1\nHost: node\r\n\r\n"),
    Malformed("line-too-long", "RFC 9112 3", b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: node\r\n\r\n", (400, 414, 431)),
]

FIELD = [
    _host("missing", "RFC 9112 3.2", b"X: y"),
    _host("twice", "RFC 9112 3.2", b"Host: node", b"Host: other"),
    _host("twice-the-same", "RFC 9112 3.2", b"Host: node", b"Host: node"),
    _host("twice-in-other-case", "RFC 9112 3.2", b"Host: node", b"hOST: other"),
    _host("space-before-colon", "RFC 9112 5.1", b"Host : node"),
    _host("space-in-it", "RFC 9110 7.2", b"Host: node other"),
    _host("two-in-one", "RFC 9110 7.2", b"Host: node, other"),
    _host("path", "RFC 9110 7.2", b"Host: node/a"),
    _host("userinfo", "RFC 9110 7.2", b"Host: other@node"),
    _host("query", "RFC 9110 7.2", b"Host: node?x"),
    _host("fragment", "RFC 9110 7.2", b"Host: node#x"),
    _host("word-port", "RFC 9110 7.2", b"Host: node:port"),
    _host("two-ports", "RFC 9110 7.2", b"Host: node:1:2"),
    _host("high-byte", "RFC 9110 7.2", b"Host: n\xc3\xb6de"),
    _host("quote", "header injection into Forwarded", b'Host: node";for=evil'),
    _host("folded", "RFC 9112 5.2", b"Host:", b" node"),
    _host("leading-space", "RFC 9112 5", b" Host: node"),
    _host("line-without-name", "RFC 9112 5", b": node", b"Host: node"),
    _field("space-before-colon", "RFC 9112 5.1", b"X-A : b"),
    _field("tab-before-colon", "RFC 9112 5.1", b"X-A\t: b"),
    _field("claim-with-space-before-colon", "RFC 9112 5.1", b"X-Peer-Name : bob"),
    _field("claim-folded", "RFC 9112 5.2", b"X-A: b\r\n X-Peer-Name: bob"),
    _field("folded", "RFC 9112 5.2", b"X-A: b\r\n c"),
    _field("folded-tab", "RFC 9112 5.2", b"X-A: b\r\n\tc"),
    _field("folded-empty", "RFC 9112 5.2", b"X-A: b\r\n "),
    _field("no-colon", "RFC 9112 5", b"X-A"),
    _field("no-name", "RFC 9112 5", b": b"),
    _field("name-with-space", "RFC 9110 5.1", b"X A: b"),
    _field("name-with-nul", "RFC 9110 5.1", b"X\x00A: b"),
    _field("name-with-parenthesis", "RFC 9110 5.1", b"X(A): b"),
    _field("name-with-slash", "RFC 9110 5.1", b"X/A: b"),
    _field("name-with-quote", "RFC 9110 5.1", b'X"A: b'),
    _field("name-with-high-byte", "RFC 9110 5.1", b"X\xc3\xa4: b"),
    _field("name-with-delete", "RFC 9110 5.1", b"X\x7f: b"),
    _field("value-with-nul", "RFC 9110 5.5", b"X-A: b\x00c"),
    _field("value-with-bare-cr", "RFC 9112 2.2", b"X-A: b\rc"),
    _field("value-with-bare-lf", "RFC 9112 2.2", b"X-A: b\nX-Peer-Name: bob"),
    _field("value-with-bare-cr-and-claim", "RFC 9112 2.2", b"X-A: b\rX-Peer-Name: bob"),
    _field("value-with-control", "RFC 9110 5.5", b"X-A: b\x01"),
    _field("value-with-escape", "RFC 9110 5.5", b"X-A: \x1b[2J"),
    _field("value-with-delete", "RFC 9110 5.5", b"X-A: b\x7f"),
    _field("value-with-vertical-tab", "RFC 9110 5.5", b"X-A: b\x0bc"),
    _field("end-cr-cr-lf", "RFC 9112 2.2", b"X-A: b\r\r\nX-B: c"),
    _field("end-lf-cr", "RFC 9112 2.2", b"X-A: b\n\rX-B: c"),
    _field("empty-line-of-cr-lf-lf", "RFC 9112 2.2", b"X-A: b\r\n\nX-B: c"),
    _field("too-many", "RFC 9110 5.4", b"\r\n".join(b"X-%d: y" % number for number in range(300)), 400, 431),
    _field("too-large", "RFC 9110 5.4", b"X-A: " + b"b" * 70_000, 400, 413, 431),
    _field("expect-unknown", "RFC 9110 10.1.1", b"Expect: a-miracle", 417),
    _field("expect-both", "RFC 9110 10.1.1", b"Expect: 100-continue, a-miracle", 417),
    _field("connection-names-host", "RFC 9110 7.6.1", b"Connection: close, Host"),
    _field("connection-names-length", "RFC 9110 7.6.1", b"Content-Length: 0\r\nConnection: Content-Length"),
    _field("connection-names-cookie", "hop-by-hop abuse", b"Cookie: a\r\nConnection: Cookie"),
    _field("connection-names-authorization", "hop-by-hop abuse", b"Authorization: a\r\nConnection: Authorization"),
]

MALFORMED = [*FRAMING, *CHUNK, *LINE, *FIELD]
