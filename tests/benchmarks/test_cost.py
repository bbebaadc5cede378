"""Operations counted from shapes, and the growth of cost with the work, at a tiny scale."""

import itertools
import types

import keras
import numpy as np
import pytest

from benchmarks import cost, timing
from benchmarks.cost import bookkeeping_rows, draw_bookkeeping, draw_steps, drawn_sets, growth, step_rows
from benchmarks.flops import forward_flops, layer_flops, step_flops

LAYERS = keras.layers


def operations_of_a_convolution(image_side, kernel_side, stride, channels_in, channels_out, *, depthwise=False):
    """Count a multiplication and an addition for each weight at each place that the kernel fits, one by one."""
    places = range(0, image_side - kernel_side + 1, stride)
    inputs = 1 if depthwise else channels_in
    weights = itertools.product(range(kernel_side), range(kernel_side), range(inputs), range(channels_out))
    return 2 * len(list(weights)) * sum(1 for _ in itertools.product(places, places))


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (LAYERS.Conv2D(5, 3, strides=2), (9, 9, 3), operations_of_a_convolution(9, 3, 2, 3, 5)),
        (LAYERS.Conv2D(4, 1), (6, 6, 2), operations_of_a_convolution(6, 1, 1, 2, 4)),
        (LAYERS.DepthwiseConv2D(3), (7, 7, 6), operations_of_a_convolution(7, 3, 1, 6, 6, depthwise=True)),
        (LAYERS.Dense(10), (7,), 2 * 7 * 10),
        (LAYERS.ReLU(), (9, 9, 3), 0),
    ],
)
def test_a_layer_does_two_operations_for_each_weight_that_meets_an_input(layer, shape, expected):
    keras.Sequential([keras.Input(shape), layer])
    assert layer_flops(layer) == expected


def test_a_step_goes_forward_and_to_the_pixels_in_each_inner_step_and_to_the_weights_once():
    backbone = keras.Sequential(
        [keras.Input((4, 4, 1)), LAYERS.ReLU(), LAYERS.Conv2D(2, 3), LAYERS.Flatten(), LAYERS.Dense(3)]
    )
    projection = LAYERS.Dense(4)
    projection.build((None, 3))
    encoder = types.SimpleNamespace(backbone=backbone, hash_head=types.SimpleNamespace(projection=projection))
    convolution, dense, head = 2 * 9 * 2 * 4, 2 * 8 * 3, 2 * 3 * 4
    forward = convolution + dense + head
    assert forward_flops(encoder) == (forward, convolution)
    # Five images: seven times forward and back to the pixels; clean and adversarial forward, back to all weights and
    # to the inputs of all layers but the first.
    inner, outer = 7 * 2 * forward, 2 * (forward + forward + forward - convolution)
    assert step_flops(encoder, batch_size=5, num_steps=7) == 5 * (inner + outer)


@pytest.fixture
def tiny(monkeypatch):
    for name, value in {"LABEL_SETS": 12, "REPEATS": 1, "BATCH": 4, "BITS": 8, "PAIRS_END": 30}.items():
        monkeypatch.setattr(cost, name, value)


def test_label_sets_are_distinct_and_have_one_to_four_labels(tiny):
    sets = drawn_sets(20, np.random.default_rng(0))
    assert sets.shape == (12, 20) and len(np.unique(sets, axis=0)) == 12
    assert set(np.unique(sets)) == {0, 1} and set(sets.sum(axis=1)) <= {1, 2, 3, 4}


@pytest.mark.slow
def test_pairs_are_looked_at_up_to_where_memory_ends(tiny, monkeypatch):
    small = bookkeeping_rows(30, 20)
    monkeypatch.setattr(cost, "loss_and_slope", lambda *_: list)
    large = bookkeeping_rows(31, 20)
    assert [row["name"] for row in small] == ["bank update", "mainstay codes", "DPH", "DPSH"]
    assert [row["name"] for row in large] == ["bank update", "mainstay codes", "DPH"]
    assert all((row["num_items"], row["num_classes"], row["num_label_sets"]) == (30, 20, 12) for row in small)
    assert all(row["median_s"] > 0 for row in small)


def rows_of_parts():
    cells = itertools.product(cost.COLORS, cost.LABELS, (10, 1000, 100))
    return [
        {"name": name, "num_classes": labels, "num_items": items, "median_s": 0.5 + (items if name == "DPSH" else 0)}
        for name, labels, items in cells
    ]


def test_growth_is_from_the_fewest_to_the_most_items():
    found = {(row["name"], row["num_classes"]): row for row in growth(rows_of_parts())}
    assert len(found) == 8
    expected = {"name": "DPSH", "num_classes": 1000, "items": 100, "time": round(1000.5 / 10.5, 2)}
    assert found["DPSH", 1000] == expected
    assert found["DPH", 20]["time"] == 1


def test_each_step_is_measured_once_and_axes_vary_one_by_one(monkeypatch, capsys):
    started = []

    class Process:
        def __init__(self, module, options, *, environment):
            started.append((module, options))

        def __call__(self):
            return {"peak_rss_mb": 100.4}

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(cost, "Worker", Process)
    rows = step_rows({"bits": 16, "replicas": 1}, {"bits": (16, 32), "replicas": (1, 2)}, 1)
    assert [(row["axis"], row["value"], row["peak_rss_mb"]) for row in rows] == [
        ("bits", 16, 100), ("bits", 32, 100), ("replicas", 1, 100), ("replicas", 2, 100)
    ]  # fmt: skip
    options = [("16", "1"), ("32", "1"), ("16", "2")]
    assert started == [
        ("benchmarks.step_worker", ("--bits", bits, "--replicas", replicas)) for bits, replicas in options
    ]


def test_pictures_are_drawn(monkeypatch, tmp_path):
    monkeypatch.setattr(cost, "PICTURES", tmp_path)
    draw_bookkeeping(rows_of_parts())
    values = (("bits", 16), ("bits", 32), ("num-items", 10), ("num-items", 100))
    draw_steps([
        {"axis": axis, "value": value, **timing.Timing((1.0,)).row(""), "peak_rss_mb": value} for axis, value in values
    ])  # fmt: skip
    for name in ("cost_bookkeeping.png", "cost_step.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
