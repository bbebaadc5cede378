"""Data: the list format, embedded scenes, and the pipeline that turns either into batches."""

from saat_tf.data.decode import check_images
from saat_tf.data.list_format import DataError, ImageList, ImageLists, read_image_lists
from saat_tf.data.pipeline import (
    RetrievalData,
    Split,
    array_split,
    evaluation_batches,
    file_split,
    training_batches,
)
from saat_tf.data.scenes import CLASS_NAMES, Scenes, draw_scenes

__all__ = [
    "CLASS_NAMES",
    "DataError",
    "ImageList",
    "ImageLists",
    "RetrievalData",
    "Scenes",
    "Split",
    "array_split",
    "check_images",
    "draw_scenes",
    "evaluation_batches",
    "file_split",
    "read_image_lists",
    "training_batches",
]
