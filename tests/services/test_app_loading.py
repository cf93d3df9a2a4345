"""From MODULE:ATTRIBUTE to an application, and what is said to whoever made a mistake on the way."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from peerauth.services.app_failed import AppFailed, as_data, from_data
from peerauth.services.app_loading import load
from peerauth.store.kind_app import App, app

NAMES = iter(f"loaded_{number}" for number in range(1000))  # every test its own module: a process has one of a name

SOURCE = """
import functools

class Asgi:
    async def __call__(self, scope, receive, send): ...

class Wsgi:
    def __call__(self, environ, start_response): ...

async def asgi(scope, receive, send): ...
def returns_a_coroutine(scope, receive, send): ...
def wsgi(environ, start_response): ...
def anything(*args): ...
def old_asgi(scope): ...
def make(): return asgi
def make_wsgi(): return wsgi
def make_nothing(): return None
def make_trouble(): raise ValueError("no \\x1b[2J way")
text = "text"
asgi_object, wsgi_object = Asgi(), Wsgi()
partial = functools.partial(asgi)
bound = asgi_object.__call__
class box: inside = asgi
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory of modules that are forgotten with the test."""
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("loaded_"):
            del sys.modules[name]


def written(place: Path, source: str = SOURCE) -> str:
    name = next(NAMES)
    (place / f"{name}.py").write_text(source)
    return name


@pytest.mark.parametrize(
    "attribute",
    ["asgi", "returns_a_coroutine", "asgi_object", "partial", "bound", "box.inside", "make()"],
)
def test_an_asgi_application_is_recognized(place: Path, attribute: str) -> None:
    name = written(place)
    found = load(app(f"{name}:{attribute}", place))
    assert not getattr(found, "__qualname__", "").startswith("as_asgi")


@pytest.mark.parametrize("attribute", ["wsgi", "wsgi_object", "make_wsgi()"])
def test_a_wsgi_application_is_recognized(place: Path, attribute: str) -> None:
    name = written(place)
    assert load(app(f"{name}:{attribute}", place)).__qualname__.startswith("as_asgi")


def test_what_is_said_goes_before_what_is_seen(place: Path) -> None:
    name = written(place)
    assert load(app(f"{name}:anything", place, "wsgi")).__qualname__.startswith("as_asgi")
    assert load(app(f"{name}:anything", place, "asgi")).__name__ == "anything"


@pytest.mark.parametrize(
    ("reference", "code", "message", "hint"),
    [
        ("{name}x:asgi", "app-not-found", "there is no module '{name}x' in {place}", "did you mean {name}:asgi?"),
        ("nowhere_at_all:asgi", "app-not-found", "there is no module 'nowhere_at_all'", "also looked in"),
        ("{name}.deeper:asgi", "app-not-found", "there is no module '{name}.deeper'", None),
        ("{name}:asgy", "app-not-found", "({place}/{name}.py) has no 'asgy'", "did you mean {name}:asgi?"),
        ("{name}:zzz", "app-not-found", "has no 'zzz'", "an application is what FastAPI(), "),
        ("{name}:box.zzz", "app-not-found", "has no 'box.zzz'", None),
        ("{name}:text", "app-failed", "is no application: it is a str", None),
        ("{name}:text()", "app-failed", "{name}:text makes no application: it is a str", None),
        ("{name}:make_nothing()", "app-failed", "{name}:make_nothing() is no application: it is None", None),
        ("{name}:make", "app-failed", "takes no arguments, so it is no application", "{name}:make()"),
        ("{name}:make_trouble()", "app-failed", "made no application: ValueError: no \\x1b[2J way", None),
        ("{name}:asgi()", "app-failed", "{name}:asgi is an application, and makes none", "{name}:asgi"),
        ("{name}:wsgi()", "app-failed", "{name}:wsgi is an application, and makes none", "{name}:wsgi"),
        ("{name}:Asgi", "app-failed", "{name}:Asgi is a class", "{name}:Asgi()"),
        ("{name}:anything", "app-failed", "it cannot be seen whether", "--interface asgi, or --interface wsgi"),
        ("{name}:old_asgi", "app-failed", "takes neither what ASGI gives", None),
    ],
)
def test_a_mistake_is_named_with_what_to_do(place: Path, reference: str, code: str, message: str, hint: str | None) -> None:
    name = written(place)
    with pytest.raises(AppFailed) as caught:
        load(app(reference.format(name=name), place))
    error = caught.value
    assert error.code == code
    assert message.format(name=name, place=place) in error.message
    if hint is not None:
        assert error.hint is not None
        assert hint.format(name=name) in error.hint


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def broken(:\n", "SyntaxError: invalid syntax"),
        ("def f():\n    return 1 / 0\nf()\n", "ZeroDivisionError: division by zero ({place}/{name}.py, line 2)"),
        ("import not_installed\n", "there is no module 'not_installed' ({place}/{name}.py, line 1)"),
        ("raise SystemExit('bye')\n", "SystemExit: bye"),
        ("raise RuntimeError\n", "{name} cannot be imported: RuntimeError ("),
    ],
)
def test_an_import_that_fails_shows_the_lines_of_the_application(place: Path, source: str, message: str) -> None:
    name = written(place, source)
    with pytest.raises(AppFailed) as caught:
        load(app(f"{name}:app", place))
    error = caught.value
    assert error.code == "app-failed"
    assert message.format(name=name, place=place) in error.message
    assert f'File "{place}/{name}.py"' in error.trace
    assert "importlib" not in error.trace
    if "not_installed" in source:
        assert error.hint is not None
        assert error.hint.endswith("pip install not_installed")


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AppFailed, match="is no directory"):
        load(app("nowhere_at_all:app", tmp_path / "none"))


def test_a_module_of_the_same_name_from_elsewhere_is_never_served_in_its_place(place: Path) -> None:
    name = written(place)
    assert load(app(f"{name}:asgi", place)).__module__ == name
    other = place / "other"
    other.mkdir()
    (other / f"{name}.py").write_text("async def asgi(scope, receive, send): 'another'\n")
    with pytest.raises(AppFailed, match="in this process already") as caught:
        load(app(f"{name}:asgi", other))
    assert f"{place}/{name}.py" in caught.value.message
    assert load(app(f"{name}:asgi", place)).__module__ == name
    (place / "json.py").write_text(SOURCE)
    with pytest.raises(AppFailed, match="there is a module 'json' in this process already"):
        load(app("json:asgi", place))


def test_the_directory_goes_before_where_python_looks(place: Path) -> None:
    """As with uvicorn and gunicorn; and a package is found there as well."""
    name = next(NAMES)
    (place / name).mkdir()
    (place / name / "__init__.py").write_text("")
    (place / name / "main.py").write_text(SOURCE)
    assert load(app(f"{name}.main:asgi", place)).__module__ == f"{name}.main"
    assert sys.path[0] == str(place)


def test_an_error_is_the_same_in_another_process() -> None:
    error = AppFailed("app-failed", "a sentence", "a hint", trace="Traceback")
    again = from_data(as_data(error))
    assert isinstance(again, AppFailed)
    assert (again.code, again.message, again.hint, again.trace) == ("app-failed", "a sentence", "a hint", "Traceback")
    junk: list[object] = [None, [], {"code": "x"}, {"code": "x", "message": "y", "more": 1}]
    assert [from_data(one) for one in junk] == [None] * 4


def test_a_kind_says_what_it_is() -> None:
    kind = app("a.b:make()", Path("/srv"))
    assert kind == App("a.b", "make", Path("/srv"), "auto", factory=True)
    assert (str(kind), kind.leads_to) == ("runs a.b:make()", "a.b:make()")
