"""The only place that knows OpenSSL."""
