"""The examples of the docstrings run."""

import doctest
import importlib

import pytest

pytest.importorskip("faiss", reason="faiss is not installed")


@pytest.mark.parametrize("name", ["encoder.fingerprint", "search.kinds"])
def test_the_examples_of_docstrings_run(name):
    result = doctest.testmod(importlib.import_module(f"export.{name}"), optionflags=doctest.ELLIPSIS)
    assert result.attempted > 0 and result.failed == 0
