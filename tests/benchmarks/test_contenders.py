from pathlib import Path

import pytest
from cryptography import x509

from benchmarks.contenders import ALL, Contender, Place
from benchmarks.identities import identity, pool

every_contender = pytest.mark.parametrize("contender", ALL, ids=lambda contender: contender.name)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    server = identity(tmp_path, "server", "p256")
    peers = tuple(identity(tmp_path, f"client-{number}", "p256").certificate for number in range(2))
    home = tmp_path / "home"
    home.mkdir()
    return Place(home, 40001, 40002, server, peers)


def everything(place: Place, contender: Contender) -> str:
    """All that a contender is told: its command line, the files that are named there, and those that are named in these.

    peerauth is told its home, and with it all that is in there.
    """
    contender.lay_out(place)
    told = " ".join(contender.arguments(place))
    unread = [place.server.certificate, place.server.key, *place.peers]
    unread += [path for path in place.directory.rglob("*") if path.is_file()]
    at_home = f"--home {place.directory}" in told
    while named := [
        path
        for path in unread
        if str(path) in told or f" {path.name} " in told or (at_home and place.directory in path.parents)
    ]:
        unread = [path for path in unread if path not in named]
        told = "\n".join([told, *(path.read_text("utf-8") for path in named)])
    return told


@every_contender
def test_a_contender_is_given_its_ports_its_identity_and_every_peer(contender: Contender, place: Place) -> None:
    told = everything(place, contender)
    assert str(place.listen) in told
    assert str(place.target) in told
    for path in (place.server.certificate, place.server.key, *place.peers):
        assert path.read_text("ascii").strip() in told, path.name


@every_contender
def test_a_peer_that_is_not_in_the_pool_is_nowhere(contender: Contender, place: Place, tmp_path: Path) -> None:
    """Laid out again with one peer less, nothing of that one is left."""
    everything(place, contender)
    gone = place.peers[1].read_text("ascii").strip()
    fewer = Place(place.directory, place.listen, place.target, place.server, place.peers[:1])
    assert gone not in everything(fewer, contender)
    assert tmp_path.exists()


def test_names_are_unique() -> None:
    assert len({contender.name for contender in ALL}) == len(ALL)


def test_the_certificates_of_a_pool_can_be_read_and_differ_in_name_number_and_bytes(tmp_path: Path) -> None:
    paths = pool(tmp_path / "pool", 300)
    found = [x509.load_pem_x509_certificate(path.read_bytes()) for path in paths]
    assert len({certificate.subject for certificate in found}) == 300
    assert all(certificate.subject == certificate.issuer for certificate in found)
    assert len({certificate.serial_number for certificate in found}) == 300
    assert len({path.read_bytes() for path in paths}) == 300


def test_a_pool_that_was_interrupted_is_made_again_and_a_whole_one_is_kept(tmp_path: Path) -> None:
    paths = pool(tmp_path / "pool", 3)
    first = paths[0].read_bytes()
    assert pool(tmp_path / "pool", 3)[0].read_bytes() == first
    (tmp_path / "pool" / "whole").unlink()
    paths[2].unlink()
    assert all(path.exists() for path in pool(tmp_path / "pool", 3))
