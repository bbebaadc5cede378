"""The same index on Milvus, for more items than fit one machine: embedded in a file, or on a cluster."""

import collections
import contextlib
import hashlib
import itertools
import json
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from export.search.items import Block, Hit, check_queries, find_within

# Requests and answers stay far below the 64 MB of a message.
ROWS = 1000
MAX_TOP_K = 16_384  # Milvus' own limit
MAX_ID = 1024


class MilvusIndex:
    """Items in a Milvus collection; a `SearchIndex`.

    Codes are a BINARY_VECTOR compared by HAMMING, metadata is JSON that other clients can filter by. The key of an item
    is a hash of its id: ids are file names, and Milvus would read those with quotes as part of an expression. Items are
    added a block of 1,000 at a time; after an error, those of earlier blocks stay. Equal distances come in the order of
    ids, and which of the items at the last distance are found is Milvus' choice.

    Args:
        uri: a file that ends in .db, for Milvus Lite, or the http:// address of a server.
        collection: its name.

    Raises:
        ImportError: pymilvus is not installed.
        FileNotFoundError: there is no such file or collection.
        ValueError: the collection is not one of `create`.
        RuntimeError: Milvus reports an error.
    """

    def __init__(self, uri: str, collection: str) -> None:
        self.uri, self.collection = uri, collection
        if "://" not in uri and not Path(uri).is_file():
            raise FileNotFoundError(f"{uri}: no such file. Build the index first: python -m export.index build.")
        self._client = _connect(uri)
        with _told():
            if not self._client.has_collection(collection):
                raise FileNotFoundError(
                    f"{uri} has no collection {collection}. Build it: python -m export.index build."
                )
            description = self._client.describe_collection(collection)["description"]
        try:
            about = json.loads(description)
            self.code_length, self.probe_codes = about["code_length"], about["probe_codes"]
            self.roots = about.get("roots", [])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{uri}: the collection {collection} was not made by export.index. Name another."
            ) from error

    @classmethod
    def create(
        cls,
        uri: str,
        collection: str,
        blocks: Iterable[Block],
        *,
        code_length: int,
        probe_codes: str = "",
        root: str = "",
    ) -> "MilvusIndex":
        """Make a collection and add the first items. If that fails, nothing remains of it.

        Args:
            uri: a file that ends in .db, or the http:// address of a server.
            collection: does not exist.
            blocks: the first items.
            code_length: K, a multiple of 8.
            probe_codes: fingerprint of the model of the codes (`export.encoder.fingerprint`).
            root: folder of the items' images; a page shows no picture from elsewhere.

        Raises:
            FileExistsError: the collection exists.
            ValueError: codes of another length, or an id twice.
            RuntimeError: Milvus reports an error.
        """
        new_file = "://" not in uri and not os.path.lexists(uri)
        client = _connect(uri)
        from pymilvus import DataType

        with _told():
            if client.has_collection(collection):
                raise FileExistsError(f"{uri}: the collection {collection} exists. Add to it, or name another.")
            about = json.dumps({"code_length": code_length, "probe_codes": probe_codes, "roots": [root]})
            schema = client.create_schema(auto_id=False, enable_dynamic_field=False, description=about)
            schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=32)
            schema.add_field("id", DataType.VARCHAR, max_length=MAX_ID)
            schema.add_field("code", DataType.BINARY_VECTOR, dim=code_length)
            schema.add_field("metadata", DataType.JSON)
            indexed = client.prepare_index_params()
            indexed.add_index("code", index_type="BIN_FLAT", metric_type="HAMMING")
            # Strong: what was added or removed is seen by the next search.
            client.create_collection(collection, schema=schema, index_params=indexed, consistency_level="Strong")
        try:
            index = cls(uri, collection)
            index.add(blocks)
            return index
        except BaseException:
            with _told():
                client.drop_collection(collection)
                client.close()
            if new_file:
                Path(uri).unlink(missing_ok=True)
            raise

    def __len__(self) -> int:
        with _told():
            (counted,) = self._client.query(self.collection, filter="", output_fields=["count(*)"])
        return counted["count(*)"]

    def add(self, blocks: Iterable[Block], *, root: str = "") -> int:
        """Add items and return how many. Milvus stores the `root` of the first items alone: pages show no others.

        Raises:
            ValueError: codes of another length, an id that is there already, or one that Milvus cannot store.
            RuntimeError: Milvus reports an error.
        """
        added = 0
        for block in itertools.chain.from_iterable(map(_parts, blocks)):
            block.check_length(self.code_length)
            for item_id, metadata in zip(block.ids, block.metadata, strict=True):
                _check_text(item_id, metadata)
            keys = [_key(item_id) for item_id in block.ids]
            known = self._there(keys) | {key for key, count in collections.Counter(keys).items() if count > 1}
            if known:
                twice = next(item_id for item_id, key in zip(block.ids, keys, strict=True) if key in known)
                raise ValueError(
                    f"The id {twice!r} is in the index already, or given twice. Remove it first to replace it. "
                    f"{added} items were added before it."
                )
            rows = [
                {"key": key, "id": item_id, "code": code.tobytes(), "metadata": metadata}
                for key, item_id, code, metadata in zip(keys, block.ids, block.codes, block.metadata, strict=True)
            ]
            with _told():
                added += self._client.insert(self.collection, rows)["insert_count"] if rows else 0
        return added

    def remove(self, ids: Iterable[str]) -> int:
        """Remove items and return how many; none when one of them is not there.

        Raises:
            ValueError: an id is not in the index.
            RuntimeError: Milvus reports an error.
        """
        keys = {_key(item_id): item_id for item_id in ids}
        there = self._there(list(keys))
        missing = [item_id for key, item_id in keys.items() if key not in there]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(keys)} ids are not in the index, the first {missing[0]!r}. Nothing was "
                "removed."
            )
        for part in _chunks(list(keys)):
            with _told():
                self._client.delete(self.collection, ids=part)
        return len(keys)

    def search(self, codes: np.ndarray, top_k: int) -> list[list[Hit]]:
        """Find the nearest items of each query: BIN_FLAT compares with all of them.

        Args:
            codes: uint8 (Q, K / 8), packed.
            top_k: how many, in [1, 16384].

        Returns:
            For each query at most `top_k` hits, nearest first.

        Raises:
            ValueError: codes of another length, or a `top_k` beyond Milvus' limit.
            RuntimeError: Milvus reports an error.
        """
        top_k = check_queries(codes, top_k, self.code_length)
        if top_k > MAX_TOP_K:
            raise ValueError(f"Milvus finds at most {MAX_TOP_K} items a query. Received: {top_k}.")
        results = []
        for part in _chunks([code.tobytes() for code in codes], max(1, 10 * ROWS // top_k)):
            with _told():
                found = self._client.search(self.collection, data=part, limit=top_k, output_fields=["id", "metadata"])
            for hits in found:
                ours = [Hit(x["entity"]["id"], int(x["distance"]), dict(x["entity"]["metadata"])) for x in hits]
                results.append(sorted(ours, key=lambda hit: (hit.distance, hit.id)))
        return results

    def search_within(self, codes: np.ndarray, max_distance: int) -> list[list[Hit]]:
        """Find all items of at most `max_distance` differing bits of each query.

        Raises:
            ValueError: codes of another length, or more items than Milvus finds at a time.
            RuntimeError: Milvus reports an error.
        """
        return find_within(self.search, codes, max_distance, MAX_TOP_K)

    def close(self) -> None:
        """Close the connection; Milvus Lite allows one process at a time to open a file."""
        self._client.close()

    def _there(self, keys: Sequence[str]) -> set[str]:
        """Return those of the keys that are in the collection."""
        found = set()
        for part in _chunks(keys):
            with _told():
                found |= {row["key"] for row in self._client.get(self.collection, ids=part, output_fields=["key"])}
        return found


def _connect(uri: str) -> Any:
    try:
        from pymilvus import MilvusClient
    except ImportError as error:
        raise ImportError("--uri needs pymilvus. Install it: pip install 'saat-tf[milvus]'.") from error
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it prints the stack trace of every error that it raises
    with _told():
        return MilvusClient(uri)


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn an error of Milvus into a RuntimeError of one line."""
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except MilvusException as error:
        raise RuntimeError(f"Milvus: {str(error.message or error).splitlines()[0]}") from error


def _key(item_id: str) -> str:
    return hashlib.blake2b(item_id.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _check_text(item_id: str, metadata: dict) -> None:
    try:
        length = len(item_id.encode())
        json.dumps(metadata, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"Milvus stores only valid Unicode. Received the id {item_id!r}: rename the file.") from error
    if length > MAX_ID:
        raise ValueError(f"On Milvus an id has at most {MAX_ID} bytes. Received {length}: {item_id[:80]!r}....")


def _parts(block: Block) -> Iterator[Block]:
    for start in range(0, len(block.ids), ROWS):
        rows = slice(start, start + ROWS)
        yield Block(block.codes[rows], block.ids[rows], block.metadata[rows])


def _chunks(values: Sequence, size: int = ROWS) -> Iterator[Sequence]:
    return (values[start : start + size] for start in range(0, len(values), size))
