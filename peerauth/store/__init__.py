"""The disk: bounded reads, atomic writes, the node's home, its configuration and its peers directory."""
