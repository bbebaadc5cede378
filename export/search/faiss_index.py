"""The index of one machine: FAISS, in a folder that one process may write while others read."""

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from export.search.generations import clean, write_manifest
from export.search.items import Block, Hit, check_queries
from export.search.kinds import Kind
from export.search.segment import Segment, merged, write_faiss, write_items
from export.search.snapshot import Snapshot, newest_snapshot, open_snapshot
from saat_tf.durable import file_checksum, only_writer, publish, sync

# A segment of which more than this is removed is written anew without it.
REMOVED_SHARE = 1 / 4


class FaissIndex:
    """Items on disk, searched by FAISS; a `SearchIndex`.

    An index is a folder of segments, which are never changed, and of small manifests, of which the newest says what is
    in it. An object reads the generation that it was opened with or has written itself; `refresh` goes to the newest.
    Adding many items at a time is cheaper than adding them one by one.

    Args:
        folder: of the index, as `create` left it.
        generation: the number of an older generation to search.

    Raises:
        FileNotFoundError: there is no index.
        IndexDamagedError: files of it are gone or changed; the message says how to go back to the last good generation.
    """

    def __init__(self, folder: Path, generation: int | None = None) -> None:
        self.folder = Path(folder)
        self._snapshot = newest_snapshot(self.folder) if generation is None else open_snapshot(self.folder, generation)
        manifest = self._snapshot.manifest
        self.code_length, self.probe_codes = manifest["code_length"], manifest["probe_codes"]
        self.kind = Kind(**manifest["kind"])

    @classmethod
    def create(
        cls, folder: Path, blocks: Iterable[Block], *, code_length: int, probe_codes: str = "", kind: Kind | None = None
    ) -> "FaissIndex":
        """Make an index; the folder appears under its name when it is whole.

        Args:
            folder: does not exist.
            blocks: the first items.
            code_length: K, a multiple of 8.
            probe_codes: what the model of the codes answers to drawn images (`export.encoder.file_checksum`).
            kind: flat by default.

        Raises:
            FileExistsError: the folder exists.
            ValueError: codes of another length, or an id twice.
        """
        folder = Path(folder)
        if folder.exists():
            raise FileExistsError(f"{folder} exists, and no index is overwritten. Add to it, or choose another folder.")
        if code_length <= 0 or code_length % 8:
            raise ValueError(f"`code_length` must be a positive multiple of 8. Received: {code_length}.")
        about = {"code_length": code_length, "probe_codes": probe_codes, "kind": dataclasses.asdict(kind or Kind())}
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".writing-{folder.name}-", dir=folder.parent) as temporary:
            whole = Path(temporary) / folder.name
            whole.mkdir()
            write_manifest(whole, 1, {**about, "segments": [], "files": {}})
            cls(whole).add(blocks)
            shutil.move(whole, folder)
            sync(folder.parent)
        return cls(folder)

    def __len__(self) -> int:
        return len(self._snapshot)

    @property
    def generation(self) -> int:
        """The number of the generation that is read."""
        return self._snapshot.number

    @property
    def segments(self) -> list[Segment]:
        """What the generation consists of."""
        return list(self._snapshot.segments.values())

    def refresh(self) -> None:
        """Read the newest generation from now on."""
        self._snapshot = newest_snapshot(self.folder, self._snapshot)

    def search(self, codes: np.ndarray, top_k: int) -> list[list[Hit]]:
        """Find the nearest items of each query.

        The kind flat finds all of them; IVF and HNSW miss a part. Equal distances come in the order in which the items
        were added.

        Args:
            codes: uint8 (Q, K / 8), packed.
            top_k: how many, at least 1.

        Returns:
            For each query at most `top_k` hits, nearest first.

        Raises:
            ValueError: codes of another length.
        """
        check_queries(codes, top_k, self.code_length)
        return self._snapshot.search(codes, top_k)

    def add(self, blocks: Iterable[Block]) -> int:
        """Add items and return how many: all of them, or none when it fails. When it returns they are on the disk.

        A segment is merged with earlier ones that are less than twice as large, so that there are never more than about
        log2(items), and an item is written about as often.

        Raises:
            ValueError: codes of another length, or an id that is there already.
            BlockingIOError: another process writes.
        """
        with self._writing() as snapshot:
            new = (_without_known(snapshot, block) for block in blocks)
            name, merging, counts = f"segment-{snapshot.number + 1:08}", [], []

            def write(path: Path) -> None:
                counts.append(write_items(path, new, self.code_length))
                merging.extend(_to_merge(snapshot, counts[0]))
                if merging:
                    part = path.rename(f"{path}-new")
                    old = [snapshot.segments[segment] for segment in merging]
                    blocks = merged([*old, Segment(part, counts[0], self.code_length)])
                    counts.append(write_items(path, blocks, self.code_length))
                    shutil.rmtree(part)
                write_faiss(path, counts[-1], self.code_length, self.kind)

            publish(self.folder / name, write)
            if counts[0]:
                kept = [entry for entry in snapshot.manifest["segments"] if entry["name"] not in merging]
                self._publish(snapshot, [*kept, {"name": name, "count": counts[-1], "removed": None}])
            return counts[0]

    def remove(self, ids: Iterable[str]) -> int:
        """Remove items and return how many: all of them, or none when it fails. When it returns they are gone.

        Raises:
            ValueError: an id is not in the index.
            BlockingIOError: another process writes.
        """
        ids = list(dict.fromkeys(ids))
        with self._writing() as snapshot:
            found = {name: segment.rows_of(ids) for name, segment in snapshot.segments.items()}
            missing = [x for x in ids if not any(x in rows for rows in found.values())]
            if missing:
                raise ValueError(
                    f"{len(missing)} of {len(ids)} ids are not in the index, the first {missing[0]!r}. Nothing was "
                    "removed."
                )
            entries = [
                self._with_removed(snapshot, entry, list(found[entry["name"]].values()))
                for entry in snapshot.manifest["segments"]
            ]
            if ids:
                self._publish(snapshot, [entry for entry in entries if entry["count"]])
            return len(ids)

    def _with_removed(self, snapshot: Snapshot, entry: dict, rows: list[int]) -> dict:
        """Return what the next manifest says of a segment of which `rows` are removed."""
        if not rows:
            return entry
        segment = snapshot.segments[entry["name"]]
        removed = np.union1d(np.flatnonzero(segment.removed), rows).astype(np.int64)
        tag = f"{snapshot.number + 1:08}-{entry['name'].split('-')[1]}"
        if len(removed) <= REMOVED_SHARE * segment.count:
            name = f"removed-{tag}.bin"
            publish(self.folder / name, lambda path: path.write_bytes(removed.tobytes()))
            return {**entry, "removed": name}
        left = Segment(segment.folder, segment.count, self.code_length, removed)

        def write(path: Path) -> None:
            write_items(path, left.blocks(), self.code_length)
            write_faiss(path, len(left), self.code_length, self.kind)

        publish(self.folder / f"segment-{tag}", write)
        return {"name": f"segment-{tag}", "count": len(left), "removed": None}

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Snapshot]:
        """Be the only writer, of the newest generation."""
        with only_writer(self.folder):
            self.refresh()
            clean(self.folder)
            yield self._snapshot

    def _publish(self, snapshot: Snapshot, entries: list[dict]) -> None:
        """Make the next generation of these segments, and read it."""
        names = [entry["removed"] for entry in entries if entry["removed"]]
        names += [
            f"{entry['name']}/{file.name}" for entry in entries for file in (self.folder / entry["name"]).iterdir()
        ]
        known = snapshot.manifest["files"]
        files = {name: known.get(name) or file_checksum(self.folder / name) for name in sorted(names)}
        write_manifest(self.folder, snapshot.number + 1, {**snapshot.manifest, "segments": entries, "files": files})
        self._snapshot = open_snapshot(self.folder, snapshot.number + 1, files)
        clean(self.folder)


def _to_merge(snapshot: Snapshot, count: int) -> list[str]:
    """Return the names of the last segments that are merged with `count` new items."""
    names = []
    for name, segment in reversed(snapshot.segments.items()):
        if not count or len(segment) >= 2 * count:
            break
        names.insert(0, name)
        count += len(segment)
    return names


def _without_known(snapshot: Snapshot, block: Block) -> Block:
    """Return `block`; raise `ValueError` when an id of it is in the index."""
    for segment in snapshot.segments.values():
        for known in segment.rows_of(block.ids):
            raise ValueError(f"The id {known!r} is in the index already. Remove it first to replace it.")
    return block
