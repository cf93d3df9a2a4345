"""HTTP/1.1 as values: targets, who is calling, and which routes are open to whom. Bytes in, values out."""
