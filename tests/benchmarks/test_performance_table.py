"""The figures of README and docs/performance.md: they are those of the cards, made by hand or stored."""

import json

import pytest

from benchmarks.performance_lines import LINES, OURS
from benchmarks.performance_table import BEGIN, END, ROOT, details, headlines, main, pages, with_block

SETTING = {
    "versions": {"tensorflow": "2.21.0"},
    "machine": {"cores": 2, "architecture": "x86_64", "processor": "Some CPU", "instructions": ["avx2", "amx_bf16"]},
}


def row(name, median, **facts):
    return {"name": name, "median_s": median, "least_s": median / 2, "most_s": 2 * median, "repeats": 5, **facts}


MAP = {
    "queries": 5000, "database": 117_218, "peak_rss_mb": 840, **SETTING,
    "rows": [row(OURS, 0.8), row("usual, int64 labels", 44.0)],
}  # fmt: skip
STEP = {
    "cases": {"alexnet": {"backbone": "alexnet", "image-size": 224, "batch-size": 32, "num-steps": 7}},
    "losses": {OURS: {"loss": 1.25}, "PyTorch": {"loss": 1.250001}},
    "memory": {"steps": 50, "early_step": 5, "early_mb": 1222, "last_mb": 1249},
    "rows": [
        row(OURS, 4.0, case="alexnet", images_per_s=8.0, gflops=220.0, share_of_peak=0.85),
        row("PyTorch, best settings", 5.0, case="alexnet"),
        # A second group of turns, in which ours took longer.
        row(OURS, 6.0, case="alexnet", images_per_s=5.333, gflops=150.0, share_of_peak=0.6),
        row("saat-tf, XLA", 18.0, case="alexnet"),
        {"case": "alexnet", "name": "saat-tf, mixed_bfloat16", "failed": "no memory"},
    ],
    **SETTING,
}
MAINSTAY = {
    "batch_size": 32, **SETTING,
    "rows": [
        row("DMFL", 0.004, items=1000, bits_off=0),
        row("update and DMFL", 0.005, items=1000, bits_off=0),
        row("direct, float64", 0.4, items=1000, bits_off=0),
        row("direct, float32", 0.2, items=1000, bits_off=3),
        row("DMFL", 0.0041, items=9000, bits_off=0),
    ],
}  # fmt: skip
COST = {
    "base": {"bits": 32}, **SETTING,
    "steps": [row("bits 16", 0.5, axis="bits", value=16, peak_rss_mb=1038)],
    "bookkeeping": [
        row(name, median, num_items=items, num_classes=20)
        for name, items, median in (("DPH", 10, 0.001), ("DPSH", 10, 0.002), ("DPH", 100, 0.001), ("DPSH", 100, 0.02),
                                    ("DPH", 1000, 0.0012))
    ],
}  # fmt: skip
PIPELINE = {
    **SETTING,
    "rows": [row("decode limit", 0.9, image_size=64), row("TFRecord, training", 1.0, image_size=64, images_per_s=500)],
}
ENCODER = {
    "backbone": "small_cnn", "image_size": 32, **SETTING,
    "rows": [
        {"runtime": name, "batch": batch, "p50_ms": p50, "p99_ms": 2 * p50}
        for name, batch, p50 in (("SavedModel", 1, 9.0), ("SavedModel, oneDNN", 1, 8.0), ("LiteRT int8", 1, 2.0),
                                 ("LiteRT int8", 8, 4.0))
    ],
}  # fmt: skip
ATTACK_SPEED = {
    "backbone": "small_cnn", "image_size": 32, "num_steps": 100, "num_queries": 16, **SETTING,
    "rows": [
        {"model": "saat", "attack": attack, "way": way, "processor_s": seconds, "map_difference": difference}
        for attack in ("mainstay", "auto")
        for way, seconds, difference in (("plain loop", 9.0, 0), ("folded", 8.0, 0), ("folded, early stop", 6.0, 0.002))
    ],
}  # fmt: skip
DEMO = {"seconds": 381, "peak_rss_mb": 1229, **SETTING}
CARDS = {
    "saat_step": STEP,
    "attack_speed": ATTACK_SPEED,
    "map": MAP,
    "mainstay": MAINSTAY,
    "cost": COST,
    "pipeline": PIPELINE,
    "encoder": ENCODER,
    "demo": DEMO,
}
STEP_TEXT = "SAAT step, alexnet, 224 pixels, batch 32, T = 7"
# What the page must say of each card: work, time, baseline and its time, times as long.
EXPECTED = {
    "saat_step": [
        (f"{STEP_TEXT}: 8 images/s", "4 s (2 s to 8 s)", "PyTorch, best settings: 5 s (2.5 s to 10 s)", "1.25"),
        (f"{STEP_TEXT}: 5.33 images/s", "6 s (3 s to 12 s)", "XLA: 18 s (9 s to 36 s)", "3"),
    ],
    "attack_speed": [
        (f"{attack} attack on saat, 100 steps, 16 queries, small_cnn, 32 pixels, folded, early stop, MAP +0.0020, "
         "core seconds", "6 s", "plain loop: 9 s", "1.5")
        for attack in ("mainstay", "auto")
    ],
    "map": [
        ("MAP@5000 of 5,000 queries on 117,218 items, 0.82 GB", "800 ms (400 ms to 1.6 s)",
         "usual, int64 labels: 44 s (22 s to 88 s)", "55"),
    ],
    "mainstay": [
        ("mainstay codes of a batch of 32, 1,000 items", "4 ms (2 ms to 8 ms)",
         "formula over all items, float64, 0 bits apart: 400 ms (200 ms to 800 ms)", "100"),
        ("mainstay codes of a batch of 32, 1,000 items", "4 ms (2 ms to 8 ms)",
         "formula over all items, float32, 3 bits apart: 200 ms (100 ms to 400 ms)", "50"),
        ("mainstay codes of a batch of 32, 9,000 items", "4.1 ms (2.05 ms to 8.2 ms)", "", ""),
    ],
    "cost": [
        ("DPH and its slope, 100 items, 20 labels", "1 ms (0.5 ms to 2 ms)",
         "DPSH, pair by pair: 20 ms (10 ms to 40 ms)", "20"),
    ],
    "pipeline": [
        ("TFRecord, training, 64 pixels: 500 images/s", "1 s (500 ms to 2 s)",
         "decode limit: 900 ms (450 ms to 1.8 s)", "0.9"),
    ],
    "encoder": [
        ("LiteRT int8, small_cnn, 32 pixels, one image", "2 ms (99 of 100 within 4 ms)",
         "SavedModel, oneDNN: 8 ms (99 of 100 within 16 ms)", "4"),
    ],
    "demo": [("the demo, 1.2 GB", "381 s", "", "")],
}  # fmt: skip


