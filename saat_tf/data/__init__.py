"""Data: the paper's data sets, the list format, embedded scenes, and the pipeline that turns them into batches."""

from saat_tf.data.coco import read_coco
from saat_tf.data.decode import check_images
from saat_tf.data.labelled_images import LabelledImages
from saat_tf.data.list_format import (
    DataError,
    ImageList,
    ImageLists,
    keep_columns,
    read_image_lists,
    write_image_lists,
)
from saat_tf.data.pipeline import (
    RetrievalData,
    Split,
    array_split,
    evaluation_batches,
    file_split,
    training_batches,
)
from saat_tf.data.scenes import CLASS_NAMES, Scenes, draw_scenes
from saat_tf.data.splits import Protocol, make_split

__all__ = [
    "CLASS_NAMES",
    "DataError",
    "ImageList",
    "ImageLists",
    "LabelledImages",
    "Protocol",
    "RetrievalData",
    "Scenes",
    "Split",
    "array_split",
    "check_images",
    "draw_scenes",
    "evaluation_batches",
    "file_split",
    "keep_columns",
    "make_split",
    "read_coco",
    "read_image_lists",
    "training_batches",
    "write_image_lists",
]
