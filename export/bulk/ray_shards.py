"""Encode the same shards with Ray Data, on as many machines as a Ray cluster has."""

import json
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from export.bulk.encoded_folder import EncodedShard
from export.bulk.shards import ShardEncoder, ShardTask


class RayShardEncoder:
    """A `ShardEncoder` for rows of Ray Data: file names and codes travel as bytes.

    Args:
        model: folder of a SavedModel.
        batch_size: images that the model gets at a time.
    """

    def __init__(self, model: str, batch_size: int) -> None:
        self.encoder = ShardEncoder(Path(model), batch_size)

    def __call__(self, row: dict) -> dict:
        """Encode a row."""
        paths = [os.fsdecode(path) for path in row["paths"]]
        shard = self.encoder(ShardTask(int(row["number"]), paths))
        return {
            "number": shard.number,
            "codes": shard.codes.tobytes(),
            "code_bytes": shard.codes.shape[1],
            "faults": json.dumps(shard.faults),
        }


def encode_by_ray(
    tasks: Iterable[ShardTask], model: Path, batch_size: int, workers: int, address: str
) -> Iterator[EncodedShard]:
    """Encode shards by `workers` actors of a Ray cluster, one core each; yield them as they are completed.

    Every machine needs saat-tf, and the model and the images under the same paths. Only the caller writes shards.

    Args:
        tasks: what to encode.
        model: folder of a SavedModel.
        batch_size: images that the model gets at a time.
        workers: actors.
        address: of a running cluster, or "local" to start one here that ends with this process.

    Raises:
        ImportError: Ray is not installed.
        ConnectionError: there is no cluster at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would send usage statistics
    try:
        import ray
    except ImportError as error:
        raise ImportError("--ray needs Ray. Install it: pip install 'saat-tf[ray]'.") from error
    local = {"num_cpus": workers, "include_dashboard": False} if address == "local" else {}
    ray.init(address, logging_level=logging.WARNING, log_to_driver=False, **local)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False  # the caller shows progress
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        rows = [{"number": task.number, "paths": [os.fsencode(path) for path in task.paths]} for task in tasks]
        encoded = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            RayShardEncoder,
            fn_constructor_args=(str(model), batch_size),
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=1,
        )
        for row in encoded.iter_rows():
            codes = np.frombuffer(row["codes"], np.uint8).reshape(-1, row["code_bytes"])
            faults = [(place, fault) for place, fault in json.loads(row["faults"])]
            yield EncodedShard(int(row["number"]), codes, faults)
    finally:
        ray.shutdown()
