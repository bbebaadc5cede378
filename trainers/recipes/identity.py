"""Identity of a run: the options and data that must be the same when it resumes."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping

import numpy as np

from saat_tf.data import RetrievalData
from saat_tf.evaluation import versions
from trainers.recipes.file_data import FileData
from trainers.recipes.run_options import RunOptions

# Options that may differ between a run and its continuation: they say how it is run and change nothing of what comes
# out.
RUN_OPTIONS = ("run_dir", "resume", "allow_changes", "worker_timeout", "checkpoint_every", "profile", "export_only")


def options(recipe: RunOptions) -> dict:
    """Return the options of a run as JSON knows them."""
    return json.loads(json.dumps(dataclasses.asdict(recipe), default=str))


def changed_options(before: Mapping, now: Mapping) -> Iterator[str]:
    """Name the options that a run began with and that are others now, with both values."""
    for name in sorted({*before, *now} - {*RUN_OPTIONS}):
        if before.get(name) != now.get(name):
            yield f"--{name.replace('_', '-')}: {before.get(name)} -> {now.get(name)}"


def identity(data: RetrievalData) -> dict[str, str | None]:
    """Return the identity of data and software that a checkpoint belongs to."""
    digest = hashlib.sha256()
    for split in (data.train, data.database, data.test):
        digest.update(f"{split.labels.shape}".encode())
        digest.update(np.ascontiguousarray(split.labels).tobytes())
    if isinstance(data, FileData):
        for images in (data.lists.train, data.lists.database, data.lists.test):
            digest.update("\n".join(path.name for path in images.paths).encode())
    return {"data": digest.hexdigest(), **versions()}
