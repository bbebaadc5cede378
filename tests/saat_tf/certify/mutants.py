"""Modules with a planted bug: a soundness test that one passes is worth nothing."""

import inspect
import sys
import types


def mutant(module, old, new):
    """Return a copy of a module in whose source `old`, which occurs once, is `new`."""
    source = inspect.getsource(module)
    assert source.count(old) == 1, f"{module.__name__} has {source.count(old)} x {old!r}"
    copy = types.ModuleType(f"{module.__name__}_mutant")
    copy.__file__ = module.__file__
    sys.modules[copy.__name__] = copy  # dataclasses look their module up
    try:
        exec(compile(source.replace(old, new), module.__file__, "exec"), copy.__dict__)
    finally:
        del sys.modules[copy.__name__]
    return copy
