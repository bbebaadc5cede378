"""Folders of class folders, and tar files of them: every layout against a dict, every fault by its message."""

import dataclasses
import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from saat_tf.data import DataError, evaluation_batches
from saat_tf.data.class_folders import draw_held_out, read_class_folders, readable
from saat_tf.data.class_split import class_split

TRAIN = {("cat", "a.png"): 0, ("cat", "b.png"): 1, ("dog", "a.png"): 2, ("dog", "c.png"): 3, ("dog", "d.png"): 4}
HELD_OUT = {("dog", "e.png"): 5}


def png(number):
    """A picture of 12 x 10 pixels that is different for each number."""
    pixels = np.random.default_rng(number).integers(0, 256, (12, 10, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return pixels, stream.getvalue()


def write(path, contents):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contents)


def write_tar(path, members, mode="w"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, contents in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(contents)
            tar.addfile(header, io.BytesIO(contents))


def folders(root):
    for (name, file), number in TRAIN.items():
        write(root / name / file, png(number)[1])
    write(root / "README.md", b"no class")
    write(root / "cat" / ".hidden", b"no image")


def divided_folders(root):
    for split, images in (("train", TRAIN), ("val", HELD_OUT)):
        for (name, file), number in images.items():
            write(root / split / name / file, png(number)[1])
    write(root / "extra" / "other" / "x.png", b"neither split")


def divided_tars(root):
    write_tar(root / "train-0.tar", {f"train/{c}/{f}": png(n)[1] for (c, f), n in TRAIN.items() if c == "cat"})
    write_tar(root / "train-1.tar", {f"train/{c}/{f}": png(n)[1] for (c, f), n in TRAIN.items() if c == "dog"})
    write_tar(root / "val.tar", {f"val/{c}/{f}": png(n)[1] for (c, f), n in HELD_OUT.items()})


def one_tar_a_class(root):
    for name in ("cat", "dog"):
        write_tar(root / f"{name}.tar", {f: png(n)[1] for (c, f), n in TRAIN.items() if c == name})


def folders_and_tars(root):
    for (name, file), number in TRAIN.items():
        if name == "cat":
            write(root / "train" / name / file, png(number)[1])
    write_tar(root / "train" / "dog.tar", {f"./{f}": png(n)[1] for (c, f), n in TRAIN.items() if c == "dog"})
    write_tar(root / "val.tar", {f"./val/{c}/{f}": png(n)[1] for (c, f), n in HELD_OUT.items()})


LAYOUTS = [
    (folders, False), (divided_folders, True), (divided_tars, True), (one_tar_a_class, False), (folders_and_tars, True),
]  # fmt: skip


def numbers(images):
    """Which pictures they are, by their bytes, in order."""
    known = {png(number)[1]: number for number in range(6)}
    return [known[file.read()[0]] for file in images.files]


@pytest.mark.slow
@pytest.mark.parametrize(("layout", "is_divided"), LAYOUTS)
def test_every_layout_is_read_as_it_is_and_nothing_is_written(tmp_path, layout, is_divided):
    layout(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    train, held_out = read_class_folders(tmp_path)
    assert train.class_names == ("cat", "dog")
    assert train.classes.tolist() == [0, 0, 1, 1, 1] and numbers(train) == list(TRAIN.values())
    assert (held_out is not None) == is_divided
    if is_divided:
        assert held_out.classes.tolist() == [1] and numbers(held_out) == [5]
    readable(train)
    (images, classes, index), *_ = evaluation_batches(class_split(train, 8, 10), 5)
    assert classes.numpy().tolist() == [0, 0, 1, 1, 1] and index.numpy().tolist() == list(range(5))
    for image, number in zip(images.numpy(), TRAIN.values(), strict=True):
        # The shorter side is 10 already, so the middle 8 x 8 pixels are those of the file.
        np.testing.assert_allclose(image, png(number)[0][2:10, 1:9] / 255, atol=1e-6)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def lonely(root):
    folders(root)
    write(root / "eel" / "a.png", png(0)[1])


def one_class(root):
    write(root / "cat" / "a.png", png(0)[1])
    write(root / "cat" / "b.png", png(1)[1])


def in_no_class(root):
    divided_folders(root)
    write(root / "train" / "stray.png", png(0)[1])


def nested(root):
    write(root / "a" / "b" / "c" / "d" / "e.png", png(0)[1])


def unknown_class(root):
    divided_folders(root)
    write(root / "val" / "eel" / "a.png", png(0)[1])


def cut_tar(root, within=0):
    """A tar file that ends before its last member, or in the middle of it."""
    divided_tars(root)
    path = root / "train-1.tar"
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    path.write_bytes(path.read_bytes()[: last.offset + within])


def tar_cut_in_a_picture(root):
    cut_tar(root, within=600)


def compressed_tar(root):
    write_tar(root / "train.tar", {"train/cat/a.png": png(0)[1]}, mode="w:gz")


def leaving_tar(root):
    write_tar(root / "x.tar", {"../cat/a.png": png(0)[1]})


def absolute_tar(root):
    write_tar(root / "x.tar", {"/cat/a.png": png(0)[1]})


FAULTS = [
    (lambda root: None, "0 class folders with images. Expected <class>/<image>"),
    (lambda root: write(root / "a.png", png(0)[1]), "0 class folders"),
    (one_class, "1 class folders"),
    (lonely, "at least two training images. Received: one in eel"),
    (in_no_class, "stray.png: lies in no class folder"),
    (nested, "nested too deeply"),
    (unknown_class, "held-out images of classes without training images: eel"),
    (cut_tar, "train-1.tar: not a whole, uncompressed tar file (it is cut short)"),
    (tar_cut_in_a_picture, "train-1.tar: not a whole, uncompressed tar file"),
    (compressed_tar, "train.tar: not a whole, uncompressed tar file"),
    (leaving_tar, "x.tar: the name '../cat/a.png' leads out of the archive"),
    (absolute_tar, "x.tar: the name '/cat/a.png' leads out of the archive"),
]


@pytest.mark.parametrize(("make", "message"), FAULTS)
def test_what_is_no_folder_of_class_folders_is_refused_by_name(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises(DataError) as refused:
        read_class_folders(tmp_path)
    assert str(tmp_path) in str(refused.value) and message in str(refused.value)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="none: no such folder"):
        read_class_folders(tmp_path / "none")


@pytest.mark.parametrize("layout", [folders, one_tar_a_class])
def test_an_unreadable_image_is_named_or_left_out(tmp_path, layout):
    layout(tmp_path)
    if layout is folders:
        write(tmp_path / "dog" / "bad.png", png(0)[1][:40])
    else:
        images = {f: png(n)[1] for (c, f), n in TRAIN.items() if c == "dog"}
        write_tar(tmp_path / "dog.tar", {**images, "bad.png": png(0)[1][:40]})
    train, _ = read_class_folders(tmp_path)
    name = tmp_path / "dog" / "bad.png" if layout is folders else f"{tmp_path / 'dog.tar'}:bad.png"
    with pytest.raises(DataError) as refused:
        readable(train)
    assert f"cannot read {name}: " in str(refused.value) and "--skip-unreadable" in str(refused.value)
    left, faults = readable(train, skip=True)
    assert numbers(left) == list(TRAIN.values()) and len(faults) == 1 and str(name) in faults[0]


def test_a_class_of_which_nothing_can_be_read_is_refused(tmp_path):
    folders(tmp_path)
    for file in ("a.png", "b.png"):
        write(tmp_path / "cat" / file, b"no image")
    with pytest.raises(DataError, match="none of the images of cat can be read"):
        readable(read_class_folders(tmp_path)[0], skip=True)


def test_the_held_out_share_is_drawn_of_each_class_and_divides_all(tmp_path):
    for number in range(20):
        write(tmp_path / "many" / f"{number:02d}.png", b"")
    for number in range(2):
        write(tmp_path / "two" / f"{number}.png", b"")
    images, _ = read_class_folders(tmp_path)
    rest, held = draw_held_out(images, 0.25, seed=3)
    assert np.bincount(held.classes).tolist() == [5, 1] and np.bincount(rest.classes).tolist() == [15, 1]
    names = [{str(file) for file in part.files} for part in (rest, held, images)]
    assert names[0] | names[1] == names[2] and not names[0] & names[1]
    again, other = (draw_held_out(images, 0.25, seed=seed)[1].files for seed in (3, 4))
    assert again == held.files != other


@pytest.mark.parametrize("labels", [np.int64([0, 1]), np.int32([[0, 1]]), np.int32([0, -1]), np.float32([0, 1])])
def test_labels_that_are_no_class_numbers_are_refused(tmp_path, labels):
    folders(tmp_path)
    split = class_split(read_class_folders(tmp_path)[0], 8, 10)
    with pytest.raises(ValueError, match=r"class numbers, int32 \(N,\). Received: "):
        dataclasses.replace(split, labels=labels)
