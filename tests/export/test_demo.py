"""The demo page: what it computes by brute force, and the whole of it in a browser."""

import dataclasses
import http.server
import io
import json
import shutil
import socket
import threading

import httpx
import keras
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("gradio", reason="gradio is not installed")

from export.demo.__main__ import DemoOptions, is_loopback, launch, load_app, main
from export.demo.app import ATTACK_CHOICES, build_app
from export.demo.parts import label_names, results
from export.demo.searches import Attacked, Engine, Found, Search, Subject, is_targeted, read_upload, target_of
from saat_tf.attacks import Knowledge, build_attack
from saat_tf.data import CLASS_NAMES, draw_scenes
from saat_tf.data.scenes import scenes_data
from saat_tf.layers import CodeBank
from saat_tf.models import HashingModel
from trainers.recipes.scenes import ScenesRecipe
from trainers.run_folder.finished_run import load_run_data, read_card

pytestmark = pytest.mark.slow

BITS, TRAIN, QUERIES = 16, 40, 14


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """A run folder with two encoders that have learned nothing but where the middle is, so that each bit can flip."""
    folder, images = tmp_path_factory.mktemp("run"), draw_scenes(TRAIN, seed=0).images
    for seed, name in enumerate(("hashing", "robust")):
        keras.utils.set_random_seed(seed)
        model = HashingModel("small_cnn", BITS, 32)
        model.hash_head.projection.bias.assign_sub(np.median(model.logits(images), axis=0))
        model.save(folder / f"{name}.keras")
    recipe = ScenesRecipe(num_train=TRAIN, num_queries=QUERIES, bits=BITS)
    card = {
        "dataset": "scenes",
        "backbone": "small_cnn",
        "code_length": BITS,
        "epsilon_255": 8.0,
        "chance_map": 0.3,
        "config": json.loads(json.dumps(dataclasses.asdict(recipe), default=str)),
        "versions": {},
        "results": [],
    }
    (folder / "card.json").write_text(json.dumps(card))
    return folder


@pytest.fixture(scope="module")
def engine(run_dir):
    data = load_run_data(run_dir, read_card(run_dir))
    return Engine("robust", keras.saving.load_model(run_dir / "robust.keras", compile=False), data)


def code_of(model, image):
    return (model.logits(image[None]).numpy()[0] >= 0).astype(int)


def test_what_is_found_is_nearest_by_counting_and_right_where_a_label_is_shared(engine):
    database, queries = draw_scenes(TRAIN, seed=0), draw_scenes(QUERIES, seed=1)
    codes = np.stack([code_of(engine.model, image) for image in database.images])
    query = code_of(engine.model, queries.images[3])
    distances = np.abs(codes - query).sum(axis=1).tolist()
    expected = sorted(range(TRAIN), key=lambda i: (distances[i], i))[:6]
    search = engine.search(queries.images[3], queries.labels[3])
    assert search.bits.astype(int).tolist() == query.tolist()
    assert [(one.index, one.distance) for one in search.found] == [(i, distances[i]) for i in expected]
    shared = [bool(set(np.flatnonzero(database.labels[i])) & set(np.flatnonzero(queries.labels[3]))) for i in expected]
    assert [one.right for one in search.found] == shared
    assert {one.right for one in engine.search(queries.images[3], None).found} == {None}


def test_an_attack_keeps_to_its_ball_and_moves_the_code(engine):
    queries = draw_scenes(QUERIES, seed=1)
    subject = Subject(queries.images[0], queries.labels[0], "Query 0")
    for epsilon_255, moved in ((0, False), (24, True)):
        returned = engine.attack(subject, Attacked("mainstay", epsilon_255, 8), None)
        assert np.abs(returned - subject.image).max() * 255 <= epsilon_255 + 1e-3
        assert (code_of(engine.model, returned) != code_of(engine.model, subject.image)).any() == moved


