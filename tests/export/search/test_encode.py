"""Bulk encoding: the codes of the encoder, image by image, and nothing that stops it."""

import contextlib
import dataclasses
import io
import json
import os
import shutil
import struct

import numpy as np
import psutil
import pytest
import tensorflow as tf
from PIL import Image

from export import index as index_program
from export.bulk.encoded_folder import read_blocks, read_encoding
from export.bulk.images import list_images
from export.bulk.shards import ShardEncoder, ShardTask, encode_here
from export.encode import EncodeOptions, begin, check_unchanged, main
from export.encoder.exported_encoder import load_encoder
from export.encoder.fingerprint import check_same_model, fingerprint, fingerprint_images
from saat_tf.data.decoding.files import read_file
from saat_tf.data.decoding.header import fault_of

pytestmark = pytest.mark.slow  # its fixtures take most of the time

BITS = 16


def contents_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def shard_encoder(model):
    """What a worker process has, in this one, whose threads are no longer to be chosen."""
    with pytest.MonkeyPatch.context() as patch:
        for kind in ("intra", "inter"):
            patch.setattr(tf.config.threading, f"set_{kind}_op_parallelism_threads", lambda threads: None)
        return ShardEncoder(model / "2", 3)


def options_for(photos, model, out, **others):
    given = {"images": photos.folder, "model": model, "out": out, "workers": 1, "shard_size": 4, "batch_size": 3}
    return EncodeOptions(**{**given, **others})


@pytest.mark.slow
def test_each_image_has_the_code_that_the_encoder_gives_it(photos, model, encoded):
    encoder = tf.saved_model.load(str(model / "2")).signatures["encode_bytes"]
    blocks = list(read_blocks(encoded, read_encoding(encoded)))
    ids = [item_id for block in blocks for item_id in block.ids]
    assert ids == sorted(photos.good, key=os.fsencode)
    for block in blocks:
        for item_id, code, metadata in zip(block.ids, block.codes, block.metadata, strict=True):
            assert metadata == {"path": str(photos.folder / item_id)}
            alone = encoder(image_bytes=tf.constant([(photos.folder / item_id).read_bytes()]))["packed_codes"].numpy()[
                0
            ]
            assert np.bitwise_count(alone ^ code).sum() <= 1  # batches of another size round otherwise
    assert len({bytes(code) for block in blocks for code in block.codes}) > 4
    assert len(blocks) == 3


def test_what_cannot_be_read_is_listed_with_the_reason(photos, encoded):
    lines = (encoded / "skipped.txt").read_text().splitlines()
    assert lines == [f'"{name}": {fault}' for name, fault in sorted(photos.faults.items())]


