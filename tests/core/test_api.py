"""The public API is what docs/api.md says."""

import inspect
import re

import pytest
from docs import signatures

PAGE = signatures.PAGE.read_text()
NAMES = [(signatures.NAMESPACES[prefix], name) for prefix, name, _ in signatures.public()]


def test_the_page_of_the_api_has_every_public_name_and_no_other():
    table = PAGE.split("| --- | --- |")[1]
    assert set(re.findall(r"`(?:deq\.\w+\.)?(\w+)`", table)) == {name for _, name in NAMES}


def test_the_page_has_the_signatures_of_the_code():
    assert signatures.page(PAGE) == PAGE, "the public API has changed: run `python -m docs.signatures`"


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
