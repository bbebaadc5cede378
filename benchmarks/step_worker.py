"""One way to do a SAAT step, in a process of its own: `benchmarks.saat_step` starts it, and it does a step a line."""

import dataclasses
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import psutil
import tensorflow as tf
import tyro

from benchmarks.flops import peak_flops_per_second, step_flops
from benchmarks.workers import serve
from saat_tf.backbones import backbone_spec
from saat_tf.layers import CodeBank
from saat_tf.losses import DPH
from saat_tf.models import SAAT, HashingModel

BITS, CLASSES, LABEL_SHARE, LEARNING_RATE = 32, 80, 0.04, 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A SAAT step to be timed: DPH loss, 32 bits, 80 labels, SGD."""

    backbone: str = "alexnet"
    """Network."""
    image_size: int = 224
    """Pixels."""
    batch_size: int = 32
    """Images in a step."""
    num_items: int = 10_000
    """Rows of the bank; as many as MS-COCO's training images in the papers."""
    num_steps: int = 7
    """Inner steps."""
    precision: str = "float32"
    """What the backbone computes in."""
    xla: bool = False
    """Compile the step by XLA."""
    weight_gradients: bool = False
    """Compute the gradients of the weights in the inner steps too, as a backward pass over the whole model does."""
    dropout: bool = True
    """Off, a step has no randomness but its random start, and can be compared."""
    dump: Path | None = None
    """Write weights, data and the first step's random start to this .npz file."""
    peak: bool = False
    """Measure what the machine reaches, too."""


class SAATWithWeightGradients(SAAT):
    """SAAT whose inner loop backpropagates to the weights too, and throws that away."""

    def craft(self, images: tf.Tensor, wanted_codes: tf.Tensor) -> tf.Tensor:
        """Return adversarial images, by the slower way."""
        threat_model, variables = self.attack.threat_model, self.encoder.trainable_variables
        adversarial_images, sink = threat_model.random_start(images, self.step_seed()), tf.constant(0.0)
        for _ in range(self.attack.num_steps):
            with tf.GradientTape() as tape:
                tape.watch(adversarial_images)
                gain = tf.reduce_mean(self.encoder(adversarial_images, training=True) * wanted_codes, axis=-1)
            gradient, *weight_gradients = tape.gradient(gain, [adversarial_images, *variables])
            # TensorFlow drops what nobody reads, so every weight gradient is read; infinity would be needed to matter.
            sink += tf.add_n([tf.reduce_sum(weight_gradient) for weight_gradient in weight_gradients])
            moved = adversarial_images + self.attack.rule.step_size * tf.sign(gradient)
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
        "codes": rng.uniform(-1, 1, (case.num_items, BITS)).astype(np.float32),
    }


def build(case: Case, data: dict[str, np.ndarray]) -> SAAT:
    """Make the model with a filled bank."""
    keras.utils.set_random_seed(0)
    encoder = HashingModel(case.backbone, BITS, case.image_size, precision=case.precision)
    if not case.dropout:
        for layer in encoder.backbone.layers:
            if isinstance(layer, keras.layers.Dropout):
                layer.rate = 0.0
    bank = CodeBank.from_labels(data["labels"], BITS)
    bank.update(tf.range(case.num_items), tf.constant(data["codes"]))
    kind = SAATWithWeightGradients if case.weight_gradients else SAAT
    saat = kind(encoder, bank, DPH(), num_steps=case.num_steps)
    saat.compile(optimizer=keras.optimizers.SGD(LEARNING_RATE))
    return saat


def dump(saat: SAAT, case: Case, data: dict[str, np.ndarray]) -> None:
    """Write all that another implementation needs to do the same first step."""
    spec = backbone_spec(case.backbone)
    weights = {variable.path: variable.numpy() for variable in saat.encoder.trainable_variables}
    start = saat.attack.threat_model.random_start(tf.constant(data["images"]), tf.constant([0, 0]))
    about = {"start": start.numpy(), "mean": spec.mean, "std": spec.std, "num_steps": case.num_steps}
    np.savez(case.dump, **about, **data, **weights)


def main(case: Case) -> None:
    """Build, dump, and do a step for each line that comes in."""
    data = data_of(case)
    saat = build(case, data)
    facts = {"flops": step_flops(saat.encoder, case.batch_size, case.num_steps)}
    if case.peak:
        facts["peak"] = peak_flops_per_second()
    if case.dump:
        dump(saat, case, data)
    labels = data["labels"][data["index"]]
    batch = tuple(map(tf.constant, (data["images"], labels, data["index"])))
    train_step = tf.function(saat.train_step, jit_compile=case.xla)

    def step() -> dict:
        saat.reset_metrics()
        losses = {name: float(value) for name, value in train_step(batch).items()}
        return {**losses, "rss_mb": psutil.Process().memory_info().rss / 2**20}

    serve(step, facts)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Case)))
