import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from benchmarks import report, results
from benchmarks.goals import goals
from benchmarks.measurements.limits import BOTH, OURS
from benchmarks.plots import Bar, chart
from benchmarks.results import Column, Sample
from benchmarks.running import Failed
from tests.benchmarks.sample import TIME, sheet
from tests.benchmarks.sample import results as made

SVG = "{http://www.w3.org/2000/svg}"


def test_results_are_the_same_after_the_journey_through_json(tmp_path: Path) -> None:
    run = made(sheet(peerauth=[3.0, "it ended"], stunnel=[1.0, 2.0]))
    run.write(tmp_path / "run.json")
    assert results.read(tmp_path / "run.json") == run
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_several_runs_are_one_page_and_what_was_measured_again_counts() -> None:
    first = made(sheet("full", peerauth=[3.0]), sheet("up-1", peerauth=["it failed"]), only="full,up-1")
    second = made(sheet("up-1", peerauth=[5.0]), sheet("idle", peerauth=[7.0]), only="up-1,idle", rounds="1")
    both = results.merged([first, second])
    assert [one.key for one in both.sheets] == ["full", "up-1", "idle"]
    assert both.sheets[1] == second.sheets[0]
    some = results.merged([made(sheet(peerauth=[3.0], stunnel=[1.0])), made(sheet(peerauth=[4.0]))]).sheets[0]
    assert some == sheet(peerauth=[4.0], stunnel=[1.0])
    assert (both.settings["rounds"], both.settings["seconds"], both.settings["only"]) == ("3 or 1", "4", "")
    assert "3 or 1 rounds of 4 s, put together from 2 runs" in report.render(both, "plots")
    assert results.merged([first]) == first


