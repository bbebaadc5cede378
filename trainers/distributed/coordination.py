"""The end of a process of a run over several machines, by its own will or by the loss of another."""

import os
import re
import sys

import tensorflow as tf

from saat_tf.training.workers import LOST
from trainers.distributed.cluster import Cluster


def lost_worker(error: tf.errors.OpError, cluster: Cluster | None) -> str | None:
    """Return which worker is gone, where that is what an error means; else None."""
    if cluster is None or not isinstance(error, LOST):
        return None
    tasks = {int(task) for task in re.findall(r"/task:(\d+)", error.message)} & set(cluster.others)
    cause = re.search(r"aborted by: (.*)", error.message)
    if not tasks and cause is None:
        return None
    gone = " or ".join(cluster.name(task) for task in sorted(tasks)) or "another worker"
    return f"{gone} is gone{f' ({cause[1]})' if cause else ''}. Its messages tell why"


def leave(code: int) -> None:
    """End this process at once: TensorFlow's server would wait for the others, ten seconds where they have left."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
