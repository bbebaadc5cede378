"""Worker process of `benchmarks.saat_step`: it does a SAAT step for each line that it reads."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import psutil
import tensorflow as tf
import tyro

from benchmarks.flops import peak_flops_per_second, step_flops
from benchmarks.workers import serve
from saat_tf.backbones import backbone_spec
from saat_tf.backbones.precision import Precision
from saat_tf.evaluation import peak_rss_mb
from saat_tf.layers import CodeBank
from saat_tf.losses import DPH
from saat_tf.models import SAAT, HashingModel
from saat_tf.models.inner import Steps
from saat_tf.replicas import distribute

CLASSES, LABEL_SHARE, LEARNING_RATE = 80, 0.04, 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A SAAT step to be timed: DPH loss, 80 labels, SGD."""

    backbone: str = "alexnet"
    """Network."""
    image_size: int = 224
    """Pixels."""
    batch_size: int = 32
    """Images in a step."""
    bits: int = 32
    """Code length."""
    num_items: int = 10_000
    """Rows of the bank; as many as MS-COCO's training images in the papers."""
    num_steps: int = 7
    """Inner steps."""
    precision: Precision = "float32"
    """What the backbone computes in."""
    xla: bool = False
    """Compile the step by XLA."""
    weight_gradients: bool = False
    """Compute the gradients of the weights in the inner steps too, as a backward pass over the whole model does."""
    dropout: bool = True
    """Off, a step has no randomness but its random start, and can be compared."""
    replicas: int = 1
    """Logical devices CPU:0, CPU:1, ... that share the batch."""
    dump: Path | None = None
    """Write weights, data and the first step's random start to this .npz file."""
    peak: bool = False
    """Measure what the machine reaches, too."""


class SAATWithWeightGradients(SAAT):
    """SAAT whose inner loop backpropagates to the weights too, and throws that away."""

    def perturb(self, images: tf.Tensor, wanted_codes: tf.Tensor, index: tf.Tensor | None = None) -> tf.Tensor:
        """Return adversarial images, by the slower way."""
        threat_model, variables = self.threat_model, self.encoder.trainable_variables
        adversarial_images, sink = threat_model.random_start(images, self.step_seed()), tf.constant(0.0)
        steps = self.inner
        if not isinstance(steps, Steps):
            raise TypeError(f"It does the steps of `Steps`. Received: {steps}.")
        for _ in range(steps.num_steps):
            with tf.GradientTape() as tape:
                tape.watch(adversarial_images)
                gain = tf.reduce_mean(self.encoder(adversarial_images, training=True) * wanted_codes, axis=-1)
            gradient, *weight_gradients = tape.gradient(gain, [adversarial_images, *variables])
            # TensorFlow drops what nobody reads, so every weight gradient is read; infinity would be needed to matter.
            sink += tf.add_n([tf.reduce_sum(weight_gradient) for weight_gradient in weight_gradients])
            moved = adversarial_images + steps.step_size * tf.sign(gradient)
            adversarial_images = threat_model.project(moved, images)
        return tf.stop_gradient(adversarial_images + tf.where(tf.math.is_finite(sink), 0.0, 1.0))


def data_of(case: Case) -> dict[str, np.ndarray]:
    """Draw a batch, and a bank with labels and relaxed codes whose first rows are the batch's."""
    rng = np.random.default_rng(0)
    labels = (rng.random((case.num_items, CLASSES)) < LABEL_SHARE).astype(np.float32)
    return {
        "images": rng.random((case.batch_size, case.image_size, case.image_size, 3), np.float32),
        "index": np.arange(case.batch_size),
        "labels": labels,
        "codes": rng.uniform(-1, 1, (case.num_items, case.bits)).astype(np.float32),
    }


def build(case: Case, data: Mapping[str, Any]) -> SAAT:
    """Make the model with a filled bank."""
    keras.utils.set_random_seed(0)
    encoder = HashingModel(case.backbone, case.bits, case.image_size, precision=case.precision)
    if not case.dropout:
        for layer in encoder.backbone.layers:
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0
    bank = CodeBank.from_labels(data["labels"], case.bits)
    bank.update(tf.range(case.num_items), tf.constant(data["codes"]))
    kind = SAATWithWeightGradients if case.weight_gradients else SAAT
    saat = kind(encoder, bank, DPH(), num_steps=case.num_steps)
    saat.compile(optimizer=keras.optimizers.SGD(LEARNING_RATE))
    saat.optimizer.build(saat.trainable_variables)  # XLA compiles no making of variables
    return saat


def dump(saat: SAAT, case: Case, data: Mapping[str, Any], file: Path) -> None:
    """Write all that another implementation needs to do the same first step."""
    spec = backbone_spec(case.backbone)
    weights: dict[str, Any] = {variable.path: variable.numpy() for variable in saat.encoder.trainable_variables}
    start = saat.threat_model.random_start(tf.constant(data["images"]), tf.constant([0, 0]))
    about: dict[str, Any] = {"start": start.numpy(), "mean": spec.mean, "std": spec.std, "num_steps": case.num_steps}
    np.savez(file, **about, **data, **weights)


def step_of(saat: SAAT, case: Case, data: Mapping[str, Any]) -> Callable[[], dict]:
    """Return what does one step on the batch and gives the losses."""
    batch = (data["images"], data["labels"][data["index"]], data["index"])
    if case.replicas > 1:
        batches = tf.data.Dataset.from_tensors(batch).repeat()
        saat.make_train_function()
        iterator = iter(distribute(batches, saat.distribute_strategy))
        return lambda: saat.train_function(iterator)
    batch = tuple(map(tf.constant, batch))
    train_step = tf.function(saat.train_step, jit_compile=case.xla)
    return lambda: train_step(batch)


def strategy_of(replicas: int) -> tf.distribute.Strategy:
    """Return the strategy of one device, or of some logical ones that share the processor."""
    if replicas == 1:
        return tf.distribute.get_strategy()
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
    return tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])


def main(case: Case) -> None:
    """Build, dump, and do a step for each line that comes in."""
    strategy, data = strategy_of(case.replicas), data_of(case)
    with strategy.scope():
        saat = build(case, data)
    facts: dict[str, float] = {"flops": step_flops(saat.encoder, case.batch_size, case.num_steps)}
    if case.peak:
        facts["peak"] = peak_flops_per_second()
    if case.dump:
        dump(saat, case, data, case.dump)
    do_step = step_of(saat, case, data)

    def step() -> dict:
        saat.reset_metrics()
        losses = {name: float(value) for name, value in do_step().items()}
        return {**losses, "rss_mb": psutil.Process().memory_info().rss / 2**20, "peak_rss_mb": peak_rss_mb()}

    serve(step, facts)


if __name__ == "__main__":
    main(tyro.cli(Case))
