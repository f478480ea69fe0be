"""A law of configurations: whatever is changed of one, what is built from it changes, or the change is refused.

It knows no field by name: a field that is added to any dataclass is changed too, and fails the law until it is read.
"""

import sys
import types
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import torch

import deq_core as deq
from deq_core.experiment.config.layer import LayerConfig
from deq_core.experiment.config.recipe import Updates

Made = Callable[[], Any]
"""Makes a changed value; raises ValueError where it is refused."""
OF_THE_LOOP = tuple(part.name for part in fields(Updates))
"""Fields of a recipe that the training loop reads: it is given the recipe whole, and `core/experiment` tests them."""
OF_A_LAYER = tuple(f"layer.{part.name}" for part in fields(LayerConfig))
"""What a network hands to its layer, whose solvers, stops and gradients `core/experiment` tests."""
INTEGERS = (1, 2, 3, 0, 20)
NUMBERS = (0.4, 1.0, 0.0, 1e-3, 2.0)


def lost(
    config: Any, outcome: Callable[[Any], object], *, but: Collection[str] = (), handed_on: Collection[str] = ()
) -> list[str]:
    """The leaves of a dataclass, by their dotted paths, whose changes `outcome` does not depend on and nothing refuses.

    `but` names parts that have laws of their own, and `handed_on` those that are handed on whole to what has: of each
    it is enough that one change arrives.
    """
    before = seen(outcome, config)
    looked = defaultdict[str, list[Made]](list)
    for path, made in leaves(type(config), config):
        if path.split(".")[0] not in but:
            part = next((part for part in handed_on if f"{path}.".startswith(f"{part}.")), path)
            looked[part] += made
    return [path for path, made in looked.items() if ignored(made, outcome, before)]


def kinds(*values: Any) -> set[type]:
    """The dataclasses that some values consist of."""
    found: set[type] = set()
    for value in values:
        if is_dataclass(value) and not isinstance(value, type):
            found |= {type(value), *kinds(*(getattr(value, part.name) for part in fields(value)))}
        elif isinstance(value, Mapping):
            found |= kinds(*value.values())
        elif isinstance(value, tuple | list):
            found |= kinds(*value)
    return found


def ignored(candidates: list[Made], outcome: Callable[[Any], object], before: object) -> bool:
    """Whether some of the candidates are taken, and none of those changes the outcome."""
    taken = False
    for made in candidates:
        try:
            changed = made()
        except (TypeError, ValueError):
            continue
        taken = True
        if seen(outcome, changed) != before:
            return False
    return taken


def leaves(kind: Any, value: Any) -> Iterator[tuple[str, list[Made]]]:
    """Every leaf of a value of this annotation, and what may be there in its place."""
    options = members(kind)
    own = [lambda one=one: one for one in nearby(value) if not any(get_origin(option) is Literal for option in options)]
    others = [made for option in options if option is not type(value) for made in fresh(option, value)]
    if own or others:
        yield "", [*own, *others]
    if is_dataclass(value) and not isinstance(value, type):
        hints = get_type_hints(type(value), include_extras=True)
        for part in fields(value):
            for path, made in leaves(hints[part.name], getattr(value, part.name)):
                yield joined(part.name, path), [replacing(value, part.name, one) for one in made]
    elif isinstance(value, Mapping):
        (inner,) = (get_args(option)[1] for option in options if get_origin(option) is dict)
        for key, item in value.items():
            for path, made in leaves(inner, item):
                yield joined(key, path), [lambda key=key, one=one: {**value, key: one()} for one in made]
    elif isinstance(value, tuple):
        (inner,) = (get_args(option) for option in options if get_origin(option) is tuple)
        for index, item in enumerate(value):
            for path, made in leaves(inner[0] if inner[-1] is Ellipsis else inner[index], item):
                yield joined(str(index), path), [placing(value, index, one) for one in made]


def joined(name: str, path: str) -> str:
    return f"{name}.{path}" if path else name


def replacing(config: Any, name: str, made: Made) -> Made:
    return lambda: replace(config, **{name: made()})


def placing(values: tuple[Any, ...], index: int, made: Made) -> Made:
    return lambda: (*values[:index], made(), *values[index + 1 :])


