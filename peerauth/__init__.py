"""peerauth: mutual TLS between machines by pinned self-signed certificates. authorized_keys for TLS."""

__version__ = "0.1.0"