def test_every_attack_of_the_page_exists_and_is_targeted_where_it_is_said_to_be():
    bank = CodeBank.from_labels(np.eye(4), code_length=BITS)
    for name in ATTACK_CHOICES.values():
        assert build_attack(name, 0.1, Knowledge(bank, bank)).targeted == is_targeted(name)


def test_a_picture_of_nobody_knows_what_is_attacked_without_labels_alone(engine):
    subject = Subject(np.full((32, 32, 3), 0.5, np.float32), None, "Your picture")
    with pytest.raises(ValueError, match="HAG"):
        target_of(subject, Attacked("mainstay", 8, 5), engine.data)
    assert target_of(subject, Attacked("hag", 8, 5), engine.data) is None
    assert engine.attack(subject, Attacked("hag", 8, 2), None).shape == (32, 32, 3)


def test_a_target_shares_no_label(engine):
    labels = engine.data.test.labels[0]
    target = target_of(Subject(np.zeros((32, 32, 3)), labels, "x"), Attacked("dhta", 8, 5), engine.data)
    assert target.any() and not (target * labels).any()
    assert label_names(np.float32([1, 0, 1] + [0] * 7), engine.data) == f"{CLASS_NAMES[0]}, {CLASS_NAMES[2]}"


@pytest.mark.parametrize(
    ("right", "wanted", "kind"), [(True, True, "right"), (False, True, "wanted"), (False, False, "wrong")]
)
def test_what_is_right_is_not_called_the_target(engine, right, wanted, kind):
    image, bits = np.zeros((32, 32, 3)), np.zeros(BITS, bool)
    search = Search(image, bits, [Found(0, 1, right, wanted)])
    assert f'<figure class="{kind}"' in results("told", [("robust", search, search)], engine.data, 8)


def file_of(kind, size=(48, 40)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (255, 0, 0)).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("contents", [b"", b"no image", file_of("PNG")[:60], file_of("PNG", (420, 20))])
def test_an_upload_that_cannot_be_read_is_refused_with_what_can(contents):
    with pytest.raises(ValueError, match="JPEG, PNG, WebP"):
        read_upload(contents, 32, 32)


def test_an_upload_becomes_pixels():
    np.testing.assert_array_equal(read_upload(file_of("PNG"), 32, 36)[5, 5], [1, 0, 0])


