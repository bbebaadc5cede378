"""Data: the paper's data sets, the list format and its inspection, TFRecord files, scenes, and batches of all these."""

from saat_tf.data.batches import evaluation_batches, training_batches, training_epochs
from saat_tf.data.decoding.check import UnreadableImage, check_images, drop_images
from saat_tf.data.decoding.decode import decode_image
from saat_tf.data.disk_cache import cached_file_split
from saat_tf.data.labeled_images import LabeledImages
from saat_tf.data.list_format import (
    ImageList,
    ImageLists,
    keep_columns,
    read_class_names,
    read_image_lists,
    write_image_lists,
)
from saat_tf.data.pipeline import RetrievalData, Split, array_split, file_split
from saat_tf.data.records import record_split, write_records
from saat_tf.data.replay import replayed
from saat_tf.data.scenes import CLASS_NAMES, Scenes, draw_scene_labels, draw_scenes, scene_class_names
from saat_tf.data.splits import Protocol, make_split
from saat_tf.data.subset import spread_indices, subset
from saat_tf.data.tfds.coco import read_coco
from saat_tf.data.validation.inspection import Inspection, inspect_folder
from saat_tf.text_lists import DataError

__all__ = [
    "CLASS_NAMES",
    "DataError",
    "ImageList",
    "ImageLists",
    "Inspection",
    "LabeledImages",
    "Protocol",
    "RetrievalData",
    "Scenes",
    "Split",
    "UnreadableImage",
    "array_split",
    "cached_file_split",
    "check_images",
    "decode_image",
    "draw_scene_labels",
    "draw_scenes",
    "drop_images",
    "evaluation_batches",
    "file_split",
    "inspect_folder",
    "keep_columns",
    "make_split",
    "read_class_names",
    "read_coco",
    "read_image_lists",
    "record_split",
    "replayed",
    "scene_class_names",
    "spread_indices",
    "subset",
    "training_batches",
    "training_epochs",
    "write_image_lists",
    "write_records",
]