def test_a_page_keeps_its_words_and_its_results_are_replaced(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text(f"before\n\n{report.BEGIN}\nold\n{report.END}\n\nafter\n", "utf-8")
    for rate in (3.0, 4567.0):
        report.write(made(sheet(peerauth=[rate], stunnel=[1.0])), page)
    text = page.read_text("utf-8")
    assert text.startswith("before\n\n")
    assert text.endswith("\n\nafter\n")
    assert "4\u202f570" in text
    assert "old" not in text
    links = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert links == ["benchmarks/full.svg"]
    assert all((tmp_path / link).exists() for link in links)


def test_a_plot_of_a_measurement_that_is_no_more_is_removed(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text(f"{report.BEGIN}{report.END}", "utf-8")
    report.write(made(sheet("full", peerauth=[1.0]), sheet("resumed", peerauth=[1.0])), page)
    report.write(made(sheet("full", peerauth=[1.0])), page)
    assert [path.name for path in (tmp_path / "benchmarks").iterdir()] == ["full.svg"]


def test_a_page_without_a_place_for_results_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("words", "utf-8")
    with pytest.raises(Failed, match="results: begin"):
        report.write(made(), page)
    assert page.read_text("utf-8") == "words"


def test_the_page_of_this_repository_has_a_place_for_results() -> None:
    page = Path(report.__file__).resolve().parent.parent / "docs" / "benchmarks.md"
    assert page.read_text("utf-8").index(report.BEGIN) < page.read_text("utf-8").index(report.END)


def test_losses_and_failures_are_told_before_the_wins() -> None:
    text = report.render(
        made(
            sheet("full", peerauth=[400.0], stunnel=[200.0]),
            sheet("resumed", peerauth=[400.0], stunnel=[800.0]),
            sheet("storm", TIME, peerauth=[90.0], stunnel=[30.0]),
            sheet("held", peerauth=["it ended: too many"], stunnel=[1.0]),
        ),
        "plots",
    )
    loses, fails, wins = (text.index(f"### Where {word}") for word in ("peerauth loses", "it fails", "it wins"))
    assert loses < fails < wins
    assert "The sheet resumed, per second: 400 1/s, stunnel 800 1/s (0.50 x)" in text[loses:fails]
    assert "The sheet storm, 99 % take: 90 us, stunnel 30 us (3.00 x)" in text[loses:fails]
    assert "The sheet held: it ended: too many" in text[fails:wins]
    assert "The sheet full, per second: 400 1/s, stunnel 200 1/s (2.00 x)" in text[wins:]


def test_who_failed_or_was_left_out_is_named_with_the_reason() -> None:
    text = report.render(made(sheet(peerauth=[1.0, 2.0], stunnel=[1.0, "gave up after 60 s: /srv/home/x is <gone>"])), "p")
    assert "| hitch |  |  | **left out:** not installed (apt-get install hitch) |" in text
    assert "stunnel failed in 1 of 2 rounds: gave up after 60 s: … is \\<gone\\>" in text


def test_a_figure_that_may_be_the_generators_own_is_marked() -> None:
    measured = sheet(peerauth=[1.0])
    measured.add("HAProxy", Sample({"rate": 2.0, "generator": 0.97}))
    rows = [line for line in report.render(made(measured), "p").splitlines() if "%" in line and line.startswith("|")]
    assert [("**the limit**" in row) for row in rows if "25%" in row or "97%" in row] == [False, True]


def test_a_quick_run_says_that_it_is_one() -> None:
    assert "quick run" in report.render(made(quick="yes"), "p")
    assert "quick run" not in report.render(made(), "p")


@pytest.mark.parametrize(("rate", "reached"), [(439.0, False), (440.0, True)])
def test_a_goal_against_the_best_counts_relays_only(rate: float, *, reached: bool) -> None:
    run = made(sheet("full", peerauth=[rate], stunnel=[150.0], HAProxy=[200.0], Caddy=[9000.0]))
    goal = goals(run)[0]
    assert (goal.wanted, goal.reached) == (">= 2.2 x the best", reached)
    assert goal.got.endswith(" x HAProxy")


@pytest.mark.parametrize(("p99", "reached"), [(100.0, True), (101.0, False)])
def test_a_goal_of_time_is_reached_by_less(p99: float, *, reached: bool) -> None:
    found = [
        goal for goal in goals(made(sheet("storm", TIME, peerauth=[p99], nginx_stream=[100.0]))) if "storm" in goal.text
    ]
    assert [goal.reached for goal in found] == [reached]


def test_what_was_not_measured_is_neither_reached_nor_missed() -> None:
    assert {(goal.got, goal.reached) for goal in goals(made())} == {("not measured", None)}
    assert "| full handshakes/s, RSA-4096 | >= 2.2 x the best | not measured |  |" in report.render(made(), "p")


def test_a_chart_is_well_formed_and_shows_each_median_and_spread_in_proportion() -> None:
    bars = [Bar("a & b", 50, 40, 100, "50 1/s", ours=True), Bar("c", 25, 25, 25, "25 1/s"), Bar("<d>", failed="it ended")]
    root = ET.fromstring(chart("Bars", "1/s", "more", bars))  # noqa: S314 - our own text
    first, second = root.findall(f"{SVG}rect")
    assert float(first.get("width", 0)) == pytest.approx(2 * float(second.get("width", 0)), abs=0.2)
    spread = root.findall(f"{SVG}line[@class='spread']")[0]
    left = float(first.get("x", 0))
    low, high = float(spread.get("x1", 0)) - left, float(spread.get("x2", 0)) - left
    assert (low, high) == pytest.approx((0.8 * float(first.get("width", 0)), 2 * float(first.get("width", 0))), abs=0.2)
    assert high < float(root.get("width", 0)) - left
    words = [text.text for text in root.findall(f"{SVG}text")]
    assert words[2:] == ["a & b", "50 1/s", "c", "25 1/s", "<d>", "it ended"]
    assert "prefers-color-scheme: dark" in chart("Bars", "1/s", "more", bars)


def test_the_goals_of_http_are_against_each_proxy() -> None:
    run = made(sheet("requests-64", peerauth=[20.0], Caddy=[10.0], nginx_http=[40.0]))
    found = {goal.wanted: (goal.got, goal.reached) for goal in goals(run) if goal.text.startswith("HTTP requests/s")}
    assert found == {">= 1 x Caddy": ("2.00 x", True), ">= 0.65 x nginx http": ("0.50 x", False)}
    unmeasured = [goal.reached for goal in goals(made(sheet(peerauth=[1.0]))) if goal.text.startswith("HTTP requests/s")]
    assert unmeasured == [None, None]


def test_two_workers_beside_what_two_cores_can_do() -> None:
    workers = sheet("workers")
    for name, figure in (("1 worker", 100.0), ("2 workers", 130.0)):
        workers.add(name, Sample({"rate": figure}))
    limits = sheet("limits", Column("sign", "signatures", "1/s", "more"))
    for name, figure in ((OURS, 500.0), (BOTH, 700.0)):
        limits.add(name, Sample({"sign": figure}))
    assert ("1.30 x", False) in {(goal.got, goal.reached) for goal in goals(made(workers))}
    beside = {(goal.got, goal.reached) for goal in goals(made(workers, limits))}
    assert ("1.30 x; two processes that only sign: 1.40 x", False) in beside


def test_handshakes_beside_the_signatures_of_the_same_rounds() -> None:
    full = sheet("full", peerauth=[70.0, 300.0, 150.0], signatures_alone=[100.0, 400.0, 200.0], hitch=[50.0, 200.0, 100.0])
    found = {goal.text: (goal.got, goal.reached) for goal in goals(made(full))}
    assert found["the same, against the library alone"] == ("0.75 x", True)
    assert found["full handshakes/s, RSA-4096"] == ("1.50 x hitch", False), "the library alone is nobody's rival"
