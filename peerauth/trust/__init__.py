"""Who is trusted. Pure: bytes and `now` in, values out; no I/O, no clock, no TLS library."""
