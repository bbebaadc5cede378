"""The report as files, and as a reader's browser shows it."""

import base64
import dataclasses
import io
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from saat_tf.data import RetrievalData, array_split
from saat_tf.evaluation.attacked import AttackedQueries
from saat_tf.evaluation.evaluate import EncodedData
from saat_tf.evaluation.report.report_input import DefenseResult, Examples, ReportInput, Transfer
from saat_tf.evaluation.report.write import write_report
from saat_tf.evaluation.sanity_checks.checks import Finding

pytestmark = pytest.mark.slow

HOSTILE = '<script>alert("$x$")</script>'
CLASSES = ["cat", HOSTILE, "a & b"]
QUERIES, ITEMS = 8, 40
RNG = np.random.default_rng(0)


def split(n):
    labels = np.eye(3, dtype=np.float32)[np.arange(n) % 3]
    return array_split(RNG.random((n, 16, 16, 3)).astype(np.float32), labels)


DATA = RetrievalData("drawn <b>", CLASSES, split(ITEMS), split(ITEMS), split(QUERIES))


def codes(n, wrong):
    """Give each class its byte, with a share of bits drawn."""
    bits = np.unpackbits(np.uint8([[0, 255], [255, 0], [15, 240]])[np.arange(n) % 3], axis=1)
    drawn = RNG.random(bits.shape) < wrong
    return np.packbits(np.where(drawn, 1 - bits, bits), axis=1)


def attacked(name, epsilon, steps, wrong, targeted=False):
    labels = np.roll(DATA.test.labels, 1, axis=1) if targeted else DATA.test.labels
    perturbed = np.stack([codes(QUERIES, wrong) for _ in range(2)])
    return AttackedQueries(
        name, targeted, epsilon, steps, (0, 1), labels, perturbed, np.full((4, 2, QUERIES), 0.02, np.float32)
    )


def defense(title, wrong):
    images = np.stack([DATA.test.load(0).numpy()] * 2)
    return DefenseResult(
        title=title,
        encoded=EncodedData(codes(ITEMS, 0.1), codes(ITEMS, 0.1), codes(QUERIES, 0.1)),
        attacked=[
            attacked("mainstay", 8, 100, wrong), attacked("mainstay", 4, 100, wrong / 2),
            attacked("mainstay", 8, 10, wrong / 2), attacked("hag", 8, 100, wrong / 3),
            attacked("dhta", 8, 100, wrong, targeted=True),
        ],
        examples=Examples(attack=0, images=np.clip(images + 8 / 255, 0, 1)),
        findings=[
            Finding("still-rising", True, "The objective <i>rose</i>.", "More steps."),
            Finding("left-ball", False, "Inside.", "Project."),
        ],
    )  # fmt: skip


