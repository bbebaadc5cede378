"""The program: from encoded images to an index, and from images to results in a terminal, as JSON and in a browser."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tyro

pytest.importorskip("faiss", reason="faiss is not installed")

from export.bulk.encoded_folder import read_blocks, read_encoding
from export.index import Add, Build, Command, Query, Remove, main
from export.search import Block, FaissIndex, Hit
from export.search.kinds import Kind
from export.search.results import QueryResult, result_page
from saat_tf.printable import printable

pytestmark = pytest.mark.slow

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def index(encoded, photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    about = folder / "metadata.jsonl"
    about.write_text(json.dumps({"id": "a.jpg", "title": HOSTILE}) + "\n")
    assert main(Build(index=folder / "index", encoded=encoded, metadata=about)) == 0
    return folder / "index"


@pytest.fixture(scope="module")
def codes(encoded):
    """What the index must hold: id -> code."""
    blocks = read_blocks(encoded, read_encoding(encoded))
    return {item_id: code for block in blocks for item_id, code in zip(block.ids, block.codes, strict=True)}


def nearest(codes, query_id):
    """Ids and distances by brute force, in the order of the index."""
    distances = [(int(np.bitwise_count(code ^ codes[query_id]).sum()), x) for x, code in codes.items()]
    return sorted(distances, key=lambda pair: pair[0])


def test_query_prints_json(index, photos, model, codes, capsys):
    images = (photos.folder / "sub/we\nird <b>'\".jpg", photos.folder / "b.PNG")
    assert main(Query(index=index, images=images, model=model, top_k=5, json=True)) == 0
    results = json.loads(capsys.readouterr().out)
    assert [result["query"] for result in results] == list(map(str, images))
    for result, image in zip(results, images, strict=True):
        found = [(hit["distance"], hit["id"]) for hit in result["hits"]]
        assert found == nearest(codes, str(image.relative_to(photos.folder)))[:5]
        for hit in result["hits"]:
            assert hit["metadata"]["path"] == str(photos.folder / hit["id"])


def test_query_prints_a_table_and_names_what_it_cannot_read(index, photos, model, codes, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    images = (photos.folder / "a.jpg", photos.folder / "bad/half.png", photos.folder / "gone.jpg")
    assert main(Query(index=index, images=images, model=model, max_distance=0)) == 2
    told = capsys.readouterr()
    same = [x for distance, x in nearest(codes, "a.jpg") if distance == 0]
    assert told.out.count("photos0/a.jpg") >= 1 and HOSTILE in told.out
    assert sum(f" {printable(x)} " in told.out for x in codes) == len(same)
    assert told.err.splitlines() == [
        f"error: {images[1]}: its pixels cannot be decoded", f"error: {images[2]}: no such file or directory"
    ]  # fmt: skip


def test_adding_and_removing(index, encoded, tmp_path, capsys):
    folder = tmp_path / "index"
    shutil.copytree(index, folder)
    assert main(Add(index=folder, encoded=encoded)) == 2
    assert "is in the index already" in capsys.readouterr().err
    ids = encoded / "shard-000001/ids.jsonl"
    assert main(Remove(index=folder, ids=("a.jpg",), ids_file=ids)) == 0
    left = 8 - 1 - len(ids.read_text().splitlines())
    assert capsys.readouterr().out == f"Removed {8 - left} items; the index has {left}.\n"
    assert main(Remove(index=folder, ids=("a.jpg",))) == 2
    assert main(Remove(index=folder)) == 2
    told = capsys.readouterr().err
    assert "1 of 1 ids are not in the index, the first 'a.jpg'" in told and "at least one" in told


def test_faults_are_told_in_one_line(index, encoded, photos, model, tmp_path, capsys):
    nothing = tmp_path / "nothing"
    (tmp_path / "more.jsonl").write_text('{"id": "a.jpg"}\n["a.jpg"]\n')
    (tmp_path / "unknown.jsonl").write_text('{"id": "z.jpg", "x": 1}\n')
    foreign = tmp_path / "foreign"
    FaissIndex.create(foreign, [], code_length=16, probe_codes="ab" * 32)
    query = Query(index=index, images=(photos.folder / "a.jpg",), model=model)
    cases = [
        (dataclasses.replace(query, index=None), "--index FOLDER, or --uri"),
        (dataclasses.replace(query, uri="x.db"), "--index FOLDER, or --uri"),
        (dataclasses.replace(query, index=nothing), "Build an index first"),
        (dataclasses.replace(query, index=foreign), "The queries are of another model"),
        (dataclasses.replace(query, images=()), "at least one image"),
        (dataclasses.replace(query, model=nothing), "not a SavedModel"),
        (dataclasses.replace(query, index=None, uri=str(nothing / "x.db")), "no such file"),
        (Add(index=foreign, encoded=encoded), "The codes to add are of another model"),
        (Build(index=index, encoded=encoded), "no index is overwritten"),
        (Build(index=nothing, encoded=tmp_path), "Encode images first"),
        (Build(index=nothing, encoded=encoded, metadata=tmp_path / "more.jsonl"), "more.jsonl:2: expected a JSON"),
        (Build(index=nothing, encoded=encoded, metadata=tmp_path / "unknown.jsonl"), "name no encoded image.*'z.jpg'"),
    ]
    for command, message in cases:
        assert main(command) == 2, message
        told = capsys.readouterr().err
        assert re.search(message, told) and told.startswith("error: ") and told.count("\n") == 1, told
    assert not nothing.exists()


def test_the_command_line():
    build = ["build", "--index", "i", "--encoded", "e", "--kind", "ivf", "--nprobe", "3"]
    assert tyro.cli(Command, args=build) == Build(index=Path("i"), encoded=Path("e"), kind=Kind(name="ivf", nprobe=3))
    query = ["query", "--uri", "i.db", "--model", "m", "a.jpg", "b.jpg"]
    assert tyro.cli(Command, args=query) == Query(uri="i.db", model=Path("m"), images=(Path("a.jpg"), Path("b.jpg")))
    remove = ["remove", "--index", "i", "--ids", "a", "b"]
    assert tyro.cli(Command, args=remove) == Remove(index=Path("i"), ids=("a", "b"))


def test_what_is_printed_gives_a_terminal_no_orders():
    assert printable("a\x1b[2J\n\udcff\u202e ü") == "a\\x1b[2J\\n\\udcff\\u202e ü"


# The page


@pytest.fixture(scope="module")
def page(index, photos, model, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "results.html"
    images = (photos.folder / "a.jpg", photos.folder / "sub/we\nird <b>'\".jpg")
    assert main(Query(index=index, images=images, model=model, page=file)) == 0
    return file


def test_a_browser_shows_the_page(page, browser, codes):
    tab = browser.new_page(viewport={"width": 375, "height": 800})
    told, asked = [], []
    tab.on("console", lambda message: told.append(message.text))
    tab.on("pageerror", lambda error: told.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.as_uri(), wait_until="load")
    assert told == [] and [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    assert tab.evaluate("document.documentElement.scrollWidth") <= 375
    images = tab.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.naturalHeight])")
    assert images == [[True, 48, 36]] * 2 * (1 + len(codes))
    captions = tab.evaluate("[...document.querySelectorAll('figcaption')].map(f => f.innerText)")
    expected = [f"{rank}: {printable(x)}, distance {distance}"
                for rank, (distance, x) in enumerate(nearest(codes, "a.jpg"), 1)]  # fmt: skip
    assert [text.split(", {")[0].rstrip(".") for text in captions[1 : 1 + len(codes)]] == expected
    assert sum(HOSTILE in text for text in captions) == 2
    assert tab.evaluate("document.scripts.length + document.querySelectorAll('b').length") == 0
    tab.close()


def test_pictures_that_cannot_be_shown_leave_their_place_to_words(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    hits = [hit_of(str(tmp_path / "bad.png")), hit_of(str(tmp_path)), hit_of("/dev/zero"), hit_of(3), hit_of(None)]
    html = result_page([QueryResult("gone.jpg", hits), QueryResult("x", [])], 16, ["/"]).decode()
    assert html.count("no picture") == 7 and "Nothing was found" in html


def test_a_page_embeds_no_picture_from_outside_of_the_images(photos, tmp_path):
    picture = (photos.folder / "a.jpg").read_bytes()
    inside, outside = tmp_path / "root/in.jpg", tmp_path / "out.jpg"
    inside.parent.mkdir()
    inside.write_bytes(picture)
    outside.write_bytes(picture)
    (tmp_path / "root/link.jpg").symlink_to(outside)
    paths = [inside, outside, tmp_path / "root/link.jpg", tmp_path / "root/../out.jpg"]
    results = [QueryResult("gone.jpg", [hit_of(str(path)) for path in paths])]
    assert result_page(results, 16, [str(tmp_path / "root")]).decode().count("no picture") == 4  # the query, and 3 hits
    assert result_page(results, 16, []).decode().count("no picture") == 5


def hit_of(path):
    return Hit("x", 1, {"path": path})


# Milvus


@pytest.fixture(scope="module")
def milvus(tmp_path_factory, encoded):
    pytest.importorskip("pymilvus", reason="pymilvus is not installed")
    pytest.importorskip("milvus_lite", reason="milvus-lite is not installed")
    uri = str(tmp_path_factory.mktemp("milvus") / "items.db")
    folder = tmp_path_factory.mktemp("utf8") / "encoded"
    shutil.copytree(encoded, folder)
    # Milvus holds no name that is not valid Unicode.
    for file in folder.glob("shard-*/ids.jsonl"):
        file.write_text(file.read_text().replace("\\udcff", "y"))
    assert main(Build(uri=uri, encoded=folder)) == 0
    return uri, folder


def test_milvus_finds_the_same(milvus, index, photos, model, codes, capsys):
    uri, _ = milvus
    images = (photos.folder / "a.jpg", photos.folder / "b.PNG")
    found = []
    for place in ({"uri": uri}, {"index": index}):
        assert main(Query(**place, images=images, model=model, json=True)) == 0
        found.append(json.loads(capsys.readouterr().out))
    for one, other in zip(*found, strict=True):
        names = [[(hit["distance"], hit["id"].replace("\udcff", "y")) for hit in x["hits"]] for x in (one, other)]
        assert len(names[0]) == len(codes) and sorted(names[0]) == sorted(names[1])
        assert [distance for distance, _ in names[0]] == [distance for distance, _ in names[1]]
        paths = {hit["id"]: hit["metadata"]["path"] for hit in one["hits"]}
        assert paths == {item_id: str(photos.folder / item_id) for item_id in paths}


def test_a_refused_first_build_leaves_no_collection(milvus):
    from export.search.milvus_index import MilvusIndex

    uri, codes = milvus[0], np.zeros((2, 2), np.uint8)
    with pytest.raises(ValueError, match="given twice"):
        MilvusIndex.create(uri, "other", [Block(codes, ["a", "a"], [{}, {}])], code_length=16)
    index = MilvusIndex.create(uri, "other", [Block(codes, ["a", "b"], [{}, {}])], code_length=16)
    assert [hit.id for hit in index.search_within(codes[:1], 0)[0]] == ["a", "b"]
    index.close()


def test_milvus_changes_and_refuses_as_an_index_does(milvus, encoded, capsys):
    from export.search.milvus_index import MilvusIndex

    uri, folder = milvus
    assert main(Build(uri=uri, encoded=folder)) == 2
    assert main(Add(uri=uri, encoded=folder)) == 2
    assert main(Remove(uri=uri, ids=("a.jpg", "z.jpg"))) == 2
    assert main(Query(uri=uri, collection="none", images=(), model=folder)) == 2
    told = capsys.readouterr().err.splitlines()
    for line, message in zip(told, ["exists", "already", "1 of 2 ids", "has no collection"], strict=True):
        assert line.startswith("error: ") and message in line
    index = MilvusIndex(uri, "images")
    odd = ['quo"te', "it's", '"]) or id != "', "ünï\n\\x"]
    zero = np.zeros((4, 2), np.uint8)
    assert index.add([Block(zero, odd, [{"n": i, "s": odd[i]} for i in range(4)])]) == 4 and len(index) == 12
    hits = index.search(zero[:1], 12)[0]
    assert {hit.id: hit.metadata for hit in hits if hit.id in odd} == {x: {"n": i, "s": x} for i, x in enumerate(odd)}
    assert index.remove(odd) == 4 and len(index) == 8
    refused = [
        (lambda: index.add([Block(zero[:2], ["x", "x"], [{}, {}])]), "given twice"),
        (lambda: index.add([Block(zero[:1], ["\udcff"], [{}])]), "only valid Unicode"),
        (lambda: index.add([Block(zero[:1, :1], ["x"], [{}])]), "16 bits takes no codes of 8"),
        (lambda: index.search(zero, 20_000), "at most 16384"),
        (lambda: index.search(zero[:, :1], 1), "packed codes of 16 bits"),
    ]
    for do, message in refused:
        with pytest.raises(ValueError, match=message):
            do()
    assert len(index) == 8
    index.close()


def test_a_milvus_server_that_is_not_there_is_an_error(milvus, model, photos, capsys):
    query = Query(uri="http://127.0.0.1:9", images=(photos.folder / "a.jpg",), model=model)
    assert main(query) == 2
    assert "Fail connecting to server" in capsys.readouterr().err
