"""Build, change and search an index: `python -m export.index build|add|remove|query`."""

import dataclasses
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import rich.console
import tyro

from export.bulk.encoded_folder import read_blocks, read_encoding
from export.bulk.item_lists import read_ids, read_metadata
from export.encoder.fingerprint import check_same_model
from export.search.faiss_index import FaissIndex
from export.search.items import Block, SearchIndex
from export.search.kinds import Kind
from export.search.measure import measured_recall
from export.search.results import QueryResult, result_json, result_page, result_table
from saat_tf.command_line import USAGE_ERROR, ExitCode
from saat_tf.data.decoding.files import read_file
from saat_tf.data.decoding.header import fault_of
from saat_tf.files import write_bytes
from saat_tf.printable import printable


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Place of an index: --index or --uri."""

    index: Path | None = None
    """A folder of this machine, searched by FAISS."""
    uri: str | None = None
    """Milvus: a file that ends in .db, or the http:// of a server."""
    collection: str = "images"
    """Milvus: the collection."""

    def place(self) -> Path | str:
        """Return the folder or the URI, whichever is given."""
        if (self.index is None) == (self.uri is None):
            raise ValueError("Name the index: --index FOLDER, or --uri for Milvus.")
        return self.index if self.index is not None else str(self.uri)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Items(Place):
    """Items to add."""

    encoded: Path
    """Folder that python -m export.encode has written."""
    metadata: Path | None = None
    """Additional metadata: a file with a JSON object a line, each with the "id" of its item."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Build(Items):
    """Make an index of encoded images. Its folder appears when it is complete."""

    kind: tyro.conf.OmitArgPrefixes[Kind] = dataclasses.field(default_factory=Kind)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Add(Items):
    """Add encoded images to an index: all of them or none. When it returns they are on the disk."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Remove(Place):
    """Remove items from an index: all of them or none."""

    ids: tuple[str, ...] = ()
    """Ids of the items, as query shows them."""
    ids_file: Path | None = None
    """File of ids, a JSON string a line, as in ids.jsonl of a shard."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Query(Place):
    """Show the images of an index that are nearest to others."""

    images: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Image files to look for."""
    model: Path
    """The SavedModel whose codes the index contains."""
    top_k: int | None = None
    """Results for each query. Default: 10, or all with --max-distance."""
    max_distance: int | None = None
    """Show all items within this Hamming distance; with --top-k the nearest of them, and the number of the others."""
    json: bool = False
    """Print JSON."""
    page: Path | None = None
    """Write a page with pictures, one HTML file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """Verify the database of an index by reading all of it."""

    index: Path
    """A folder of this machine."""


Command = Build | Add | Remove | Query | Check


def main(command: Command) -> int:
    """Do what `command` says; return the exit code: 0, or 2 where its options or a file are wrong."""
    with ExitCode(RuntimeError) as outcome:
        run: dict[type, Callable[[Any], int]] = {Build: build, Add: add, Remove: remove, Query: query, Check: check}
        return run[type(command)](command)
    return outcome.code


def build(command: Build) -> int:
    """Make an index."""
    place = command.place()
    encoding = read_encoding(command.encoded)
    about: dict[str, Any] = {
        "code_length": encoding.code_length,
        "probe_codes": encoding.probe_codes,
        "root": encoding.root,
    }
    blocks = with_metadata(read_blocks(command.encoded, encoding), command.metadata)
    if isinstance(place, str):
        from export.search.milvus_index import MilvusIndex

        collection = MilvusIndex.create(place, command.collection, blocks, **about)
        print(f"{place}, {command.collection}: {len(collection)} items, {collection.code_length} bits.")
        return 0
    index = FaissIndex.create(place, blocks, kind=command.kind, **about)
    print(f"{place}: {len(index)} items, {index.code_length} bits, {index.kind.name}.")
    measured = measured_recall(index)
    if measured is not None:
        print(f"Of the 10 nearest of its own items it finds {measured:.1%}, compared with the kind flat.")
    return 0


def add(command: Add) -> int:
    """Add to an index."""
    encoding = read_encoding(command.encoded)
    index = open_index(command)
    check_same_model(index.probe_codes, encoding.probe_codes, "codes to add")
    count = index.add(with_metadata(read_blocks(command.encoded, encoding), command.metadata), root=encoding.root)
    print(f"Added {count} items; the index has {len(index)}.")
    return 0


def remove(command: Remove) -> int:
    """Remove from an index."""
    ids = list(command.ids)
    if command.ids_file is not None:
        ids += read_ids(command.ids_file)
    if not ids:
        raise ValueError("Name at least one item by --ids or --ids-file.")
    index = open_index(command)
    count = index.remove(ids)
    print(f"Removed {count} items; the index has {len(index)}.")
    return 0


def query(command: Query) -> int:
    """Search an index."""
    index = open_index(command)
    read, codes = encode_queries(command, index)
    if command.max_distance is None:
        found = index.search(codes, 10 if command.top_k is None else command.top_k)
    else:
        found = index.search_within(codes, command.max_distance)
    results = []
    for path, hits in zip(read, found, strict=True):
        shown = hits if command.top_k is None else hits[: command.top_k]
        if len(shown) < len(hits):
            more = f"{len(hits) - len(shown)} more items lie within the distance; --top-k leaves them out."
            print(f"{printable(os.fspath(path))}: {more}", file=sys.stderr)
        results.append(QueryResult(os.fspath(path), shown))
    if command.json:
        print(result_json(results))
    elif command.page is None:
        rich.console.Console().print(result_table(results, index.code_length))
    if command.page is not None:
        html = result_page(results, index.code_length, index.roots)
        write_bytes(command.page, html)
        print(f"Page: {command.page}", file=sys.stderr)
    return 0 if len(read) == len(command.images) else USAGE_ERROR


def encode_queries(command: Query, index: SearchIndex) -> tuple[list[Path], np.ndarray]:
    """Encode those images that can be read, and name the others on the error output."""
    from export.encoder.exported_encoder import load_encoder
    from export.encoder.fingerprint import fingerprint

    if not command.images:
        raise ValueError("Name at least one image.")
    encoder = load_encoder(command.model)
    check_same_model(index.probe_codes, fingerprint(encoder.encode_bytes), "queries")
    files = [read_file(path) for path in command.images]
    codes, ok = encoder.encode([contents for contents, _ in files])
    for path, (contents, fault), good in zip(command.images, files, ok, strict=True):
        if not good:
            print(f"error: {printable(str(path))}: {fault or fault_of(contents)}", file=sys.stderr)
    return [path for path, good in zip(command.images, ok, strict=True) if good], codes[ok]


def check(command: Check) -> int:
    """Check an index."""
    index = FaissIndex(command.index)
    index.check()
    print(f"{command.index}: {len(index)} items, no damage found.")
    return 0


def open_index(command: Place) -> SearchIndex:
    """Open the index that a command names."""
    place = command.place()
    if isinstance(place, str):
        from export.search.milvus_index import MilvusIndex

        return MilvusIndex(place, command.collection)
    return FaissIndex(place)


def with_metadata(blocks: Iterable[Block], file: Path | None) -> Iterator[Block]:
    """Add the metadata of a file to that of the items.

    Raises:
        ValueError: a line is malformed, or names an unknown item.
    """
    more = read_metadata(file) if file is not None else {}
    for block in blocks:
        metadata = [{**one, **more.pop(item_id, {})} for item_id, one in zip(block.ids, block.metadata, strict=True)]
        yield dataclasses.replace(block, metadata=metadata)
    if more:
        raise ValueError(f"{file}: {len(more)} lines name no encoded image, the first {next(iter(more))!r}.")


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Command)))
