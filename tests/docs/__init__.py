"""The documentation is tested against the program: what a page says to type is typed, what it names exists."""
