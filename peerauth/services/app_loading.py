"""From `main:app` to an ASGI application: imported, found and recognized, or an error that says what to do.

The module is looked for in the application's own directory first, then where Python looks. One process has one module of a
name: what is already there under this name, from elsewhere, is never served in its place.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from peerauth.errors import printable
from peerauth.services.app_failed import AppFailed
from peerauth.services.lifespan import Application
from peerauth.store.files import shown
from peerauth.store.kind_app import App

_ASGI, _WSGI = 3, 2  # arguments


def load(kind: App) -> Application:
    """The application, as ASGI. Raises AppFailed."""
    found = _attribute(_module(kind), kind)
    if kind.factory:
        found = _made(found, kind)
    interface = _interface(found, kind) if kind.interface == "auto" else kind.interface
    if not callable(found):
        raise AppFailed("app-failed", f"{kind.leads_to} is no application: it is {_a(found)}", _others(kind))
    if interface == "wsgi":
        from peerauth.services.wsgi import as_asgi  # noqa: PLC0415 - most applications are ASGI

        return as_asgi(found)
    application: Application = found
    return application


def _module(kind: App) -> ModuleType:
    directory = str(kind.directory)
    if directory not in sys.path:
        sys.path.insert(0, directory)
    importlib.invalidate_caches()
    _check_name(kind)
    try:
        return importlib.import_module(kind.module)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{kind.module}.".startswith(f"{error.name}."):
            raise _no_module(kind, error.name) from error
        name = printable(str(error.name), 80)
        hint = f"if it is a package that it needs, install it for {shown(Path(sys.executable))}: pip install {name}"
        raise _failed(f"{kind.module} cannot be imported: there is no module '{name}'", error, hint) from error
    except (Exception, SystemExit) as error:
        raise _failed(f"{kind.module} cannot be imported: {_said(error)}", error) from error


def _check_name(kind: App) -> None:
    top = kind.module.partition(".")[0]
    known, own = sys.modules.get(top), PathFinder.find_spec(top, [str(kind.directory)])
    if known is None or own is None:
        return
    if _place(known.__spec__) != _place(own):
        there = getattr(known, "__file__", None)
        where = shown(Path(there)) if there else "Python itself"
        text = f"there is a module '{top}' in this process already, from {where}"
        raise AppFailed("app-failed", text, "give yours another name, or serve it by a process of its own")


def _place(spec: ModuleSpec | None) -> tuple[str | None, list[str]] | None:
    return None if spec is None else (spec.origin, list(spec.submodule_search_locations or ()))


def _no_module(kind: App, missing: str) -> AppFailed:
    place = kind.directory
    if not place.is_dir():
        hint = "--app-dir DIR (app_dir in config.toml) says where the module is"
        return AppFailed("app-not-found", f"{shown(place)} is no directory", hint)
    names = [path.stem for path in place.glob("*.py")] + [path.parent.name for path in place.glob("*/__init__.py")]
    near = difflib.get_close_matches(missing, names, 1, 0.6)
    if near:
        hint = f"did you mean {near[0]}:{kind.attribute}?"
    else:
        others = ", ".join(shown(Path(path)) for path in sys.path if path and path != str(place))
        hint = f"where else is it? --app-dir DIR (app_dir in config.toml) says so; also looked in {others}"
    return AppFailed("app-not-found", f"there is no module '{missing}' in {shown(place)}", hint)


def _attribute(module: ModuleType, kind: App) -> Any:  # noqa: ANN401 - whatever is there
    found: Any = module
    for name in kind.attribute.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            near = difflib.get_close_matches(name, [other for other in dir(found) if not other.startswith("_")], 1, 0.6)
            hint = f"did you mean {kind.module}:{near[0]}?" if near else _others(kind)
            whose = getattr(module, "__file__", None)
            where = f" ({shown(Path(whose))})" if whose else ""
            raise AppFailed("app-not-found", f"{kind.module}{where} has no '{kind.attribute}'", hint) from error
    return found


def _made(factory: Any, kind: App) -> Any:  # noqa: ANN401 - as above
    if not callable(factory):
        text = f"{kind.module}:{kind.attribute} makes no application: it is {_a(factory)}"
        raise AppFailed("app-failed", text, _others(kind))
    if not _takes(factory, 0) and (_takes(factory, _ASGI) or _takes(factory, _WSGI)):
        whole = f"{kind.module}:{kind.attribute}"
        raise AppFailed("app-failed", f"{whole} is an application, and makes none", f"leave out the (): {whole}")
    try:
        return factory()
    except (Exception, SystemExit) as error:
        raise _failed(f"{kind.leads_to} made no application: {_said(error)}", error) from error


def _interface(found: Any, kind: App) -> str:  # noqa: ANN401 - as above
    """What the application is, by what it takes."""
    if not callable(found):
        return "none"
    if inspect.isclass(found):
        text = f"{kind.leads_to} is a class"
        raise AppFailed("app-failed", text, f"if it needs no arguments: {kind.leads_to}(); else make one in {kind.module}")
    inner = found
    while isinstance(inner, functools.partial):
        inner = inner.func
    call = inner if inspect.isroutine(inner) else type(inner).__call__
    if inspect.iscoroutinefunction(call) and _takes(found, _ASGI):
        return "asgi"
    fitting = [name for name, count in (("asgi", _ASGI), ("wsgi", _WSGI)) if _takes(found, count)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting and _takes(found, 0):
        hint = f"if it makes the application: {kind.leads_to}()"
        raise AppFailed("app-failed", f"{kind.leads_to} takes no arguments, so it is no application", hint)
    if not fitting:
        text = f"{kind.leads_to} takes neither what ASGI gives (scope, receive, send) nor what WSGI does"
        raise AppFailed("app-failed", text, _others(kind))
    text = f"it cannot be seen whether {kind.leads_to} is ASGI or WSGI"
    raise AppFailed("app-failed", text, "say it: --interface asgi, or --interface wsgi (interface in config.toml)")


def _takes(found: Callable[..., Any], count: int) -> bool:
    """Whether it can be called with so many arguments."""
    try:
        inspect.signature(found).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # of a built-in nobody knows
        return True
    return True


def _others(kind: App) -> str:
    return f"an application is what FastAPI(), Flask(__name__) or get_wsgi_application() make; has {kind.module} one?"


def _failed(text: str, error: BaseException, hint: str | None = None) -> AppFailed:
    """The error, with the traceback from the application's own first line on."""
    parts = traceback.TracebackException.from_exception(error)
    own = [frame for frame in parts.stack if frame.filename != __file__ and "importlib" not in frame.filename]
    place = f" ({shown(Path(own[-1].filename))}, line {own[-1].lineno})" if own else ""
    parts.stack = traceback.StackSummary.from_list(own)
    return AppFailed("app-failed", text + place, hint, trace="".join(parts.format()))


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {printable(str(error))}" if str(error) else type(error).__name__


def _a(thing: object) -> str:
    name = type(thing).__name__
    return "None" if thing is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
