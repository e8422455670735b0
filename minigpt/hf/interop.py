"""Our classes as subclasses of those of transformers, for libraries that ask with `isinstance`."""

# `transformers.Trainer`, accelerate and peft test whether a model is a `PreTrainedModel`, a layer a
# `Conv1D` and so on. minigpt itself never imports transformers; instead, `counterpart` notes the
# name of such a class. As soon as a program imports the module of transformers that defines it,
# Python's import system calls `join`, which adds that class to the bases of ours. The order of
# imports does not matter, and neither does when an object was made: its class is the same, with
# one base more. So `type(model)`, pickle, copy and our own methods stay what they are; methods that
# only transformers has are found behind ours.

import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from typing import TypeVar

Class = TypeVar("Class", bound=type)
COUNTERPARTS: dict[str, list[tuple[type, str]]] = {}  # module of transformers -> our class, its one


class Joinable:
    """A base for a class that needs none: Python can exchange it, but not `object`."""


def counterpart(module: str, name: str) -> Callable[[Class], Class]:
    """Decorate a class of ours: it becomes a subclass of `module.name`, once that is imported."""

    def note(cls: Class) -> Class:
        COUNTERPARTS.setdefault(module, []).append((cls, name))
        if module in sys.modules:
            join(module)
        return cls

    return note


def join(module: str) -> None:
    """Put the classes that a module of transformers defines in front of the bases of ours."""
    for cls, name in COUNTERPARTS[module]:
        theirs = getattr(sys.modules[module], name, object)  # another version may lack it
        if not issubclass(cls, theirs):
            others = (base for base in cls.__bases__ if not issubclass(theirs, base))
            cls.__bases__ = (theirs, *others)


class JoinOnImport(MetaPathFinder):
    """Calls `join` directly after one of the modules was imported; all else is left to Python."""

    def find_spec(self, name, path=None, target=None):
        if name not in COUNTERPARTS:
            return None
        later = sys.meta_path[sys.meta_path.index(self) + 1 :]
        specs = (finder.find_spec(name, path, target) for finder in later)
        spec = next(filter(None, specs), None)
        if spec is not None:
            run = spec.loader.exec_module
            spec.loader.exec_module = lambda module: (run(module), join(name))
        return spec


sys.meta_path.insert(0, JoinOnImport())