def test_shards_are_plain_files(encoded):
    assert sorted(path.name for path in encoded.iterdir()) == [
        ".lock", "encoding.json", "shard-000000", "shard-000001", "shard-000002", "skipped.txt"
    ]  # fmt: skip
    shard = encoded / "shard-000001"
    codes = np.load(shard / "codes.npy", allow_pickle=False)
    ids = [json.loads(line) for line in (shard / "ids.jsonl").read_text().splitlines()]
    skipped = [json.loads(line) for line in (shard / "skipped.jsonl").read_text().splitlines()]
    assert codes.dtype == np.uint8 and codes.shape == (len(ids), BITS // 8) and len(ids) + len(skipped) == 4


@pytest.mark.slow
def test_an_interrupted_run_resumes_with_the_missing_shards(
    photos, model, encoded, shard_encoder, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    shutil.copytree(encoded, out)
    shutil.rmtree(out / "shard-000001")
    (out / "skipped.txt").unlink()
    (out / ".writing-7-shard-000001").mkdir()
    with pytest.raises(ValueError, match="1 of 3 shards are missing"):
        list(read_blocks(out, read_encoding(out)))
    asked = []

    def here(tasks, *others):
        tasks = list(tasks)
        asked.extend(task.number for task in tasks)
        return map(shard_encoder, tasks)

    monkeypatch.setattr("export.encode.encode_here", here)
    assert main(options_for(photos, model, out, skip_unreadable=True)) == 0
    assert asked == [1]
    shutil.rmtree(out / ".writing-7-shard-000001")
    assert contents_of(out).keys() == contents_of(encoded).keys()
    assert (out / "skipped.txt").read_bytes() == (encoded / "skipped.txt").read_bytes()
    before = contents_of(out)
    assert main(options_for(photos, model, out, skip_unreadable=True)) == 0
    assert asked == [1] and contents_of(out) == before


@pytest.mark.slow
def test_a_run_with_changed_images_is_refused(photos, model, tmp_path, capsys):
    folder, out = tmp_path / "photos", tmp_path / "out"
    shutil.copytree(photos.folder, folder)
    out.mkdir()
    options = EncodeOptions(images=folder, model=model, out=out, shard_size=4, batch_size=3)
    begin(options, list_images(folder))
    os.utime(folder / "sub/ünï.jpeg", (0, 0))
    before = contents_of(out)
    assert main(options) == 2
    assert "images 9 to 11, or some of them, were changed" in capsys.readouterr().err
    assert contents_of(out) == before | {".lock": b""}


@pytest.mark.parametrize(("change", "message"), [
    ({"batch_size": 2}, "--batch-size was 3, is 2"),
    ({"shard_size": 5}, "--shard-size was 4, is 5"),
    ({"model": "other"}, "the model is another one"),
    ({"num_images": 12}, "there were 11 images in .*, now 12"),
    ({"root": "/elsewhere"}, "now 11 in /elsewhere"),
], ids=str)  # fmt: skip
def test_what_was_begun_otherwise_is_refused(encoded, change, message):
    begun = read_encoding(encoded)
    check_unchanged(encoded, begun, begun)
    with pytest.raises(ValueError, match=f"{message}.*choose another --out"):
        check_unchanged(encoded, begun, dataclasses.replace(begun, **change))


def test_a_list_names_images_relative_to_itself(photos, tmp_path):
    names = ["a.jpg", str(photos.folder / "c.webp"), "", "missing.jpg", "a.jpg"]
    (photos.folder / "list.txt").write_text("\r\n".join(names))
    images = list_images(photos.folder / "list.txt")
    (photos.folder / "list.txt").unlink()
    assert images.ids == ["a.jpg", "c.webp", "missing.jpg"]
    assert images.paths(0, 2) == [str(photos.folder / "a.jpg"), str(photos.folder / "c.webp")]


@pytest.mark.parametrize(("make", "message"), [
    (lambda path: None, "no such file or folder"),
    (lambda path: path.mkdir(), "no file in it has one of the suffixes"),
    (lambda path: path.write_text("\n\n"), "no line names a file"),
], ids=["nothing", "an empty folder", "an empty list"])  # fmt: skip
def test_no_images_are_an_error(tmp_path, make, message):
    make(tmp_path / "source")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        list_images(tmp_path / "source")


NOTHING = {
    "an empty folder": ({}, "no file in it has one of the suffixes .bmp, .gif, .jfif, .jpe, .jpeg, .jpg, .png, .webp."),
    "another kind": ({"a.tif": b"II*\0"}, "1 are images of another kind, such as a.tif. Convert them."),
}


@pytest.mark.parametrize("files, message", NOTHING.values(), ids=NOTHING)
def test_encoding_no_image_is_an_error_and_writes_nothing(tmp_path, model, capsys, files, message):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, contents in files.items():
        (folder / name).write_bytes(contents)
    options = EncodeOptions(images=folder, model=model, out=tmp_path / "out", workers=1)
    assert main(options) == 2
    told = capsys.readouterr()
    assert told.err.startswith(f"error: {folder}: ") and message in told.err and told.out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("skip", [False, True])
def test_where_none_can_be_encoded_that_is_an_error_and_no_index_is_built(
    tmp_path, model, capsys, shard_encoder, monkeypatch, skip
):
    monkeypatch.setattr("export.encode.encode_here", lambda tasks, *others: map(shard_encoder, tasks))
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"")
    (folder / "b.png").write_bytes(b"text")
    assert main(EncodeOptions(images=folder, model=model, out=out, workers=1, skip_unreadable=skip)) == 2
    told = capsys.readouterr()
    assert told.err.splitlines()[-1] == "error: none of the 2 images could be encoded."
    assert 'skipped: "a.jpg": it is empty' in told.err
    assert index_program.main(index_program.Build(index=tmp_path / "index", encoded=out)) == 2
    refused = f"error: {out}: none of its 2 images could be encoded, see skipped.txt. Encode others.\n"
    assert capsys.readouterr().err == refused
    assert not (tmp_path / "index").exists()


def test_files_that_are_none_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "long.jpg").write_bytes(bytes(11))
    (tmp_path / "folder.jpg").mkdir()
    faults = {name: read_file(str(tmp_path / name), 10)[1] for name in os.listdir(tmp_path)}
    assert faults == {
        "pipe.jpg": "it is no file", "folder.jpg": "it is no file", "long.jpg": "it has 11 bytes, at most 10 are read"
    }  # fmt: skip
    assert read_file(str(tmp_path / "gone.jpg"), 10) == (b"", "no such file or directory")
    assert read_file("nul\0.jpg", 10)[1] is not None


