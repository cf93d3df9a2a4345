"""Fixtures that every test may use.

Tests run in several processes (pytest-xdist): a session fixture is made once in each of them, ports are given
by the system, and paths come from `tmp_path`. The cache of generated RSA keys belongs here.
"""
