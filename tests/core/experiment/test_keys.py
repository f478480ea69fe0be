"""Any text has a key of its own that MLflow takes."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_tag_name

from deq_core.experiment.tracking.store.keys import LONGEST, digest, key_of, text_of


@given(st.text(st.characters(), max_size=60))
@example("lr=1e-3")
@example("..")
@example("a/../b")
@example("/a/")
@example("")
@example(":")
@example(":3D")
@example("a\n")
@example("\udcff")
def test_every_text_is_a_key_that_mlflow_takes_and_can_be_read_back(text: str) -> None:
    found = key_of(text)
    _validate_tag_name(found)
    assert "\n" not in found
    assert len(found) > LONGEST or text_of(found) == text


@pytest.mark.parametrize("text", ["a" * 251, "/" * 251, "=" * 100, "a" * 215 + "/" + "b" * 100])
def test_a_long_text_is_cut_and_told_by_its_digest(text: str) -> None:
    found = key_of(text)
    _validate_tag_name(found)
    assert len(found) <= LONGEST
    assert found.endswith(f"::{digest(text)}")
    assert key_of(text + "x") != found
