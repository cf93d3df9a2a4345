"""Reaching a peer: its pin alone is accepted (promise 9)."""