def test_the_pages_say_what_the_stored_cards_give():
    for page, text in pages(ROOT).items():
        assert page.read_text(encoding="utf-8") == text, "run python -m benchmarks.performance_table"


def test_each_benchmark_has_a_card_here():
    assert set(CARDS) == set(EXPECTED) == set(LINES)


@pytest.mark.parametrize("name", CARDS)
def test_lines_are_medians_spreads_and_ratios_of_the_card(name, tmp_path):
    command = f" | `benchmarks.{name}` |"
    rows = [row for row in details({name: CARDS[name]}, tmp_path).splitlines() if row.endswith(command)]
    expected = ["| " + " | ".join(cells) + command for cells in EXPECTED[name]]
    assert rows == expected


# README's lines: one a benchmark, at its largest work, beside the fastest baseline; of mainstay codes beside the exact
# formula (float64), and not beside float32, which is faster and 3 bits off.
HEADLINES = [
    "| SAAT training step, alexnet, 224 pixels, batch 32, 7 inner steps | 4 s | 5 s (PyTorch, best settings) | 1.25 |",
    "| mainstay attack, 100 steps, 16 queries, early stop; processor seconds, MAP +0.0020 | 6 s | 9 s (plain loop) "
    "| 1.5 |",
    "| MAP@5000, 5,000 queries, 117,218 items | 800 ms | 44 s (usual, int64 labels) | 55 |",
    "| mainstay codes of a batch of 32, 1,000 items | 4 ms | 400 ms (formula over all items, float64) | 100 |",
    "| pairwise loss (DPH) and its gradient, 100 items, 20 labels | 1 ms | 20 ms (DPSH, pair by pair) | 20 |",
]


def test_readme_has_one_line_a_benchmark_beside_the_fastest_baseline():
    table, machines = headlines(CARDS).split("\n\n")
    assert table.splitlines() == ["| task | ours | baseline | times as fast |", "| --- | --- | --- | --- |", *HEADLINES]
    assert machines == "2 cores, Some CPU (avx2, amx_bf16), TensorFlow 2.21.0."


