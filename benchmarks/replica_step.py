"""Count what replicas exchange in a step of SAAT: `python -m benchmarks.replica_step` prints and writes a table.

The step is traced for two logical CPUs and never run. An exchange is one call of `CrossDeviceOps`, which may sum
several tensors (the gradients of all weights); its bytes are those that one replica gives. Seconds are processor time
of tracing, in a process that does nothing else.
"""

import dataclasses
import json
import multiprocessing
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro

from benchmarks.timing import ROOT
from saat_tf.files import write_text

BITS, CLASSES, ITEMS = 32, 10, 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What to trace."""

    backbones: tuple[str, ...] = ("small_cnn", "efficientnet_lite0", "resnet50")
    """Backbones, each with random weights."""
    image_size: int = 64
    """Side of the images in pixels."""
    num_steps: int = 7
    """Inner steps."""
    out: Path = ROOT / "docs/results/replica_step.json"
    """File to write."""


def traced(backbone: str, inner_training: str, options: Options) -> dict[str, Any]:
    """Trace a step over two logical CPUs and return a row of the table. Needs a process of its own."""
    import keras
    import numpy as np
    import tensorflow as tf
    from tensorflow.python.distribute.cross_device_ops import CrossDeviceOps

    from saat_tf.layers import BatchNormalization, CodeBank
    from saat_tf.losses import CSQ
    from saat_tf.models import SAAT, HashingModel
    from trainers.distributed.strategy import synchronize_batch_norm

    device = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(device, [tf.config.LogicalDeviceConfiguration()] * 2)
    exchanged: list[int] = []
    batch_reduce = CrossDeviceOps.batch_reduce

    def counted(self: CrossDeviceOps, reduce_op: Any, pairs: Sequence, options: Any = None) -> Any:
        given = [values.values[0] for values, _ in pairs]
        exchanged.append(sum(one.dtype.size * int(np.prod(one.shape)) for one in given))
        return batch_reduce(self, reduce_op, pairs, options)

    CrossDeviceOps.batch_reduce = counted
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    labels = np.eye(CLASSES, dtype=np.float32)[np.arange(ITEMS) % CLASSES]
    images = np.zeros((ITEMS, options.image_size, options.image_size, 3), np.float32)
    batch = strategy.experimental_distribute_values_from_function(lambda _: (images, labels, np.arange(ITEMS)))
    with strategy.scope():
        encoder = HashingModel(backbone, BITS, options.image_size)
        loss = CSQ(CLASSES, BITS, seed=0)
        bank = CodeBank.from_labels(labels, BITS)
        training = SAAT(encoder, bank, loss, num_steps=options.num_steps, inner_training=inner_training)
        training.compile(keras.optimizers.SGD(0.01))
        training.optimizer.build(training.trainable_variables)
    synchronize_batch_norm(encoder)
    step = tf.function(lambda batch: strategy.run(training.train_step, (batch,)), autograph=False)
    exchanged.clear()
    started = time.process_time()
    step.get_concrete_function(batch)
    return {
        "backbone": backbone,
        "inner_training": inner_training,
        "batch_norms": sum(isinstance(layer, BatchNormalization) for layer in encoder.backbone.layers),
        "exchanges": len(exchanged),
        "megabytes": sum(exchanged) / 1e6,
        "trace_s": time.process_time() - started,
    }


def main(options: Options) -> None:
    """Trace, print and write."""
    context = multiprocessing.get_context("spawn")
    rows = []
    for backbone in options.backbones:
        for inner_training in ("training", "inference"):
            with context.Pool(1) as pool:
                rows.append(pool.apply(traced, (backbone, inner_training, options)))
            print(rows[-1])
    about = {"replicas": 2, "image_size": options.image_size, "num_steps": options.num_steps}
    write_text(options.out, json.dumps({**about, "results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
