"""What HTTP/1.1 says, as values: heads, bodies, targets, ranges, who is calling. Bytes and `now` in, values out."""
