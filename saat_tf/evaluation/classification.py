"""Clean and robust accuracy of a classifier."""

import dataclasses
from pathlib import Path

import numpy as np
import tensorflow as tf

from saat_tf.attacks import PGD
from saat_tf.attacks.any_batch import AnyBatch
from saat_tf.data import evaluation_batches
from saat_tf.data.class_split import ClassSplit
from saat_tf.files import write_whole
from saat_tf.jit import compiled_for_whole_batches
from saat_tf.metrics.bootstrap import bootstrap_interval
from saat_tf.models import Classifier
from saat_tf.progress import Track, silent


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Predictions of a classifier for images and their adversarial images.

    Args:
        classes: int32 (N,), the images' class numbers.
        clean: int32 (N,), predicted class of each image.
        attacked: int32 (R, N), predicted class of the adversarial image of each restart of the attack.
    """

    classes: np.ndarray
    clean: np.ndarray
    attacked: np.ndarray

    def accuracies(self) -> dict[str, dict]:
        """Return clean and robust accuracy, each with its bootstrap interval of 95%.

        An image counts as robust where no restart finds an adversarial image of another predicted class than its own.
        """
        hits = {"clean": self.clean == self.classes, "robust": (self.attacked == self.classes).all(axis=0)}
        return {
            name: {"value": float(hit.mean()), "interval": list(bootstrap_interval(hit))} for name, hit in hits.items()
        }

    def save(self, path: Path) -> None:
        """Write the arrays to an `.npz` file, replaced as a whole."""

        def write(file: Path) -> None:
            with open(file, "wb") as stream:
                np.savez(stream, **dataclasses.asdict(self))

        write_whole(path, write)


def attacked_predictions(
    classifier: Classifier,
    split: ClassSplit,
    pgd: PGD,
    *,
    restarts: int = 1,
    batch_size: int = 128,
    seed: int = 0,
    jit_compile: bool = False,
    track: Track = silent,
) -> Predictions:
    """Classify the images of a split and their adversarial images by an attack that ascends the cross-entropy.

    The random start depends on `seed`, restart and batch, so a figure is repeated exactly with the same `batch_size`.
    Images are perturbed and classified by `classifier.for_inference()`.

    Args:
        classifier: the model; nothing of it changes.
        split: the images.
        pgd: the attack: its objective is `alignment`, which with log-probabilities and minus the label is the
            cross-entropy over the number of classes.
        restarts: how often each image is attacked, at least 1.
        batch_size: images at a time.
        seed: of the random starts.
        jit_compile: whether XLA compiles the attack.
        track: shows progress.

    Raises:
        ValueError: `restarts` is below 1, or an adversarial image left the attack's ball.
    """
    if restarts < 1:
        raise ValueError(f"`restarts` must be at least 1. Received: {restarts}.")
    model = classifier.for_inference()

    def relax(x: tf.Tensor, alpha: float | tf.Tensor) -> tf.Tensor:
        return model(x, alpha=alpha)

    predict = AnyBatch(lambda images: tf.argmax(model(images), axis=1, output_type=tf.int32))
    attack = (compiled_for_whole_batches if jit_compile else AnyBatch)(
        lambda rows, start: pgd(relax, rows[0], -tf.one_hot(rows[1], model.num_classes), start)
    )
    classes, clean, attacked = [], [], []
    batches = evaluation_batches(split, batch_size)
    for number, (images, labels, _) in enumerate(track(batches, -(-len(split) // batch_size), "Attacking")):
        found = []
        for restart in range(restarts):
            perturbed = attack((images, labels), tf.constant([seed, number * restarts + restart]))
            pgd.threat_model.verify(perturbed.numpy(), images.numpy())
            found.append(predict(perturbed).numpy())
        classes.append(labels.numpy())
        clean.append(predict(images).numpy())
        attacked.append(np.stack(found))
    return Predictions(np.concatenate(classes), np.concatenate(clean), np.concatenate(attacked, axis=1))
