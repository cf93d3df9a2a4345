"""peerauth/1: what two nodes say to each other inside TLS, under an ALPN protocol of its own (docs/protocol.md)."""
