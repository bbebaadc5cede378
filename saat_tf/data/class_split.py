"""A split of images of which each has one class."""

import dataclasses

import numpy as np

from saat_tf.data.class_folders import ClassifiedImages, reader_of
from saat_tf.data.pipeline import Split, contents_decoder, indices


@dataclasses.dataclass(frozen=True)
class ClassSplit(Split):
    """Items of one class each: `labels` are class numbers, int32 (N,), and a batch has those of its items, (B,).

    Raises:
        ValueError: the labels are not that.
    """

    def __post_init__(self) -> None:
        if self.labels.ndim != 1 or self.labels.dtype != np.int32 or (self.labels < 0).any():
            raise ValueError(
                f"`labels` must be class numbers, int32 (N,). Received: {self.labels.dtype} {self.labels.shape}."
            )

    @classmethod
    def of_rows(cls, split: Split) -> "ClassSplit":
        """Return a split whose label rows have a single 1 each as one of class numbers."""
        fields = {field.name: getattr(split, field.name) for field in dataclasses.fields(split)}
        return cls(**{**fields, "labels": split.labels.argmax(axis=1).astype(np.int32)})


def class_split(
    images: ClassifiedImages,
    image_size: int,
    resize_size: int,
    *,
    cache: bool = False,
    apply_orientation: bool = True,
) -> ClassSplit:
    """Make a split of classified images, decoded by `decode_image`."""
    decode = contents_decoder(image_size, resize_size, apply_orientation)
    return ClassSplit(images.classes, indices, reader_of(images.files), decode, cache)