def png_that_declares(width, height):
    header = struct.pack(">II", width, height) + b"\x08\x02\x00\x00\x00"
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header + bytes(40)


SOUND = {
    "jpeg": lambda seed: file_of("JPEG", seed),
    "cmyk": lambda seed: file_of("JPEG", seed, "CMYK"),
    "png": lambda seed: file_of("PNG", seed),
    "gray": lambda seed: file_of("PNG", seed, "L"),
    "webp": lambda seed: file_of("WEBP", seed),
    "bmp": lambda seed: file_of("BMP", seed),
    "16 bits": lambda seed: as_png(np.random.default_rng(seed).integers(0, 2**16, (20, 30), np.uint16)),
    "one pixel": lambda seed: as_png(np.full((1, 1), seed % 256, np.uint8)),
    "animated": lambda seed: file_of("GIF", seed, save_all=True, append_images=[Image.new("RGB", (48, 36), "red")] * 2),
}


def file_of(kind, seed, mode="RGB", **options):
    tiles = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(tiles).resize((48, 36)).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def as_png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def mutated(seed):
    """Spoil an image in one of several ways, or not at all."""
    rng = np.random.default_rng(seed)
    contents = bytearray(SOUND[rng.choice(list(SOUND))](seed))
    way = rng.choice(["whole", "cut", "empty", "magic", "bytes", "zeros", "spliced", "longer", "declares"])
    if way == "cut":
        return bytes(contents[: rng.integers(1, len(contents))])
    if way == "empty":
        return b""
    if way == "magic":
        contents[:4] = rng.bytes(4)
    if way == "bytes":
        for place in rng.integers(0, len(contents), 1 + len(contents) // 50):
            contents[place] = rng.integers(0, 256)
    if way == "zeros":
        start = rng.integers(0, len(contents))
        contents[start : start + 30] = bytes(len(contents[start : start + 30]))
    if way == "spliced":
        other = SOUND[rng.choice(list(SOUND))](seed + 1)
        return bytes(contents[: len(contents) // 2]) + other[len(other) // 2 :]
    if way == "longer":
        contents += rng.bytes(100)
    if way == "declares":
        return png_that_declares(*rng.integers(0, 2**32, 2).tolist())
    return bytes(contents)


def test_mutated_images_are_each_encoded_or_named_and_nothing_grows(shard_encoder, tmp_path):
    paths = []
    for seed in range(150):
        paths.append(str(tmp_path / f"{seed}.jpg"))
        (tmp_path / f"{seed}.jpg").write_bytes(mutated(seed))
    first = shard_encoder(ShardTask(0, paths))
    before = psutil.Process().memory_info().rss
    second = shard_encoder(ShardTask(0, paths))
    assert psutil.Process().memory_info().rss - before < 30e6
    assert len(first.codes) + len(first.faults) == len(paths) and 40 < len(first.codes) < 130
    np.testing.assert_array_equal(first.codes, second.codes)
    assert first.faults == second.faults and all(fault for _, fault in first.faults)
    spoilt = {place for place, _ in first.faults}
    for place, path in enumerate(paths):
        if os.path.getsize(path) == 0:
            assert place in spoilt


@pytest.mark.parametrize(("contents", "fault"), [
    (b"", "it is empty"),
    (b"GIF89", "its header is cut short or damaged"),
    (b"\x89PNG\r\n\x1a\n", "its header is cut short or damaged"),
    (b"text", "it is none of JPEG, PNG, WebP, GIF, BMP"),
    (png_that_declares(60_000, 60_000), "its header declares 60000 x 60000 pixels, at most 50,000,000 are read"),
    (png_that_declares(2**32 - 1, 3), "its header declares 4294967295 x 3 pixels, at most 50,000,000 are read"),
    (png_that_declares(500, 2), "it has 500 x 2 pixels, sides of at most 20 : 1 are read"),
    (as_png(np.zeros((30, 30), np.uint8))[:-30], "its pixels cannot be decoded"),
])  # fmt: skip
def test_a_file_that_cannot_be_read_has_a_reason(contents, fault):
    assert fault_of(contents) == fault


@pytest.mark.slow
def test_processes_give_the_same_bytes_as_ray(photos, model, encoded, tmp_path):
    pytest.importorskip("ray", reason="ray is not installed")
    import ray

    assert main(options_for(photos, model, tmp_path / "out", ray="local")) == 1
    assert not ray.is_initialized() and os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert contents_of(tmp_path / "out") == contents_of(encoded)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_reported(tmp_path):
    tasks = [ShardTask(0, ["x"])]
    with pytest.raises(RuntimeError, match="worker process was killed"):
        list(encode_here(tasks, Killer(), 1, 1))


class Killer:
    """A model's path that ends the process which takes it."""

    def __reduce__(self):
        return os._exit, (1,)


@pytest.mark.slow
def test_models_are_told_apart_by_what_they_answer(model):
    encode_bytes = load_encoder(model).encode_bytes
    one = fingerprint(encode_bytes)
    assert len(one) == 2 * 16 * BITS // 8
    assert len({one[i : i + 4] for i in range(0, len(one), 4)}) > 4  # the drawn images are not all alike to it
    check_same_model(one, one, "queries")
    check_same_model(one, "", "queries")
    # Of 256 bits, 2 may differ and 3 may not.
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(one), np.uint8))
    for differing, is_same in ((2, True), (3, False)):
        flipped = np.packbits(bits ^ (np.arange(256) < differing)).tobytes().hex()
        with contextlib.nullcontext() if is_same else pytest.raises(ValueError, match="queries are of another model"):
            check_same_model(one, flipped, "queries")
    with pytest.raises(ValueError, match="0% of the bits"):
        check_same_model(one, one + "00", "queries")


def test_the_images_that_models_are_asked_never_change():
    images = fingerprint_images()
    assert images.dtype == np.uint8 and images.shape == (16, 64, 64, 3)
    # The first number of the stream is 11749869230777074271, its lowest bytes 95, 130 and 194.
    assert images[0, 0, 0].tolist() == [95, 130, 194] and (images[0, :8, :8] == images[0, 0, 0]).all()


@pytest.mark.parametrize("spoil", ["gone", "graph"])
def test_a_model_that_cannot_be_read_is_an_error(model, photos, tmp_path, capsys, spoil):
    folder = tmp_path / "model"
    if spoil == "graph":
        shutil.copytree(model / "2", folder)
        os.truncate(folder / "saved_model.pb", 1000)
    assert main(options_for(photos, folder, tmp_path / "out")) == 2
    expected = {"gone": "not a SavedModel", "graph": "the model cannot be read"}[spoil]
    assert expected in capsys.readouterr().err


def test_options_are_checked(photos, model, tmp_path, capsys):
    assert main(options_for(photos, model, tmp_path / "out", batch_size=0)) == 2
    assert "must be at least 1. Received: 4, 0 and 1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_pickled_codes_are_never_loaded(encoded, tmp_path):
    shutil.copytree(encoded, tmp_path / "out")
    trap = np.array([Killer()], dtype=object)
    np.save(tmp_path / "out/shard-000000/codes.npy", trap, allow_pickle=True)
    with pytest.raises(ValueError, match=r"shard-000000 cannot be read .*Remove it and run"):
        list(read_blocks(tmp_path / "out", read_encoding(tmp_path / "out")))


WRONG_TYPE = {"format": 1, "root": "/", "model": "x", "probe_codes": "", "code_length": "16", "num_images": 1,
              "shard_size": 1, "batch_size": 1, "shards": []}  # fmt: skip


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "root": 3}', "[" * 100_000, json.dumps(WRONG_TYPE)]
)
def test_a_damaged_description_is_an_error(tmp_path, content):
    (tmp_path / "encoding.json").write_text(content)
    with pytest.raises(ValueError, match=r"encoding\.json cannot be read"):
        read_encoding(tmp_path)
