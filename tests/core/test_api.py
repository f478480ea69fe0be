"""The public API is what docs/api.md says."""

import inspect

import pytest

from workflows import api

NAMES = [(namespace, name) for namespace in api.NAMESPACES for name in api.public(namespace)]


def test_the_page_of_the_api_is_what_the_code_says():
    assert api.PAGE.read_text() == api.page(), f"the public API changed: where that is meant, run `{api.COMMAND}`"


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
