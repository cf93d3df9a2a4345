"""The benchmark: peerauth beside what people use for the same job, on this machine, with one command (`make bench`).

Nothing here is part of the product. `contenders/` says how each program is set up, `measurements/` what is measured,
`rounds` takes turns, `results` is what is kept (JSON), `report` and `plots` make docs/benchmarks.md out of it, and
`load.c` is the client and the backend of every measurement.
"""
