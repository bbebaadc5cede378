"""Base of the builders for TensorFlow Datasets."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from saat_tf.data.decoding.tolerant_decode import decoding_fault
from saat_tf.data.labeled_images import LabeledImages, read_contents
from saat_tf.text_lists import DataError


class ImageBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """A data set of labeled images, all in one split named `images`; `saat_tf.data.splits` divides it.

    Examples have `image` as it was encoded, `labels` (C,) of 0/1 as uint8, and `id`. The names of the label columns and
    of images that were left out are in `info.metadata` as `class_names` and `skipped`.
    """

    VERSION = tfds.core.Version("1.0.0")

    def read(self, manual_dir: Path) -> LabeledImages:
        """Read what the user has fetched; each data set says how."""
        raise NotImplementedError

    def num_classes(self) -> int:
        """Return the number of label columns."""
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=type(self).__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(encoding_format="jpeg"),
                    "labels": tfds.features.Tensor(shape=(self.num_classes(),), dtype=np.uint8),
                    "id": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "labels"),
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        images = self.read(Path(dl_manager.manual_dir))
        self.info.metadata.update(class_names=list(images.class_names), skipped=list(images.skipped))
        return {"images": self._generate_examples(images)}

    def _generate_examples(self, images: LabeledImages) -> Iterator[tuple[str, dict]]:
        """Yield the examples, each image decoded once: what cannot be read is found here and not in a training run."""
        for name, file, labels in zip(images.ids, images.files, images.labels, strict=True):
            contents = read_contents(file)
            if fault := decoding_fault(contents):
                raise DataError(f"cannot read {file}: {fault}. Replace it.")
            yield name, {"image": io.BytesIO(contents), "labels": labels, "id": name}
