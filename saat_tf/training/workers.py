"""Coordination of the processes that train together over several machines."""

import contextlib
import os
import sys
import threading
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

# How TensorFlow says that another process is gone: the connection broke, or its heartbeat stopped.
LOST = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)


class Workers:
    """The processes that train one run, of which the first, the chief, alone evaluates and writes.

    Every method waits for all of them, so all must call the same ones in the same order. Where a process trains alone
    it is the chief, and nothing waits.

    Args:
        strategy: that of the training.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self.strategy = strategy
        resolver = strategy.cluster_resolver
        self.count = resolver.cluster_spec().num_tasks("worker") if resolver else 1
        self.is_chief = resolver is None or resolver.task_id == 0
        self._sum = tf.function(self._replica_sums, input_signature=[tf.TensorSpec([None], tf.float32)])

    def any(self, *flags: bool) -> list[bool]:
        """Return of each flag whether any worker raises it."""
        if self.count == 1:
            return list(flags)
        return (self._added(np.asarray(flags, np.float32)) > 0).tolist()

    def wait(self) -> None:
        """Wait until all workers are here."""
        self.any(False)

    def part(self) -> None:
        """Wait until all have done everything, and see to it that none leaves while another still listens to it."""
        self.wait()
        if self.count > 1:
            # Who leaves first breaks off this one for the others, and TensorFlow would print how.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
            with contextlib.suppress(*LOST):
                self.wait()

    def check_same(self, digest: str) -> None:
        """Check that all workers have the data of which this hexadecimal digest tells.

        Raises:
            ValueError: a worker has other data; all raise it.
        """
        mine = np.frombuffer(bytes.fromhex(digest), np.uint8)
        (chiefs,) = self.from_chief([mine])
        if self.any(not np.array_equal(mine, chiefs)) == [True]:
            raise ValueError(
                "All workers must have the same data, with the same labels in the same order: another worker has not "
                f"those of the chief. Received here: SHA-256 {digest[:12]}, at the chief {chiefs.tobytes().hex()[:12]}."
            )

    def from_chief(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the chief's arrays, bit for bit; those of the others only tell shapes and types."""
        return [self._one_from_chief(np.asarray(array)) for array in arrays] if self.count > 1 else list(arrays)

    def _one_from_chief(self, array: np.ndarray) -> np.ndarray:
        # Halves of 32 bits are whole numbers that float32 represents exactly, and floats every device can add.
        padded = array.tobytes() + b"\0" * (array.nbytes % 2)
        halves = np.frombuffer(padded, np.uint16).astype(np.float32)
        added = self._added(halves if self.is_chief else np.zeros_like(halves))
        return np.frombuffer(added.astype(np.uint16).tobytes()[: array.nbytes], array.dtype).reshape(array.shape)

    def _added(self, mine: np.ndarray) -> np.ndarray:
        """Return the sum of the workers' vectors; Ctrl-C is heard while this waits."""
        results: list[np.ndarray | Exception] = []

        def add() -> None:
            try:
                results.append(self._sum(mine).numpy())
            except Exception as error:  # raised below, where somebody catches it
                results.append(error)

        thread = threading.Thread(target=add, daemon=True)
        thread.start()
        thread.join()
        if isinstance(results[0], Exception):
            raise results[0]
        return results[0]

    def _replica_sums(self, mine: tf.Tensor) -> tf.Tensor:
        def add() -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            local = context.num_replicas_in_sync // self.count
            speaks = context.replica_id_in_sync_group % local == 0  # one replica of each worker
            return context.all_reduce(tf.distribute.ReduceOp.SUM, mine * tf.cast(speaks, tf.float32))

        return self.strategy.experimental_local_results(self.strategy.run(add))[0]