@pytest.mark.parametrize(
    ("name", "slower", "shown"),
    [
        ("map", row("usual, float32 labels", 99.0), HEADLINES[2]),
        ("saat_step", row("PyTorch, as usually written", 6.5, case="alexnet"), HEADLINES[0]),
    ],
)
def test_a_slower_baseline_is_no_headline(name, slower, shown):
    card = {**CARDS[name], "rows": [CARDS[name]["rows"][0], slower, *CARDS[name]["rows"][1:]]}
    assert headlines({name: card}).splitlines()[2:3] == [shown]
    assert headlines({name: card}).count("\n| ") == 2


def test_machines_are_named_with_their_benchmarks_where_there_are_several(tmp_path):
    other = {**MAP, "machine": {"cores": 8, "architecture": "arm64"}}
    cards = {"map": other, "saat_step": STEP, "mainstay": MAINSTAY}
    text = headlines(cards)
    assert "\n8 cores, arm64, TensorFlow 2.21.0: map.\n" in text
    assert text.endswith("\n2 cores, Some CPU (avx2, amx_bf16), TensorFlow 2.21.0: saat_step, mainstay.")
    text = details(cards, tmp_path)
    assert "- 8 cores, arm64, TensorFlow 2.21.0: `python -m benchmarks.map`\n" in text
    both = "`python -m benchmarks.saat_step`, `python -m benchmarks.mainstay`"
    assert f"- 2 cores, Some CPU (avx2, amx_bf16), TensorFlow 2.21.0: {both}" in text


def test_what_failed_and_what_was_counted_is_stated(tmp_path):
    def notes(card):
        return [line for line in details({"saat_step": card}, tmp_path).split("\n\n")[2].splitlines()]

    loss, speed, memory, failed = notes(STEP)
    assert failed == "- Did not run: alexnet, saat-tf, mixed_bfloat16 (no memory)."
    assert "saat-tf 1.250000; PyTorch 1.250001" in loss and "after 5 and after 50 steps: 1,222 and 1,249 MB" in memory
    assert "alexnet step does 220 GFLOP/s" in speed and "60 to 85 %" in speed
    assert notes({**STEP, "losses": None}) == [speed, memory, failed]


def test_growth_is_a_table_of_parts_and_items_and_pictures_are_shown_where_they_are(tmp_path):
    text = details({"cost": COST}, tmp_path)
    assert "| part | labels | 10 items | 100 items | 1,000 items |" in text
    assert "| DPSH | 20 | 2 ms (1 ms to 4 ms) | 20 ms (10 ms to 40 ms) |  |" in text
    assert "| bits | 16 | 500 ms (250 ms to 1 s) | 1,038 MB |" in text
    assert "pictures/" not in text
    (tmp_path / "cost_step.png").touch()
    assert "](pictures/cost_step.png)" in details({"cost": COST}, tmp_path)


def test_a_page_keeps_its_other_lines_and_a_missing_card_leaves_its_lines_out(tmp_path):
    (tmp_path / "docs/results").mkdir(parents=True)
    page = f"# Title\n\n{BEGIN}\n\nold\n\n{END}\nmore\n"
    for name in ("README.md", "docs/performance.md"):
        (tmp_path / name).write_text(page)
    main(tmp_path)
    assert (tmp_path / "README.md").read_text() == page.replace("old", "No figures yet: `make bench` measures them.")
    (tmp_path / "docs/results/map.json").write_text(json.dumps(MAP))
    main(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith(f"# Title\n\n{BEGIN}\n\n| task |") and text.endswith(f"\n\n{END}\nmore\n")
    assert text.count("MAP@5000") == 1 and "No figures" not in text


@pytest.mark.parametrize("text", ["none", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{END}{END}", f"{BEGIN}{BEGIN}{END}"])
def test_a_page_without_its_marks_is_refused(text):
    with pytest.raises(ValueError, match=r"page\.md must have <!-- performance:begin"):
        with_block(text, "new", "page.md")


DAMAGED = {
    "nested": ("[" * 100_000, "it is nested in more than 100 levels"),
    "a list": ("[]", "expected a JSON object. Received: list"),
    "no machine": ('{"versions": {}}', "machine missing or of another type"),
    "no figures": ('{"versions": {}, "machine": {}}', "mainstay.json lacks figures (KeyError: "),
}


@pytest.mark.parametrize("text, message", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_card_is_named_and_no_page_is_written(tmp_path, capsys, text, message):
    (tmp_path / "docs/results").mkdir(parents=True)
    (tmp_path / "docs/results/mainstay.json").write_text(text)
    assert main(tmp_path) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and "mainstay.json" in told and message in told
    assert "Restore it, or remove it and measure again." in told
    assert [path.name for path in tmp_path.rglob("*.md")] == []
