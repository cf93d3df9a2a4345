"""What HTTP says, without saying it: bytes and `now` in, values out."""
