"""Replicas of batch b do what one does with a batch of r * b: weights, batch norm, bank and losses after five steps."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from saat_tf.replicas import deal

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_replicas_train_to_the_weights_and_the_bank_of_one(count):
    # A process each: logical devices can be set only before TensorFlow starts, and for one strategy.
    program = Path(__file__).with_name("replicas_program.py")
    code = f"import runpy, sys; sys.argv[1:] = ['{count}']; runpy.run_path({str(program)!r})"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("rows", range(1, 12))
@pytest.mark.parametrize("count", [2, 3, 4])
def test_parts_are_consecutive_even_and_none_is_empty(rows, count):
    batches = tf.data.Dataset.from_tensors((np.arange(rows), np.arange(rows) * 10))
    parts = [part.tolist() for part, tens in deal(batches, count, range(count)).as_numpy_iterator()]
    assert len(parts) == count
    if rows < count:
        assert parts == [list(range(rows))] * count
    else:
        assert [row for part in parts for row in part] == list(range(rows))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
    one = deal(batches, count, range(count - 1, count)).as_numpy_iterator()
    assert [part.tolist() for part, tens in one] == parts[-1:]
