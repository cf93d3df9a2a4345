"""A node changes its identity: on disk, to its peers, and on its own port."""
