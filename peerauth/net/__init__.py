"""Plain sockets, which know nothing of TLS or trust: listening, reaching, and joining two connections."""