FULL = ReportInput(
    card={
        "dataset": "drawn",
        "epsilon_255": 8.0,
        "versions": {"numpy": "2"},
        "results": [
            {"value": "not shown"},
            {
                "defense": "saat",
                "attack": "certified by ibp",
                "epsilon_255": 2.0,
                "value": 0.4321,
                "clean_map": 0.8,
                "certified_bits": 12.3,
                "confidence": 1.0,
                "num_queries": 9,
                "top_k": 20,
            },
        ],
    },
    data=DATA,
    defenses=[defense("undefended", 0.5), defense("SAAT & <others>", 0.2)],
    config={"run_dir": "runs/<img src=x onerror=alert(1)>", "bits": 16},
    top_k=20,
    transfer=Transfer(surrogates=["undefended", "SAAT"], victims=["undefended", "SAAT"], maps=np.eye(2) / 2),
)
BARE = dataclasses.replace(
    FULL, config={}, card={"epsilon_255": 8}, transfer=None,
    defenses=[DefenseResult(title="undefended", encoded=FULL.defenses[0].encoded)],
)  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return write_report(FULL, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def html(report):
    return report.read_text(encoding="utf-8")


def sections(html):
    return re.findall(r"<h2>(.*?)</h2>", html)


def test_each_figure_lies_beside_the_page_as_png_and_svg_and_is_the_one_in_the_page(report, html):
    figures = report.parent / "figures"
    pngs = {path.stem: path.read_bytes() for path in figures.glob("*.png")}
    svgs = {path.stem: ElementTree.parse(path).getroot().tag for path in figures.glob("*.svg")}
    assert set(svgs.values()) == {"{http://www.w3.org/2000/svg}svg"}
    assert set(pngs) == set(svgs) and len(list(figures.iterdir())) == 2 * len(pngs)
    shown = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', html)]
    assert sorted(shown) == sorted(pngs.values())
    assert all(Image.open(io.BytesIO(png)).convert("L").getextrema() != (255, 255) for png in shown)
    expected = {"maps", "map-by-epsilon-1", "map-by-steps-1", "certified-1", "transfer"}
    for slug in ("1-undefended", "2-saat-others"):
        parts = ("precision-recall", "precision-at-n", "target-precision-at-n", "mainstay-distances", "query-1")
        expected |= {f"{slug}-{part}" for part in (*parts, "query-2")}
    assert set(pngs) == expected


def test_what_comes_from_data_is_shown_and_never_read_as_html(html):
    assert "<script" not in html and "<img src=x" not in html and "<i>rose" not in html and "<others>" not in html
    assert "&lt;script&gt;alert(" in html and "runs/&lt;img src=x" in html


def test_the_page_names_nothing_outside_itself(html):
    sources = re.findall(r'(?:src|href|action|data|poster)="([^"]*)"', html)
    assert sources and all(source.startswith("data:") for source in sources)
    assert "@import" not in html and "url(" not in html and "default-src 'none'" in html


def by_the_definition(query_codes, encoded):
    """Return MAP@20 of queries by a plain loop."""
    values = []
    for code, label in zip(query_codes, DATA.test.labels, strict=True):
        distances = np.unpackbits(code ^ encoded.database, axis=1).sum(axis=1)
        hits = [DATA.database.labels[j] @ label > 0 for j in sorted(range(ITEMS), key=lambda j: distances[j])[:20]]
        precisions = [sum(hits[: t + 1]) / (t + 1) for t, hit in enumerate(hits) if hit]
        values.append(np.mean(precisions) if precisions else 0)
    return np.mean(values)


def test_the_table_tells_the_maps(html):
    first = FULL.defenses[0]
    rows = re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td><td class="number">(.*?)</td>', html)
    told = {(model, attack): float(value) for model, attack, value in rows}
    assert told["chance", "none"] == round((3 * 14 + 3 * 13 + 2 * 13) / (QUERIES * ITEMS), 3)
    expected = by_the_definition(first.encoded.test, first.encoded)
    assert told["undefended", "no attack"] == pytest.approx(expected, abs=6e-4)
    single = min(by_the_definition(codes, first.encoded) for x in first.attacked[:4] for codes in x.codes)
    assert told["undefended", "worst case"] <= single + 6e-4


def test_the_same_input_gives_the_same_page(tmp_path):
    pages = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        pages.append(write_report(BARE, tmp_path / name))
    assert pages[0].read_bytes() == pages[1].read_bytes()
    svgs = [(page.parent / "figures" / "maps.svg").read_bytes() for page in pages]
    assert svgs[0] == svgs[1]
    # Parts without data are left out, and no heading stands over nothing.
    headings = sections(pages[0].read_text(encoding="utf-8"))
    assert headings == ["How good the search is", "Codes of labels", "How it was made"]


def test_models_need_titles_of_their_own(tmp_path):
    with pytest.raises(ValueError, match="its own title"):
        write_report(dataclasses.replace(FULL, defenses=[FULL.defenses[0]] * 2), tmp_path)
    with pytest.raises(ValueError, match="at least one model"):
        write_report(dataclasses.replace(FULL, defenses=[]), tmp_path)


@pytest.mark.parametrize("width", [375, 1280], ids=["phone", "desk"])
def test_a_browser_shows_the_page(browser, report, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    told, asked = [], []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri(), wait_until="load")
    assert told == []
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    images = page.evaluate("[...document.images].map(i => [i.complete, i.naturalWidth, i.clientWidth, i.alt.length])")
    assert len(images) == len(list((report.parent / "figures").glob("*.png")))
    assert all(complete and natural > 0 and 0 < shown <= width and alt > 20 for complete, natural, shown, alt in images)

    captions = page.evaluate(
        "[...document.querySelectorAll('figure')].map(f => f.querySelector('figcaption').innerText)"
    )
    assert len(captions) == len(images) and all(text.endswith(".") and len(text) > 40 for text in captions)
    assert sum(HOSTILE in text for text in captions) == 2  # the second query of each model is of that class
    assert page.evaluate("document.scripts.length + document.querySelectorAll('i, b, main main').length") == 0
    wide = "[...document.querySelectorAll('table')].every(t => t.closest('.scroll').tabIndex === 0)"
    assert page.evaluate(wide)
    page.close()


def test_each_figure_is_legible_on_a_phone(browser, report):
    """The narrow page must not shrink a figure's text of 10 points below 9 pixels of the screen."""
    page = browser.new_page(viewport={"width": 375, "height": 800})
    page.goto(report.as_uri())
    widths = page.evaluate("[...document.images].map(i => i.clientWidth)")
    page.close()
    assert min(widths) / 4.6 * 10 / 72 >= 9


def test_the_page_shows_what_is_certified_where_it_is(report, tmp_path):
    page = report.read_text(encoding="utf-8")
    assert "certified by ibp" in page and "0.432" in page and "12.3" in page
    assert (report.parent / "figures" / "certified-1.png").is_file()
    assert "certified by" not in write_report(BARE, tmp_path).read_text(encoding="utf-8")