BAD = {
    "no run": ({"run_dir": "absent"}, "finished run"),
    "a drawn data set elsewhere": ({"data_dir": "."}, "drawn"),
    "an empty database": ({"num_database": 0}, "--num-database"),
    "no port": ({"port": 0}, "--port"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_bad_options_end_with_a_message(run_dir, tmp_path, changes, message, capsys):
    changes = {name: tmp_path / value if isinstance(value, str) else value for name, value in changes.items()}
    assert main(DemoOptions(**{"run_dir": run_dir, **changes})) == 2
    assert message in capsys.readouterr().err


def test_a_damaged_model_is_named(run_dir, tmp_path, capsys):
    broken = shutil.copytree(run_dir, tmp_path / "run")
    (broken / "robust.keras").write_bytes(b"PK\x03\x04")
    assert main(DemoOptions(run_dir=broken)) == 2
    assert "robust.keras" in capsys.readouterr().err


def test_the_page_is_for_this_machine_unless_told_otherwise():
    assert is_loopback(DemoOptions(run_dir="r").host)
    assert [is_loopback(host) for host in ("localhost", "::1", "0.0.0.0", "192.168.0.2")] == [True, True, False, False]


@pytest.fixture(scope="module")
def url(run_dir):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = DemoOptions(run_dir=run_dir, port=port)
    app = load_app(options)
    launch(app, options)
    yield f"http://127.0.0.1:{port}"
    app.close()


def test_other_sites_and_large_uploads_are_kept_out(url):
    answer = httpx.get(url)
    assert answer.status_code == 200 and "default-src 'self'" in answer.headers["content-security-policy"]
    assert httpx.get(url, headers={"Host": "example.org"}).status_code == 400
    assert httpx.post(f"{url}/gradio_api/upload", files={"files": ("a.png", bytes(21 * 2**20))}).status_code == 413


FOREIGN = ["http://example.org", "https://127.0.0.1.example.org", "http://127.0.0.1:1", "null", "http://[::1]"]


@pytest.mark.parametrize("origin", FOREIGN)
def test_what_pages_of_other_sites_send_is_refused(url, origin):
    upload = {"files": ("a.png", file_of("PNG"))}
    join = {"fn_index": 0, "data": [0], "session_hash": "s"}
    headers = {"Origin": origin}
    assert httpx.post(f"{url}/gradio_api/upload", files=upload, headers=headers).status_code == 403
    assert httpx.post(f"{url}/gradio_api/queue/join", json=join, headers=headers).status_code == 403
    assert httpx.get(url, headers=headers).status_code == 403
    for own in ({}, {"Origin": url}):
        answer = httpx.post(f"{url}/gradio_api/upload", files=upload, headers=own)
        assert answer.status_code == 200 and answer.json()[0].endswith("a.png")


@pytest.fixture
def other_site():
    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<p>another site</p>")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_a_page_of_another_site_cannot_upload_in_a_browser(browser, url, other_site):
    page = browser.new_page()
    page.goto(other_site)
    statuses = []
    page.on("response", lambda response: statuses.append((response.request.method, response.status)))
    page.evaluate(
        """async url => {
            const form = new FormData();
            form.append("files", new Blob(["x"]), "a.png");
            await fetch(url, {method: "POST", body: form, mode: "no-cors"}).catch(() => null);
        }""",
        f"{url}/gradio_api/upload",
    )
    page.close()
    assert [status for method, status in statuses if method == "POST"] == [403]


@pytest.fixture
def looked_up(monkeypatch):
    """The names of other hosts that this process, and with it the page's server, looks up; none is found."""
    names, look_up = [], socket.getaddrinfo

    def only_local(host, *args, **options):
        if host in (None, "127.0.0.1", b"127.0.0.1", "localhost"):
            return look_up(host, *args, **options)
        names.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "no name is looked up in this test")

    monkeypatch.setattr(socket, "getaddrinfo", only_local)
    return names


PATHS = [
    f"{prefix}{between}{scheme}example.org/a.png"
    for prefix in ("/gradio_api/file", "/gradio_api/proxy")
    for between in ("=", "/", "=%20", "=%09")
    for scheme in ("http://", "https://", "HTTP://", "http:%2F%2F", "file://")
]


@pytest.mark.parametrize("path", PATHS)
def test_no_host_is_looked_up_for_a_file_of_another_server(url, path, looked_up):
    assert httpx.get(url + path).status_code in (403, 404)
    assert looked_up == []


@pytest.mark.parametrize("named", ["http://example.org/a.png", " https://example.org/a.png"])
def test_an_upload_that_is_named_by_its_url_is_not_fetched(url, named, looked_up):
    functions = httpx.get(f"{url}/config").json()["dependencies"]
    (upload,) = (function["id"] for function in functions if ["upload"] in [t[1:] for t in function["targets"]])
    file = {"path": named, "url": named, "meta": {"_type": "gradio.FileData"}}
    join = {"fn_index": upload, "data": [file], "session_hash": "of-this-test"}
    assert httpx.post(f"{url}/gradio_api/queue/join", json=join).status_code == 200
    with httpx.stream("GET", f"{url}/gradio_api/queue/data?session_hash=of-this-test", timeout=30) as events:
        told = [json.loads(line.removeprefix("data:")) for line in events.iter_lines() if line.startswith("data:")]
    (completed,) = (event for event in told if event["msg"] == "process_completed")
    assert completed["success"] is False
    assert looked_up == []


def test_programs_are_offered_nothing_to_call(url):
    assert httpx.get(f"{url}/gradio_api/info").json()["named_endpoints"] == {}


@pytest.fixture
def open_page(browser, url):
    """Open the page at a width; afterwards, nothing must have been complained of nor asked of others."""
    opened = []

    def open_at(width):
        page = browser.new_page(viewport={"width": width, "height": 800})
        told, asked = [], []
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        page.locator("#results .found img").first.wait_for()
        page.locator("#queries button").first.wait_for()
        opened.append((page, told, asked))
        return page

    yield open_at
    for page, told, asked in opened:
        page.close()
        assert told == []
        assert asked and all(one.startswith((url, "data:", "blob:")) for one in asked)


def wait_for_told(page, text):
    page.locator("#results .told", has_text=text).wait_for(timeout=30_000)
    return page.locator("#results .told").inner_text()


@pytest.mark.parametrize("width", [375, 1280], ids=["phone", "desk"])
def test_a_query_is_chosen_and_attacked(open_page, width):
    page = open_page(width)
    page.locator("#queries button").nth(2).click()
    labels = label_names(draw_scenes(QUERIES, seed=1).labels[2], scenes_data(1, 1))
    assert labels in wait_for_told(page, "Query 2")
    assert page.locator("#results .found").count() == 2
    page.get_by_label("number input for Strength").fill("24")
    page.keyboard.press("Tab")
    page.locator("#attack").click()
    assert "24/255, 20 steps" in wait_for_told(page, "under mainstay")
    assert page.locator("#results .engine").count() == 2 and page.locator("#results .found").count() == 4
    flipped = [page.locator("#results .bits").nth(i).locator(".flipped").count() for i in range(2)]
    assert all(0 < count <= BITS for count in flipped)
    headings = page.locator("#results h3").all_inner_texts()
    assert [h for h in headings if "flipped" in h] == [
        f"Its code: {n} of {BITS} bits flipped, in orange" for n in flipped
    ]
    # Right and wrong are told by words and frames, not by color alone.
    marks = page.evaluate(
        "[...document.querySelectorAll('#results .found figure')].map(f => [f.className, f.innerText.slice(2, 7)])"
    )
    assert len(marks) == 24 and all(kind == mark for kind, mark in marks)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = (
        "[...document.querySelectorAll('#results p, #results b')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    )
    assert min(page.evaluate(sizes)) >= 12

    page.get_by_label("number input for Strength").fill("0")
    page.keyboard.press("Tab")
    page.locator("#attack").click()
    wait_for_told(page, "0/255, 20 steps")
    assert page.locator("#results .flipped").count() == 0


def test_the_other_queries_are_reached(open_page):
    page = open_page(1280)
    page.get_by_role("button", name="Other queries").click()
    page.locator("#queries button").nth(QUERIES - 12).wait_for(state="detached")
    page.locator("#queries button").nth(1).click()
    wait_for_told(page, "Query 13")


def test_a_picture_of_ones_own(open_page):
    page = open_page(375)
    page.locator("input[type=file]").set_input_files(
        {"name": "a.png", "mimeType": "image/png", "buffer": b"no image at all"}
    )
    page.get_by_text("This file cannot be read: it is none of").wait_for()
    page.get_by_test_id("toast-close").click()
    page.locator("input[type=file]").set_input_files(
        {"name": "<i>.png", "mimeType": "image/png", "buffer": file_of("PNG")}
    )
    wait_for_told(page, "Your picture")
    assert page.locator("#results .right, #results .wrong").count() == 0
    page.locator("#attack").click()
    page.get_by_text("must know what the picture shows").wait_for()
    page.get_by_test_id("toast-close").click()
    page.get_by_label("What does it show?").fill("ring")
    page.get_by_role("option", name="ring").click()
    wait_for_told(page, "Your picture shows: ring")
    page.locator("#attack").click()
    wait_for_told(page, "Your picture (ring) under mainstay")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375


def test_the_page_escapes_what_it_shows(engine):
    data = dataclasses.replace(engine.data, name="<script>alert(1)</script>", class_names=["<b>"] * 10)
    app = build_app([Engine("robust", engine.model, data)], 32)
    shown = [block.value for block in app.blocks.values() if type(block).__name__ == "HTML"]
    assert any("&lt;script&gt;" in html for html in shown) and not any("<script" in html for html in shown)
    assert any("&lt;b&gt;" in html for html in shown)
