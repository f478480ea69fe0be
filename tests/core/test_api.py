"""The public API is what docs/api.md says."""

import inspect
import re
from pathlib import Path

import pytest

import deq_core

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
NAMES = [
    (namespace, name)
    for namespace in (deq_core, deq_core.nn, deq_core.delta, deq_core.compat)
    for name, thing in vars(namespace).items()
    if not name.startswith("_") and not inspect.ismodule(thing)
]


def test_the_page_of_the_api_has_every_public_name_and_no_other():
    table = PAGE.split("| --- | --- |")[1]
    assert set(re.findall(r"`(?:deq\.\w+\.)?(\w+)`", table)) == {name for _, name in NAMES}


def test_no_public_name_is_in_two_places():
    names = [name for _, name in NAMES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("namespace", "name"), NAMES, ids=[name for _, name in NAMES])
def test_every_public_name_has_a_docstring_of_its_own(namespace, name):
    thing = getattr(namespace, name)
    assert thing.__doc__
    assert not thing.__doc__.startswith(f"{name}("), "a dataclass without a docstring"
    for member, value in vars(thing).items() if inspect.isclass(thing) else ():
        if not member.startswith("_") and callable(value) and member not in ("forward", "extra_repr", "step", "init"):
            assert value.__doc__, f"{name}.{member}"
