"""Computations of the page: a search, and the same search under attack, for each encoder of a run."""

import dataclasses

import numpy as np
import tensorflow as tf

from saat_tf.attacks import build_attack, draw_target_labels
from saat_tf.data import RetrievalData
from saat_tf.data.decoding.header import FORMATS, fault_of
from saat_tf.data.decoding.tolerant_decode import decode_batch
from saat_tf.evaluation import EncodedData, encode_data, knowledge
from saat_tf.hamming import hamming_distances, rank
from saat_tf.models import HashingModel
from saat_tf.progress import Track, silent
from saat_tf.threat_model import ThreatModel

SHOWN_RESULTS = 6
NEED_NO_LABELS = frozenset({"hag"})
SEED = 0


@dataclasses.dataclass(frozen=True)
class Subject:
    """An image to search with.

    Args:
        image: float32 (S, S, 3) in [0, 1].
        labels: float32 (C,) of 0/1; None where they are not known.
        title: what to call it.
    """

    image: np.ndarray
    labels: np.ndarray | None
    title: str


@dataclasses.dataclass(frozen=True)
class Attacked:
    """Attack on an image, with its settings.

    Args:
        attack: a name in `saat_tf.attacks.ATTACKS`.
        epsilon_255: radius in units of 1/255.
        num_steps: steps of the attack.
    """

    attack: str
    epsilon_255: float
    num_steps: int


@dataclasses.dataclass(frozen=True)
class Found:
    """A database image that was found.

    Args:
        index: which one.
        distance: in how many bits its code differs.
        right: whether it shares a label with the image searched with; None where that one's labels are not known.
        wanted: whether it shares a label with the target of a targeted attack.
    """

    index: int
    distance: int
    right: bool | None
    wanted: bool = False


@dataclasses.dataclass(frozen=True)
class Search:
    """A code, and the nearest database images, the nearest first.

    Args:
        image: float32 (S, S, 3), what was searched with.
        bits: bool (K,), its code.
        found: the nearest images.
    """

    image: np.ndarray
    bits: np.ndarray
    found: list[Found]


class Engine:
    """One encoder with the codes of a database.

    Args:
        title: what to call it.
        model: the encoder.
        data: what it searches, and what an attacker knows.
        batch_size: images at a time while the codes are made.
        track: shows progress.
    """

    def __init__(
        self, title: str, model: HashingModel, data: RetrievalData, *, batch_size: int = 128, track: Track = silent
    ) -> None:
        self.title = title
        self.model = model
        self.data = data
        self.encoded: EncodedData = encode_data(model, data, batch_size, track)
        self.known = knowledge(self.encoded, data)
        # Attacks run eagerly, since a graph of one radius and number of steps serves no other; this part is the same.
        self._relax = tf.function(
            lambda images, alpha: model(images, alpha=alpha, training=False), reduce_retracing=True
        )

    def search(self, image: np.ndarray, labels: np.ndarray | None, target: np.ndarray | None = None) -> Search:
        """Find the nearest database images of `image`; `labels` (C,), where known, say which are right."""
        code = self.model.encode(image[None]).numpy()
        distances = hamming_distances(code, self.encoded.database)
        found = []
        for i in rank(distances, SHOWN_RESULTS)[0]:
            of_item = self.data.database.labels[i]
            right = None if labels is None else bool(of_item @ labels > 0)
            found.append(Found(int(i), int(distances[0, i]), right, target is not None and bool(of_item @ target > 0)))
        return Search(image, np.unpackbits(code[0]).astype(bool), found)

    def attack(self, subject: Subject, how: Attacked, target: np.ndarray | None) -> np.ndarray:
        """Perturb an image against this encoder, knowing all of it; return float32 (S, S, 3)."""
        ball = ThreatModel.from_255(how.epsilon_255)
        if how.epsilon_255 == 0:
            return subject.image
        attack = build_attack(how.attack, ball.epsilon, self.known, num_steps=how.num_steps)
        labels = subject.labels if target is None else target
        if labels is None:
            labels = np.zeros(self.data.database.labels.shape[1], np.float32)
        images = tf.constant(subject.image[None])
        returned = attack(self._relaxed, images, tf.constant(labels[None]), tf.constant([SEED, 0])).numpy()
        ball.verify(returned, images.numpy())
        return returned[0]

    def _relaxed(self, images: tf.Tensor, alpha: float | tf.Tensor, training: bool) -> tf.Tensor:
        return self._relax(images, tf.convert_to_tensor(alpha, tf.float32))


def target_of(subject: Subject, how: Attacked, data: RetrievalData) -> np.ndarray | None:
    """Check that the attack can be made, and return the labels (C,) that it drives towards, if it is a targeted one.

    Raises:
        ValueError: the attack needs the labels of the image, and they are not known.
    """
    if subject.labels is None and how.attack not in NEED_NO_LABELS:
        raise ValueError(
            "This attack must know what the picture shows. Say so under 'What does it show?', or choose HAG, "
            "which needs no labels."
        )
    if subject.labels is None or not is_targeted(how.attack):
        return None
    return draw_target_labels(subject.labels[None], data.database.labels, seed=SEED)[0]


def is_targeted(attack: str) -> bool:
    """Return whether an attack drives towards the labels of others."""
    return attack in {"p2p", "dhta", "tha", "pros-gan"} or attack.endswith("-targeted")


def read_upload(contents: bytes, image_size: int, resize_size: int, apply_orientation: bool = True) -> np.ndarray:
    """Decode the bytes of an image file, as a request to an exported encoder is decoded: float32 (S, S, 3) in [0, 1].

    Raises:
        ValueError: it cannot be read, or its header declares a size that is refused.
    """
    images, ok = decode_batch(tf.constant([contents]), image_size, resize_size, apply_orientation=apply_orientation)
    if not ok.numpy()[0]:
        raise ValueError(
            f"This file cannot be read: {fault_of(contents)}. It must be a whole image, one of {', '.join(FORMATS)}."
        )
    return images.numpy()[0]