def members(kind: Any) -> list[Any]:
    """The members of a union, or the annotation alone, without what annotates it."""
    if get_origin(kind) is Annotated:
        return members(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [member for part in get_args(kind) for member in members(part)]
    return [kind]


def fresh(kind: Any, value: Any) -> list[Made]:
    """Values of another annotation than that of `value`, among which is the absence of one."""
    if get_origin(kind) is Literal:
        return [lambda one=one: one for one in get_args(kind) if one != value]
    if kind is type(None):
        return [] if value is None else [lambda: None]
    if value is not None and not is_dataclass(kind):
        return []
    if is_dataclass(kind):
        return [lambda: least(kind)]
    return [lambda one=one: one for one in {int: INTEGERS, float: NUMBERS, bool: (True,)}.get(kind, ())]


def least(kind: Any) -> Any:
    """An instance of a dataclass: what has no default is the first that its annotation offers."""
    hints = get_type_hints(kind, include_extras=True)
    for numbers in (INTEGERS, tuple(reversed(INTEGERS))):
        given = {}
        for part in fields(kind):
            if part.default is part.default_factory:  # neither
                given[part.name] = first(hints[part.name], numbers[0])
        try:
            return kind(**given)
        except (TypeError, ValueError):
            continue
    raise ValueError(f"no instance of {kind} is known")


def first(kind: Any, number: int) -> Any:
    option = members(kind)[0]
    if get_origin(option) is Literal:
        return get_args(option)[0]
    if get_origin(option) is tuple:
        return tuple(first(inner, number) for inner in get_args(option) if inner is not Ellipsis)
    return least(option) if is_dataclass(option) else option(number)


def nearby(value: Any) -> list[Any]:
    """Other values of a leaf, some of which should be allowed."""
    match value:
        case bool():
            return [not value]
        case int():
            return [one for one in (value + 1, value - 1, *INTEGERS, 2 * value, value // 2) if one != value]
        case float():
            return [one for one in (1.5 * value, value / 2, *NUMBERS) if one != value]
        case str():
            return [f"{value}-other"]
        case _:
            return []


def note_solves(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes the choices that solves are made with from now on."""
    noted: list[str] = []

    def noting(where: types.ModuleType, name: str) -> None:
        solve = getattr(where, name)

        def solve_and_note(*arguments: Any, **choices: Any) -> Any:
            noted.append(f"{name} {described({key: one for key, one in choices.items() if key != 'check'})}")
            return solve(*arguments, **choices)

        monkeypatch.setattr(where, name, solve_and_note)

    noting(deq, "fixed_point")
    noting(deq.compat, "released_fixed_point")
    return noted


def described(value: Any) -> str:
    """As repr has it, without places in memory."""
    if isinstance(value, Mapping):
        return str({key: described(one) for key, one in value.items()})
    if type(value).__repr__ is not object.__repr__:
        return f"{value!r} {getattr(value, 'kind', '')}"
    return f"{type(value).__name__} {described(value.__dict__)}"


def seen(outcome: Callable[[Any], object], config: Any) -> object:
    """The outcome, with what can be seen of it from outside: warnings, an error, files, processes and threads."""
    with warnings.catch_warnings(record=True) as said, watched as count:
        warnings.simplefilter("always")
        try:
            found = outcome(config)
        except Exception as error:  # an outcome too
            found = (type(error).__name__, str(error))
    return found, sorted({str(one.message) for one in said}), dict(count), torch.get_num_threads()


class Watched:
    """Counts the files opened below some folders, and the processes begun."""

    def __init__(self) -> None:
        self.folders: list[Path] = []
        self.count: dict[str, int] | None = None
        sys.addaudithook(self.note)

    def __enter__(self) -> dict[str, int]:
        self.count = {}
        return self.count

    def __exit__(self, *_: object) -> None:
        self.count = None

    def note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.count is None:
            return
        if event == "os.fork":
            self.count[event] = self.count.get(event, 0) + 1
        elif event == "open" and isinstance(arguments[0], str):
            for folder in self.folders:
                if arguments[0].startswith(f"{folder}/"):
                    self.count[folder.name] = self.count.get(folder.name, 0) + 1


watched = Watched()
