"""`status`: how a node stands, whatever state it is in; and its metrics, by the rules of their format."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.making import DAY, der, fingerprint, make, pem, write
from tests.cli.running import CHECKOUT, Result, peerauth, short
from tests.cli.test_why import came
from tests.docs.pages import rows, sections, spans
from tests.support.dropin import DEADLINE_S
from tests.support.engine import Caller, identity
from tests.support.workers import Home, ping, serving

LONG, DAYS20, DAYS5 = make("long"), make("days20", end=20 * DAY), make("days5", end=5 * DAY)
OLD = make("old", start=-90 * DAY, end=-3 * DAY)
HOUR = timedelta(hours=1)


def pin(home: Path, **made: tuple[object, object]) -> None:
    for name, one in made.items():
        write(home / "peers" / f"{name}.crt", pem(one))  # type: ignore[arg-type]


def fields(result: Result) -> dict[str, list[str]]:
    """What stands behind each label."""
    found: dict[str, list[str]] = {}
    for line in result.out.splitlines():
        label, _, text = line.partition(":")
        found.setdefault(label, []).append(text.strip())
    return found


def test_a_fresh_node_needs_nobody(must: Run, home: Path) -> None:
    said = fields(must("status", "--check"))
    assert said["name"] == ["node"]
    assert said["home"][0].endswith("home")
    assert said["certificate"][0].startswith("expires in 364 days, on ")
    assert said["peers"] == ["nobody is admitted"]
    assert said["serving"] == ["no"]
    assert "attention" not in said
    assert not (home / "state").exists()  # looking leaves nothing behind


def test_it_says_whose_certificates_end_and_what_to_type(run: Run, home: Path) -> None:
    pin(home, long=LONG, days20=DAYS20, days5=DAYS5, old=OLD)
    result = run("status")
    said = fields(result)
    assert result.code == 0
    assert said["peers"] == ["4, 2 expire soon, 1 has expired"]
    assert [text.split(",")[0] for text in said["soon"]] == ["days20 expires in 19 days"]
    old, days5 = said["attention"]
    assert old.startswith("the certificate of old expired 3 days ago")
    assert "peerauth peer remove old" in short(old)
    assert days5.startswith("the certificate of days5 expires in 4 days")
    assert days5.endswith("; on its machine: peerauth rotate")


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda _: None, 0),
        (lambda home: pin(home, a=LONG, b=DAYS20), 0),
        (lambda home: pin(home, a=DAYS5), 1),
        (lambda home: pin(home, a=OLD), 1),
        (lambda home: write(home / "peers" / "a.crt", b"nonsense"), 1),
        (lambda home: (home / "peers").rmdir(), 1),
        (lambda home: write(home / "node.crt", pem(DAYS5)), 1),
        (lambda home: write(home / "node.crt", b"nonsense"), 1),
        (lambda home: (home / "node.crt").unlink(), 1),
        (lambda home: (write(home / "peers" / "a.crt", pem(OLD)), write(home / "peers" / "a.toml", b'pin = "key"')), 0),
    ],
    ids=["fresh", "fine", "urgent", "expired", "broken", "no-peers", "own-urgent", "own-broken", "own-gone", "key-pinned"],
)
def test_check_fails_when_a_person_is_needed_and_says_why(
    run: Run, home: Path, spoil: Callable[[Path], object], code: int
) -> None:
    spoil(home)
    assert run("status").code == 0
    checked, facts = run("status", "--check"), run("status", "--check", "--json")
    assert (checked.code, facts.code, run("status", "--check", "--metrics").code) == (code, code, code)
    assert bool(facts.json["attention"]) == bool(code)
    assert len(fields(checked).get("attention", ())) == len(facts.json["attention"])
    assert sample(run("status", "--metrics"), "peerauth_attention") == len(facts.json["attention"])


def test_json_says_everything(run: Run, home: Path) -> None:
    pin(home, long=LONG, days20=DAYS20, old=OLD)
    write(home / "peers" / "x.crt", b"nonsense")
    with (home / "config.toml").open("a") as config:
        config.write('\n[[serve]]\nname = "db"\nlisten = ":1"\ntarget = "unix:/run/db"\nallow = ["long", "nobody"]\n')
    facts = run("status", "--json").json
    assert facts["name"] == "node"
    assert facts["certificate"]["days_left"] == 364
    assert facts["certificate"]["fingerprint"] == peerauth("--home", home, "id", "--fingerprint").out.strip()
    assert (facts["peers"], facts["serving"], facts["servers"]) == (3, False, [])
    assert [(one["name"], one["days_left"], one["fingerprint"]) for one in facts["expiring"]] == [
        ("days20", 19, fingerprint(DAYS20))
    ]
    assert [(one["name"], one["days_left"]) for one in facts["expired"]] == [("old", -4)]
    assert [problem["code"] for problem in facts["problems"]] == ["not-a-certificate"]
    assert facts["services"] == [{"name": "db", "listen": ":1", "target": "unix:/run/db", "peers": 1}]
    said = fields(run("status"))
    assert said["service"] == ["db on :1 relays to unix:/run/db, for 1 peer"]


def test_what_waits_is_said_where_there_is_any(must: Run, home: Path) -> None:
    facts = must("status", "--json").json
    assert (facts["pending"], facts["invitations"], facts["rotation"]) == (0, 0, None)
    assert not {"pending", "invitations", "rotation"} & fields(must("status")).keys()
    carol, dave = make("carol"), make("dave")
    came(home, der(carol))
    came(home, der(dave))
    must("peer", "deny", fingerprint(dave))
    gone = must("invite", "--address", "db.example:1", "--json").json["id"]
    must("invite", "--revoke", gone)
    must("invite", "--address", "db.example:1", "--ttl", "7d")
    write(home / "long.crt", pem(LONG))
    must("peer", "add", home / "long.crt", "--address", "127.0.0.1:1")
    must("rotate")
    said, result = fields(must("status")), must("status", "--check", "--json")
    assert [short(text) for text in said["pending"]] == ["1 to be approved or denied; to see who: peerauth peer pending"]
    assert said["invitations"][0].startswith("1 open, until 20")
    assert said["rotation"][0].startswith("1 peer has not accepted the next certificate; ")
    assert short(said["rotation"][0]).endswith("; to see who: peerauth rotate --status")
    facts, under_way = result.json, must("rotate", "--status", "--json").json
    assert (facts["pending"], facts["invitations"], facts["attention"]) == (1, 1, [])
    expected = {"next": under_way["next"], "deadline": under_way["deadline"], "not_accepted": ["long"]}
    assert facts["rotation"] == expected
    must("rotate", "--abort")
    must("peer", "approve", fingerprint(carol), "--name", "carol")
    facts = must("status", "--json").json
    assert (facts["pending"], facts["invitations"], facts["rotation"]) == (0, 1, None)


def test_a_rotation_that_cannot_be_read_needs_a_person(run: Run, home: Path) -> None:
    write(home / "node.rotation.json", b"{")
    result = run("status", "--check", "--json")
    assert (result.code, result.json["rotation"]) == (1, None)
    assert "node.rotation.json" in result.json["attention"][0]


def test_many_are_counted_and_the_first_are_named(run: Run, home: Path) -> None:
    for number in range(25):
        pin(home, **{f"p{number}": make(f"p{number}", start=-90 * DAY, end=-number * DAY - HOUR)})
    said = fields(run("status"))
    assert said["peers"] == ["25, 25 have expired"]
    assert len(said["attention"]) == 21
    assert said["attention"][-1] == "and 5 more, which --json lists"
    assert "p24 " in said["attention"][0]
    assert len(run("status", "--json").json["attention"]) == 25


@pytest.mark.parametrize("words", [[], ["--json"], ["--metrics"]])
def test_where_no_node_is_it_says_what_to_type(tmp_path: Path, words: list[str]) -> None:
    result = peerauth("status", "--home", tmp_path, *words)
    assert result.code == 1
    assert "peerauth keygen" in short(result.err)
    assert "peerauth_" not in result.out


def test_a_broken_configuration_is_named(run: Run, home: Path) -> None:
    write(home / "config.toml", b"[node\n")
    result = run("status")
    assert result.code == 1
    assert "config.toml" in result.err


def test_json_and_metrics_exclude_each_other(run: Run) -> None:
    assert run("status", "--json", "--metrics").code == 2


def test_what_strangers_wrote_cannot_forge_a_line(run: Run, home: Path) -> None:
    write(home / "peers" / "a\nserving: yes\x1b[2J.crt", b"nonsense")
    result = run("status")
    assert "\x1b" not in result.out
    assert fields(result)["serving"] == ["no"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_running_server_says_what_it_has_done(home_of: Home, workers: int) -> None:
    alice, stranger = Caller(home_of.pin("alice")), Caller(identity("stranger"))
    with serving(home_of, workers=workers) as node:
        tls = alice.open(node.port)
        ping(tls)
        assert stranger.hear(node.port) == "TLSV1_ALERT_UNKNOWN_CA"
        node.counts(lambda counts: counts["refused"] == {"unknown": 1})
        (server,) = peerauth("status", "--home", home_of.home, "--json").json["servers"]
        started = server.pop("started")
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", started)
        assert server == {
            "node": {
                "name": "node",
                "key": str(home_of.home / "node.key"),
                "certificate": str(home_of.home / "node.crt"),
                "peers": str(home_of.home / "peers"),
            },
            "config": None,  # it goes by options
            "pid": node.process.pid,
            "workers": workers,
            "workers_ready": workers,
            "services": [{"name": "relay", "address": f"127.0.0.1:{node.port}"}],
            "tunnels": [],
            "connections": 1,
            "admitted": 1,
            "ended": 0,
            "refused": {"unknown": 1},
        }
        line = fields(peerauth("status", "--home", home_of.home))["serving"]
        assert [f"relay on 127.0.0.1:{node.port}" in line[0], "refused: 1 unknown" in line[0]] == [True, True]
        metrics = peerauth("status", "--home", home_of.home, "--metrics")
        assert sample(metrics, "peerauth_serving") == 1
        assert sample(metrics, "peerauth_connections") == 1
        assert sample(metrics, "peerauth_refused_total", code="unknown") == 1
        tls.close()
    assert peerauth("status", "--home", home_of.home, "--json").json["serving"] is False
    assert list((home_of.home / "state").glob("*.window")) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_was_killed_does_not_serve(home_of: Home, workers: int) -> None:
    with serving(home_of, workers=workers) as node:
        assert node.port
        pids = [node.pid(number + 1) for number in range(workers)] if workers > 1 else []
        node.process.kill()
        node.wait()
        for pid in pids:
            give_up_on(pid)
    facts = peerauth("status", "--home", home_of.home, "--json").json
    assert (facts["serving"], facts["servers"]) == (False, [])


def give_up_on(pid: int) -> None:
    """Wait until this process, which is not our child, is gone."""
    descriptor = os.pidfd_open(pid) if Path(f"/proc/{pid}").exists() else None
    if descriptor is not None:
        assert select.select([descriptor], [], [], DEADLINE_S)[0]
        os.close(descriptor)


def test_two_servers_of_a_home_are_both_there_and_counted_together(home_of: Home) -> None:
    alice = Caller(home_of.pin("alice"))
    with ExitStack() as both:
        for node in [both.enter_context(serving(home_of)), both.enter_context(serving(home_of, workers=1))]:
            tls = both.enter_context(alice.open(node.port))
            ping(tls)
        result = peerauth("status", "--home", home_of.home)
        assert len(fields(result)["serving"]) == 2
        assert sample(peerauth("status", "--home", home_of.home, "--metrics"), "peerauth_connections") == 2


def test_a_server_that_is_stopped_does_not_answer_and_that_is_said(home_of: Home) -> None:
    with serving(home_of, workers=1) as node:
        assert node.port
        node.send(signal.SIGSTOP)
        try:
            result = peerauth("status", "--home", home_of.home, "--check")
        finally:
            node.send(signal.SIGCONT)
        assert result.code == 1
        assert fields(result)["serving"] == ["yes, but it does not answer"]
        assert fields(result)["attention"] == ["a server runs here and does not answer"]
        assert fields(peerauth("status", "--home", home_of.home, "--check"))["serving"] != fields(result)["serving"]


SPOILT = [('[node]\nname = "node"\nnane = 1\n[limits]\ndrain = "x"', ["3", "5"]), ("nonsense", ["1"]), (None, [])]


@pytest.mark.parametrize("workers", [1, 2])
def test_what_runs_is_said_although_the_file_cannot_be_used_any_more(home_of: Home, workers: int) -> None:
    home_of.pin("alice")
    path = home_of.home / "config.toml"
    with serving(home_of, workers=workers) as node:
        place = f"relay on 127.0.0.1:{node.port} "
        good = peerauth("status", "--home", home_of.home, "--json").json
        assert good["config_mistakes"] == []
        for text, lines in SPOILT:
            if text is None:
                path.unlink()
            else:
                path.write_text(text)
            result = peerauth("status", "--home", home_of.home)
            assert result.code == 0
            said = fields(result)
            assert said["config.toml"][0].startswith("cannot be used as it is, and was not taken over")
            assert (said["name"], said["peers"]) == (["node"], ["1"])
            assert said["serving"][0].startswith(place)
            assert re.findall(r"config.toml:(\d+): ", result.out) == lines
            facts = peerauth("status", "--home", home_of.home, "--json", "--check")
            assert facts.code == 1
            assert len(facts.json["config_mistakes"]) == max(len(lines), 1)
            assert facts.json["servers"] == good["servers"]
            assert facts.json["certificate"] == good["certificate"]
    assert peerauth("status", "--home", home_of.home).code == 1, "nothing runs, and nothing is known"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_change_that_the_server_has_not_read_is_said(home_of: Home, workers: int) -> None:
    service = '[[serve]]\nlisten = "127.0.0.1:0"'
    with serving(home_of, listen=None, settings=service, workers=workers) as node:
        node.hears("listening")
        assert peerauth("status", "--home", home_of.home, "--check").code == 0
        home_of.configure(f"{service}\n[limits]\nworkers = {workers}\ndrain = 7\n")
        changed = peerauth("status", "--home", home_of.home, "--check")
        assert changed.code == 1
        assert "config.toml was changed since the server read it" in changed.out
        assert f"kill -HUP {node.process.pid}" in changed.out
        node.send(signal.SIGHUP)
        node.hears("reloaded")
        assert peerauth("status", "--home", home_of.home, "--check").code == 0


def test_who_is_to_go_goes_although_the_file_cannot_be_read_any_more(home_of: Home) -> None:
    home_of.pin("alice")
    with serving(home_of, workers=1) as node, Caller(identity("alice")).open(node.port) as tls:
        ping(tls)
        (home_of.home / "config.toml").write_text("nonsense")
        assert peerauth("peer", "list", "--home", home_of.home).out.startswith("alice")
        assert peerauth("peer", "remove", "alice", "--home", home_of.home).code == 0
        node.hears("peer-removed", peer="alice")
        with pytest.raises((ConnectionResetError, ssl.SSLEOFError)):
            tls.recv(1)
    refused = peerauth("peer", "list", "--home", home_of.home)
    assert refused.code == 1, "nothing runs, and nobody knows where the peers are"
    assert "config.toml:1: " in refused.err


@pytest.fixture
def home_of(tmp_path: Path) -> Home:
    """The home of a node that servers are run in."""
    return Home(tmp_path)


# The text format 0.0.4 of Prometheus, read strictly


NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|\Z)')
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (-?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|Inf)|NaN)")
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def exposition(text: str) -> tuple[Samples, dict[str, str]]:
    """(samples, types); asserts every rule of the format, and those of promtool that matter."""
    samples: Samples = {}
    types: dict[str, str] = {}
    helped: set[str] = set()
    current = ""
    assert text.endswith("\n"), "the last line must end, too"
    for line in text.splitlines():
        if found := re.fullmatch(rf"# HELP ({NAME}) ((?:[^\\]|\\[\\n])+)", line):
            current = found[1]
            assert current not in helped, "one HELP, and all lines of a metric together"
            helped.add(current)
        elif found := re.fullmatch(rf"# TYPE ({NAME}) (counter|gauge)", line):
            assert found[1] == current, "TYPE follows HELP"
            assert current not in types
            types[current] = found[2]
            assert (found[2] == "counter") == current.endswith("_total")
        else:
            found = SAMPLE.fullmatch(line)
            assert found, line
            assert found[1] == current, "samples follow the TYPE of their metric"
            assert current in types
            key = (current, frozenset(labels(found[2] or "").items()))
            assert key not in samples, "each sample once"
            samples[key] = float(found[3])
    assert helped == types.keys()
    return samples, types


def labels(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = LABEL.match(text, at)
        assert match, text
        assert match[1] not in found
        found[match[1]] = re.sub(r"\\(.)", lambda one: {"n": "\n"}.get(one[1], one[1]), match[2])
        at = match.end()
        assert not (match[3] and at == len(text)), "no comma at the end"
    return found


def sample(result: Result, metric: str, /, **with_labels: str) -> float:
    samples, _ = exposition(result.out)
    found = [value for (one, has), value in samples.items() if one == metric and with_labels.items() <= dict(has).items()]
    assert len(found) == 1, (metric, with_labels, found)
    return found[0]


def test_metrics_keep_to_the_format_and_name_those_who_end_within_60_days(run: Run, home: Path) -> None:
    pin(home, long=LONG, d59=make("d59", end=59 * DAY), d61=make("d61", end=61 * DAY), old=OLD, d5=DAYS5)
    result = run("status", "--metrics")
    assert result.err == ""
    samples, types = exposition(result.out)
    assert types["peerauth_certificate_days_left"] == "gauge"
    left = {dict(has)["name"]: value for (name, has), value in samples.items() if name == "peerauth_certificate_days_left"}
    assert left.keys() == {"node", "d59", "d5", "old"}
    assert left["d5"] == pytest.approx(5, abs=0.01)
    assert left["old"] == pytest.approx(-3, abs=0.01)
    assert sample(result, "peerauth_certificate_days_left", role="own") == pytest.approx(365, abs=0.01)
    assert sample(result, "peerauth_certificate_days_left", fingerprint=fingerprint(OLD), role="peer") < 0
    assert sample(result, "peerauth_certificate_not_after_seconds", name="d5") == DAYS5[1].not_valid_after_utc.timestamp()
    assert sample(result, "peerauth_peers") == 5
    assert sample(result, "peerauth_peers_expired") == 1
    assert [sample(result, "peerauth_peers_expiring", days=str(days)) for days in (1, 7, 14, 30)] == [0, 1, 1, 1]
    assert sample(result, "peerauth_serving") == 0
    assert not any(name == "peerauth_connections" for name, _ in samples)


def test_metrics_of_very_many_are_bounded(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peerauth.cli.metrics._MOST", 3)
    for number in range(5):
        pin(home, **{f"p{number}": make(f"p{number}", end=(number + 1) * DAY)})
    samples, _ = exposition(run("status", "--metrics").out)
    named = [dict(has)["name"] for name, has in samples if name == "peerauth_certificate_days_left"]
    assert named == ["node", "p0", "p1", "p2"]
    assert sample(run("status", "--metrics"), "peerauth_peers_expiring", days="30") == 5


def test_metrics_of_a_server_of_another_version_are_still_metrics(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may say other things in other ways; its codes become values of a label, with everything escaped."""
    said = {"connections": "many", "admitted": 2, "refused": {'a"b\\c\nd': 3, "x": None}, "services": [{}, 7], "workers": 1}
    monkeypatch.setattr("peerauth.server.window.look", lambda _: [said, {"refused": []}, {}])
    result = run("status", "--metrics")
    assert sample(result, "peerauth_connections") == 0
    assert sample(result, "peerauth_admitted_total") == 2
    assert sample(result, "peerauth_refused_total", code='a"b\\c\nd') == 3
    assert len(fields(run("status"))["serving"]) == 3
    assert len(json.loads(run("status", "--json").out)["servers"]) == 3


