"""Measure a SAAT step: `python -m benchmarks.saat_step`.

AlexNet at 224 pixels, batch 32, seven inner steps. The baseline is the same step whose inner loop also computes the
gradients of the weights, as a backward pass over the whole model does; both run in one process, in turns.
"""

import os
import time

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from saat_tf.layers import CodeBank
from saat_tf.losses import DPH
from saat_tf.models import SAAT, HashingModel

BATCH, IMAGE_SIZE, BITS, CLASSES, NUM_STEPS, REPEATS = 32, 224, 32, 80, 7, 5


class SAATWithWeightGradients(SAAT):
    """SAAT whose inner loop backpropagates to the weights too, and throws that away."""

    sink = tf.Variable(0.0, trainable=False)

    def craft(self, images: tf.Tensor, wanted_codes: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
        """Return adversarial images, by the slower way."""
        threat_model, variables = self.threat_model, self.encoder.trainable_variables
        adversarial_images = threat_model.random_start(images, tf.constant([0, 0]))
        for _ in range(self.inner.num_steps):
            with tf.GradientTape() as tape:
                tape.watch(adversarial_images)
                codes = self.encoder(adversarial_images, training=True)
                gain = tf.reduce_mean(codes * wanted_codes, axis=-1)
            gradient, *weight_gradients = tape.gradient(gain, [adversarial_images, *variables])
            # TensorFlow drops what nobody reads, so every weight gradient is read.
            self.sink.assign(tf.add_n([tf.reduce_sum(weight_gradient) for weight_gradient in weight_gradients]))
            moved = adversarial_images + self.inner.step_size * tf.sign(gradient)
            adversarial_images = threat_model.project(moved, images)
        return adversarial_images


def main() -> None:
    """Print images/s of both and their ratio."""
    rng = np.random.default_rng(0)
    labels = (rng.random((BATCH, CLASSES)) < 0.04).astype(np.float32)
    batch = (rng.random((BATCH, IMAGE_SIZE, IMAGE_SIZE, 3), np.float32), labels, np.arange(BATCH))
    steps = {}
    for kind in (SAAT, SAATWithWeightGradients):
        keras.utils.set_random_seed(0)
        saat = kind(
            HashingModel("alexnet", BITS, IMAGE_SIZE), CodeBank.from_labels(labels, BITS), DPH(), num_steps=NUM_STEPS
        )
        saat.compile(optimizer=keras.optimizers.SGD(0.01))
        steps[kind] = tf.function(saat.train_step)
        steps[kind](tuple(map(tf.convert_to_tensor, batch)))
    seconds = {kind: [] for kind in steps}
    for _ in range(REPEATS):
        for kind, step in steps.items():
            started = time.perf_counter()
            step(tuple(map(tf.convert_to_tensor, batch)))
            seconds[kind].append(time.perf_counter() - started)
    ours, baseline = (float(np.median(seconds[kind])) for kind in (SAAT, SAATWithWeightGradients))
    print(f"alexnet, {IMAGE_SIZE} px, batch {BATCH}, {NUM_STEPS} inner steps, {os.cpu_count()} cores, "
          f"oneDNN {os.environ['TF_ENABLE_ONEDNN_OPTS']}, median of {REPEATS} steps")  # fmt: skip
    print(f"pixel gradients alone        {BATCH / ours:5.2f} images/s ({ours:.2f} s a step)")
    print(f"weight gradients as well     {BATCH / baseline:5.2f} images/s ({baseline:.2f} s a step)")
    print(f"ratio                        {baseline / ours:5.2f}")


if __name__ == "__main__":
    main()
