"""Encode many images, a shard at a time, in processes that share nothing.

Each process computes in one thread, and the batches of a shard depend on the shard alone. So the codes do not depend
on the number of processes or on what runs them.
"""

import concurrent.futures
import dataclasses
import functools
import itertools
import multiprocessing
from collections.abc import Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np

from export.bulk.encoded_folder import EncodedShard
from saat_tf.data.decoding.files import read_file
from saat_tf.data.decoding.header import fault_of

READERS = 4


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """Task of a process: a shard's number and the paths of its images."""

    number: int
    paths: list[str]


class ShardEncoder:
    """Encoder of shards, made once a process, before it uses TensorFlow.

    Args:
        model: folder of a SavedModel.
        batch_size: images that the model gets at a time.
    """

    def __init__(self, model: Path, batch_size: int) -> None:
        import tensorflow as tf

        from saat_tf.devices import hide_gpus

        hide_gpus()  # several processes, none of which may take a GPU's memory; decoding is most of the work
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        from export.encoder.exported_encoder import load_encoder

        self.encoder, self.batch_size = load_encoder(model), batch_size

    def __call__(self, task: ShardTask) -> EncodedShard:
        """Encode a shard; while a batch is encoded the next is read."""
        starts = range(0, len(task.paths), self.batch_size)
        batches = [task.paths[start : start + self.batch_size] for start in starts]
        codes, faults = [np.empty((0, self.encoder.code_length // 8), np.uint8)], []
        with concurrent.futures.ThreadPoolExecutor(READERS) as pool:

            def read(paths: list[str]) -> list:
                return [pool.submit(read_file, path) for path in paths]

            reading = read(batches[0])
            for number in range(len(batches)):
                files = [future.result() for future in reading]
                reading = read(batches[number + 1]) if number + 1 < len(batches) else []
                packed_codes, ok = self.encoder.encode([contents for contents, _ in files])
                codes.append(packed_codes[ok])
                for place in np.flatnonzero(~ok).tolist():
                    contents, fault = files[place]
                    faults.append((number * self.batch_size + place, fault or fault_of(contents)))
        return EncodedShard(task.number, np.concatenate(codes), faults)


def encode_here(tasks: Iterable[ShardTask], model: Path, batch_size: int, workers: int) -> Iterator[EncodedShard]:
    """Encode shards in processes of this machine; yield them as they are completed.

    Raises:
        RuntimeError: a process was killed.
    """
    tasks = iter(tasks)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:

        def submit(count: int) -> set:
            return {pool.submit(_encode, model, batch_size, task) for task in itertools.islice(tasks, count)}

        try:
            running = submit(2 * workers)
            while running:
                done, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                running |= submit(len(done))
                yield from (future.result() for future in done)
        except BrokenProcessPool as error:
            raise RuntimeError(
                "A worker process was killed, perhaps for lack of memory. Completed shards are kept: run "
                "the same command again, with fewer --workers."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _encode(model: Path, batch_size: int, task: ShardTask) -> EncodedShard:
    return _encoder(model, batch_size)(task)


@functools.cache
def _encoder(model: Path, batch_size: int) -> ShardEncoder:
    """Load the model once a process."""
    return ShardEncoder(model, batch_size)
