"""The five documents that the project was created from, each walk-through run with its own programs."""
