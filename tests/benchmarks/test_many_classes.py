"""The costs of many classes: what is measured, and the picture of it."""

import numpy as np

from benchmarks import many_classes
from benchmarks.many_classes import bank_of_labels, draw, measure
from saat_tf.data import draw_scene_labels


def test_the_bank_has_each_items_own_labels():
    labels = draw_scene_labels(50, seed=3, num_classes=100)
    bank = bank_of_labels(labels, np.random.default_rng(0))
    np.testing.assert_array_equal(bank.label_sets.numpy()[bank.set_index.numpy()], labels)
    assert bank.num_label_sets == len({row.tobytes() for row in labels})


def test_an_epoch_is_scaled_from_the_batches_that_were_timed(monkeypatch):
    monkeypatch.setattr(many_classes, "TIMED_BATCHES", 2)
    monkeypatch.setattr(many_classes, "REPEATS", 1)
    row = measure(12, 100)
    assert (row["num_classes"], row["num_items"], row["timed_batches"]) == (12, 100, 2)
    sets, bits, classes, most = row["num_label_sets"], 64, 12, 4
    # codes of each item; labels, sum and count of each set; sum and count of each class and number of labels
    numbers = 100 * bits + sets * (classes + bits + 1) + classes * most * (bits + 1)
    # and in 8 bytes each, the set of each item, and sums of relaxed codes of each set and of their products
    assert row["bank_mb"] == round((4 * numbers + 8 * (100 + sets * bits + bits * bits)) / 2**20, 3)
    assert row["mainstay_ms"] > 0 and row["epoch_seconds"] > 0


def test_the_picture_is_drawn(tmp_path):
    rows = [
        {"num_classes": c, "num_items": n, "mainstay_ms": c * n, "epoch_seconds": n / 10, "bank_mb": c}
        for c in (10, 100)
        for n in (100, 1000)
    ]
    draw(rows, tmp_path / "costs.png")
    assert (tmp_path / "costs.png").read_bytes().startswith(b"\x89PNG")
