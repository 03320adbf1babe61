"""Names of version 0.1 that were renamed: they still work in this version and say what they are called now.

``renamed`` is for keywords, ``renamed_attribute`` for attributes, and ``renamed_members`` for what a module holds.
"""

import functools
import importlib
import warnings
from collections.abc import Callable
from operator import attrgetter
from typing import Any, TypeVar

T = TypeVar("T", bound=Callable[..., Any])


def warn(old: str, new: str) -> None:
    """Warn that ``old`` is called ``new`` now; the warning points to the caller of whoever calls this."""
    warnings.warn(
        f"{old} is called {new} now; the old name goes in the next version.", DeprecationWarning, stacklevel=3
    )


def renamed(**names: str) -> Callable[[T], T]:
    """Decorator: the function, or the class by its constructor, still takes the old keywords: ``old="new"``.

    Above ``@dataclass`` it serves the settings of an attack or sanitizer too (``checks.Settings``). A class that is
    derived from one and has a constructor of its own needs its own. Old and new together are a ``TypeError``.
    """

    def decorate(thing: T) -> T:
        function = thing.__init__ if isinstance(thing, type) else thing  # type: ignore[misc]
        called = thing.__qualname__.rpartition("<locals>.")[2].removesuffix(".__init__")

        @functools.wraps(function)
        def wrapper(*args: Any, **settings: Any) -> Any:
            for old in names.keys() & settings.keys():
                if names[old] in settings:
                    raise TypeError(f"{old} is the old name of {names[old]}; give one of them.")
                warn(f"{called}({old}=...)", names[old])
                settings[names[old]] = settings.pop(old)
            return function(*args, **settings)

        vars(wrapper)["renamed_settings"] = names  # what checks.Settings lets pass
        if not isinstance(thing, type):
            return wrapper  # type: ignore[return-value]
        type.__setattr__(thing, "__init__", wrapper)
        return thing

    return decorate


def dropped(name: str, why: str) -> Callable[[T], T]:
    """Decorator: the function still takes the keyword ``name``, which means nothing any more, and says ``why``."""

    def decorate(function: T) -> T:
        @functools.wraps(function)
        def wrapper(*args: Any, **settings: Any) -> Any:
            if name in settings:
                warnings.warn(f"{function.__name__}({name}=...) means nothing now: {why}.", DeprecationWarning, 2)
                del settings[name]
            return function(*args, **settings)

        return wrapper  # type: ignore[return-value]

    return decorate


def renamed_attribute(old: str, new: str) -> Any:
    """A property ``old`` that gives the attribute ``new``, which may be one of an attribute: ``"prior.name"``."""

    def read(self: Any) -> Any:
        warn(f"{type(self).__name__}.{old}", new)
        return attrgetter(new)(self)

    return property(read, doc=f"The old name of ``{new}``.")


def renamed_members(module: str, names: dict[str, str]) -> Callable[[str], Any]:
    """A module's ``__getattr__``: an old name gives ``names[old]``: ``"name"`` or ``"package.module:name"``."""

    def read(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, _, new = names[name].rpartition(":")
        warn(f"{module}.{name}", f"{place or module}.{new}")
        return getattr(importlib.import_module(place or module), new)

    return read
