"""What a file holds, by the end of its name. A table of our own: the same on every machine, whatever is installed there."""

from __future__ import annotations

_TEXT = "; charset=utf-8"
_UNKNOWN = "application/octet-stream"  # which a browser saves, and shows nothing of
_TYPES = {
    "text/html": "html htm",
    "text/css": "css",
    "text/javascript": "js mjs",
    "text/plain": "txt log text conf cfg ini md rst diff patch sh py c h rs go toml",
    "text/csv": "csv",
    "text/tab-separated-values": "tsv",
    "text/xml": "xml xsl",
    "text/calendar": "ics",
    "text/yaml": "yaml yml",
    "application/json": "json map",
    "application/jsonl": "jsonl ndjson",
    "application/manifest+json": "webmanifest",
    "application/atom+xml": "atom",
    "application/rss+xml": "rss",
    "application/xhtml+xml": "xhtml",
    "application/wasm": "wasm",
    "application/pdf": "pdf",
    "application/epub+zip": "epub",
    "application/zip": "zip",
    "application/gzip": "gz tgz",
    "application/x-bzip2": "bz2",
    "application/x-xz": "xz",
    "application/zstd": "zst",
    "application/x-tar": "tar",
    "application/x-7z-compressed": "7z",
    "application/java-archive": "jar",
    "application/vnd.debian.binary-package": "deb",
    "application/x-rpm": "rpm",
    "application/x-iso9660-image": "iso",
    "application/vnd.sqlite3": "sqlite sqlite3",
    "application/x-pem-file": "pem crt",
    "image/png": "png",
    "image/jpeg": "jpg jpeg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/svg+xml": "svg",
    "image/x-icon": "ico",
    "image/bmp": "bmp",
    "image/tiff": "tif tiff",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg oga opus",
    "audio/flac": "flac",
    "audio/wav": "wav",
    "audio/mp4": "m4a",
    "video/mp4": "mp4 m4v",
    "video/webm": "webm",
    "video/x-matroska": "mkv",
    "video/quicktime": "mov",
    "font/woff": "woff",
    "font/woff2": "woff2",
    "font/ttf": "ttf",
    "font/otf": "otf",
}
_BY_END = {end.encode(): kind for kind, ends in _TYPES.items() for end in ends.split()}


def media_type(name: bytes) -> str:
    """The Content-Type of a file of this name (RFC 9110 section 8.3)."""
    stem, dot, end = name.rpartition(b".")
    kind = _BY_END.get(end.lower(), _UNKNOWN) if stem and dot else _UNKNOWN
    return kind + _TEXT if kind.startswith("text/") else kind
