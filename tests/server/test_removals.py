"""When somebody was removed, as far as the disk tells: before that an invitation is no way back, after that it is one."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from peerauth.server.removals import removed_at


def test_the_moment_is_that_of_the_change_and_not_that_of_its_being_seen(tmp_path: Path) -> None:
    peers = tmp_path / "peers"
    peers.mkdir()
    changed = datetime.fromtimestamp(peers.stat().st_ctime, UTC)
    assert changed <= removed_at(peers) <= changed + timedelta(seconds=0.03)


def test_another_directory_in_its_place_is_no_older_than_the_link_that_leads_there(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    os.utime(tmp_path / "new", (1, 1))
    before = datetime.now(UTC) - timedelta(seconds=0.02)
    (tmp_path / "peers").symlink_to("new")
    assert removed_at(tmp_path / "peers") >= before


def test_without_a_directory_it_is_now(tmp_path: Path) -> None:
    before = datetime.now(UTC)
    assert removed_at(tmp_path / "peers") >= before
