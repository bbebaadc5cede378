"""Data: the list format and its inspection, TFRecord files, embedded scenes, and the pipeline that makes batches."""

from saat_tf.data.decode import UnreadableImage, check_images, decode_image, drop_images
from saat_tf.data.disk_cache import cached_file_split
from saat_tf.data.inspection import Inspection, inspect_folder
from saat_tf.data.list_format import DataError, ImageList, ImageLists, read_image_lists
from saat_tf.data.pipeline import (
    RetrievalData,
    Split,
    array_split,
    evaluation_batches,
    file_split,
    training_batches,
)
from saat_tf.data.records import record_split, write_records
from saat_tf.data.scenes import CLASS_NAMES, Scenes, draw_scenes

__all__ = [
    "CLASS_NAMES",
    "DataError",
    "ImageList",
    "ImageLists",
    "Inspection",
    "RetrievalData",
    "Scenes",
    "Split",
    "UnreadableImage",
    "array_split",
    "cached_file_split",
    "check_images",
    "decode_image",
    "draw_scenes",
    "drop_images",
    "evaluation_batches",
    "file_split",
    "inspect_folder",
    "read_image_lists",
    "record_split",
    "training_batches",
    "write_records",
]
