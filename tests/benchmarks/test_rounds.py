from benchmarks.bench import Measurement
from benchmarks.results import Sample
from benchmarks.rounds import attempt, take
from benchmarks.running import Failed
from tests.benchmarks.sample import sheet


def test_everybody_has_a_turn_in_every_round() -> None:
    turns: list[str] = []

    def measured(key: str, most: int = 100) -> Measurement:
        def once(name: str) -> Sample:
            turns.append(f"{key}:{name}")
            return Sample({"rate": float(len(turns))})

        return Measurement(sheet(key), {"a": lambda: once("a"), "b": lambda: once("b")}, most)

    one, other = measured("one"), measured("other", most=1)
    take([one, other], 2, lambda _: None)
    assert turns == ["one:a", "one:b", "one:a", "one:b", "other:a", "other:b"]
    assert [sample.values["rate"] for sample in one.sheet.samples["a"]] == [1.0, 3.0]
    assert len(other.sheet.samples["b"]) == 1


def test_a_failure_is_kept_and_does_not_end_the_others_turns() -> None:
    def fails() -> Sample:
        raise Failed("it ended")

    bad = Measurement(sheet(), {"bad": fails, "good": lambda: Sample({"rate": 1.0})})
    take([bad], 2, lambda _: None)
    assert [sample.failed for sample in bad.sheet.samples["bad"]] == ["it ended", "it ended"]
    assert len(bad.sheet.samples["good"]) == 2


def test_who_used_up_all_the_time_once_is_not_waited_for_again() -> None:
    calls: list[int] = []

    def hangs() -> Sample:
        calls.append(1)
        raise Failed("gave up after 60 s: start")

    hanging = Measurement(sheet(), {"slow": hangs})
    take([hanging], 3, lambda _: None)
    assert len(calls) == 1
    assert [sample.failed for sample in hanging.sheet.samples["slow"]] == ["gave up after 60 s: start"] * 3


def test_trouble_of_the_system_is_a_failure_too() -> None:
    def breaks() -> Sample:
        raise ConnectionResetError("gone")

    assert attempt(breaks).failed == "ConnectionResetError: gone"
