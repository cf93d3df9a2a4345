"""The real programs on the other side of a test: curl, openssl, go, node, java, sshd, PostgreSQL, nginx."""

import os
import shutil
from pathlib import Path

import pytest


def needs(program: str) -> str:
    """Return the path of `program`.

    Where it is missing, the test that asked is skipped and says so; under CI (the environment variable `CI`)
    it fails, because there a skipped test would be a promise that nobody checked.
    """
    path = shutil.which(program) or shutil.which(program, path=os.pathsep.join(_elsewhere()))
    if path is None:
        reason = f"{program} is not installed"
        if under_ci():
            pytest.fail(f"{reason}, and under CI nothing is skipped (.ci/run installs it)", pytrace=False)
        pytest.skip(reason)
    return path


def _elsewhere() -> list[str]:
    """Where Debian keeps servers, which are not for everybody's PATH."""
    return ["/usr/sbin", *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))]


def under_ci() -> bool:
    """Say whether the environment variable `CI` is set to anything but a no."""
    return os.environ.get("CI", "").lower() not in {"", "0", "false", "no"}
