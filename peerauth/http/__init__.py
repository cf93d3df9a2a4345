"""HTTP as far as it is pure: bytes and `now` in, values out."""