def test_every_metric_is_in_the_documentation_and_no_other(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peerauth.server.window.look", lambda _: [{"refused": {"unknown": 1}}])
    section = sections((CHECKOUT / "docs/messages.md").read_text("utf-8"))["Metrics"]
    listed = [span for cells in rows(section) for span in spans(cells[0])]
    assert listed == list(dict.fromkeys(listed))
    assert set(listed) == exposition(run("status", "--metrics").out)[1].keys()


@pytest.mark.parametrize(
    "text",
    [
        "# HELP a b\n# TYPE a gauge\na 1",
        "# TYPE a gauge\na 1\n",
        "# HELP a b\n# TYPE a gauge\na 1\na 1\n",
        '# HELP a b\n# TYPE a gauge\na{x="1",} 1\n',
        '# HELP a b\n# TYPE a gauge\na{x="\\q"} 1\n',
        "# HELP a b\n# TYPE a gauge\na one\n",
        "# HELP a b\n# TYPE a counter\na 1\n",
        "# HELP a b\n# TYPE a gauge\nb 1\n",
    ],
)
def test_the_reader_of_these_tests_is_strict(text: str) -> None:
    with pytest.raises(AssertionError):
        exposition(text)
    good = '# HELP a b\n# TYPE a gauge\na{x="1\\n"} -1.5\n'
    assert exposition(good)[0] == {("a", frozenset({("x", "1\n")})): -1.5}
