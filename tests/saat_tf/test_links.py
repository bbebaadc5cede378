"""Links where a file, a temporary file or a lock is to be: what they point to is neither emptied, replaced nor made."""

import os

import pytest

from saat_tf.files import lock_folder, write_json, write_text, write_whole

WRITERS = {
    "write_whole": lambda path: write_whole(path, lambda temporary: temporary.write_text("{}")),
    "write_json": lambda path: write_json(path, {}),
    "write_text": lambda path: write_text(path, "{}"),
}
LOCKS = {"lock_folder": lock_folder}
# Where a program that is started again finds what another left, or was left for it.
TEMPORARY = [".writing-{process}-card.json", ".writing-card.json", ".writing-card.json-{process}"]
LOCK_NAMES = ["lock", ".lock"]


@pytest.fixture
def precious(tmp_path):
    """A file of somebody else, outside of the folder that is written to."""
    (tmp_path / "elsewhere").mkdir()
    file = tmp_path / "elsewhere" / "precious"
    file.write_text("precious")
    return file


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def unchanged(precious):
    return precious.read_text() == "precious" and os.listdir(precious.parent) == ["precious"]


@pytest.mark.parametrize("link", [os.symlink, os.link], ids=["symbolic", "hard"])
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_link_at_the_place_of_a_file_is_replaced(write, link, folder, precious):
    link(precious, folder / "card.json")
    write(folder / "card.json")
    assert (folder / "card.json").read_text().strip() == "{}" and not (folder / "card.json").is_symlink()
    assert unchanged(precious)


@pytest.mark.parametrize("name", TEMPORARY)
@pytest.mark.parametrize("target", ["precious", "absent", "."])
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_link_at_the_place_of_a_temporary_file_is_not_opened(write, target, name, folder, precious):
    link = folder / name.format(process=os.getpid())
    os.symlink(precious.parent / target, link)
    try:
        write(folder / "card.json")
        written = True
    except OSError:
        written = False
    assert unchanged(precious)
    assert (folder / "card.json").exists() == written
    if written:
        assert (folder / "card.json").read_text().strip() == "{}" and not (folder / "card.json").is_symlink()


@pytest.mark.parametrize("name", LOCK_NAMES)
@pytest.mark.parametrize("target", ["precious", "absent"])
@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS)
def test_a_link_at_the_place_of_a_lock_is_not_opened(lock, target, name, folder, precious):
    os.symlink(precious.parent / target, folder / name)
    try:
        with lock(folder):
            assert unchanged(precious)
    except OSError:
        pass  # refused: what matters is below
    assert unchanged(precious)


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS)
def test_a_lock_file_that_is_there_keeps_its_content(lock, folder):
    for name in LOCK_NAMES:
        (folder / name).write_text("a note")
    with lock(folder):
        pass
    assert {(folder / name).read_text() for name in LOCK_NAMES if (folder / name).exists()} <= {"a note"}
