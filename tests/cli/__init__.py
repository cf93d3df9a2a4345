"""The command line as a person and a script meet it: what is printed where, the exit code, what is on disk."""
