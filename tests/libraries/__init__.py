"""Real libraries and servers with a node of ours at one of the ends."""
