import pytest

from benchmarks import figures
from benchmarks.results import Sample
from tests.benchmarks.sample import TIME, sheet


def test_a_summary_is_the_median_and_the_spread_of_the_rounds_that_succeeded() -> None:
    found = figures.summary(sheet(peerauth=[5.0, "it ended", 1.0, 3.0, 100.0]), "peerauth", "rate")
    assert found == figures.Summary(4.0, 1.0, 100.0, 4)


def test_who_never_succeeded_has_no_summary() -> None:
    assert figures.summary(sheet(peerauth=["no", "no"]), "peerauth", "rate") is None


def test_a_ratio_is_taken_round_by_round_and_not_of_the_medians() -> None:
    """The machine was slow in the third round, for both: the ratio is 2 in every round."""
    measured = sheet(peerauth=[400.0, 440.0, 20.0], stunnel=[200.0, 220.0, 10.0])
    assert figures.ratio(measured, "peerauth", "stunnel", "rate") == 2.0
    uneven = sheet(peerauth=[1.0, 10.0, 100.0], stunnel=[1.0, 100.0, 10.0])
    assert figures.ratio(uneven, "peerauth", "stunnel", "rate") == 1.0


def test_a_round_in_which_one_failed_has_no_ratio() -> None:
    measured = sheet(peerauth=[400.0, "it ended", 900.0], stunnel=[200.0, 1.0, "it ended"])
    assert figures.ratio(measured, "peerauth", "stunnel", "rate") == 2.0
    assert figures.ratio(sheet(peerauth=["no"], stunnel=[1.0]), "peerauth", "stunnel", "rate") is None


def test_sheets_of_the_same_rounds_are_compared_round_by_round() -> None:
    small, large = sheet(peerauth=[100.0, 50.0]), sheet(peerauth=[80.0, 40.0])
    assert figures.ratio_between(small, large, "peerauth", "rate") == pytest.approx(1.25)


def test_the_best_of_the_others_has_the_most_or_takes_the_least() -> None:
    rates = sheet(peerauth=[9.0], stunnel=[3.0], HAProxy=[4.0], Caddy=[8.0])
    assert figures.best(rates, "rate", apart_from="peerauth") == "Caddy"
    assert figures.best(rates, "rate", apart_from="peerauth", among={"stunnel", "HAProxy"}) == "HAProxy"
    times = sheet(column=TIME, peerauth=[1.0], stunnel=[3.0], HAProxy=[4.0], hitch=["no"])
    assert figures.best(times, "p99_us", apart_from="peerauth") == "stunnel"
    assert figures.best(sheet(peerauth=[1.0], hitch=["no"]), "rate", apart_from="peerauth") is None


def test_a_busy_generator_is_told_from_an_idle_one() -> None:
    measured = sheet()
    for name, share in (("busy", 0.95), ("idle", 0.3)):
        measured.add(name, Sample({"rate": 1.0, "generator": share}))
    assert figures.generator_was_the_limit(measured, "busy")
    assert not figures.generator_was_the_limit(measured, "idle")
