"""One call for a verdict: its figures are those of the parts that it is made of, and of brute force."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf import as_encoder, evaluate_robustness
from saat_tf.attacks import Knowledge, build_attack, mainstay_attack
from saat_tf.data import array_split
from saat_tf.evaluation import filled_bank

BITS, SIZE, CLASSES = 8, 12, 3
RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(SIZE * SIZE * 3, BITS)).astype(np.float32)


def drawn(count):
    return RNG.random((count, SIZE, SIZE, 3), np.float32), np.eye(CLASSES)[np.arange(count) % CLASSES]


QUERIES, DATABASE = drawn(6), drawn(12)


def codes(images):
    return np.where(np.reshape(images, (len(images), -1)) @ (WEIGHTS - WEIGHTS.mean(0)) >= 0, 1, -1)


@pytest.fixture(scope="module")
def encoder():
    return as_encoder(lambda x: tf.reshape(x, (-1, SIZE * SIZE * 3)) @ (WEIGHTS - WEIGHTS.mean(0)), image_size=SIZE)


@pytest.fixture(scope="module")
def report(encoder):
    return evaluate_robustness(
        encoder, queries=QUERIES, database=DATABASE, attacks=["mainstay", "hag", "dhta"], epsilon=0.1, num_steps=3
    )


def average_precisions(query_codes, query_labels):
    values = []
    for code, labels in zip(query_codes, query_labels, strict=True):
        hits = (DATABASE[1] @ labels > 0)[np.argsort(-(codes(DATABASE[0]) @ code), kind="stable")]
        values.append((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())
    return np.array(values)


@pytest.mark.slow
def test_scores_are_those_of_brute_force(report, encoder):
    np.testing.assert_allclose(report.clean.average_precisions, average_precisions(codes(QUERIES[0]), QUERIES[1]))
    assert report.chance == pytest.approx(1 / CLASSES)
    bank = filled_bank(np.packbits(codes(DATABASE[0]) > 0, axis=1), np.float32(DATABASE[1]))
    attacked = []
    for name in ("mainstay", "hag"):
        attack = build_attack(name, 0.1, Knowledge(bank, bank), num_steps=3)
        images = attack(encoder, QUERIES[0], QUERIES[1], seed=(0, 0)).numpy()
        attacked.append(average_precisions(codes(images), QUERIES[1]))
        np.testing.assert_allclose(report.attacks[name].average_precisions, attacked[-1])
    worst = np.min([report.clean.average_precisions, *attacked], axis=0)
    np.testing.assert_allclose(report.worst_case.average_precisions, worst)


def test_it_prints_a_table_and_is_a_dict_of_plain_values(report):
    lines = str(report).splitlines()
    assert lines[0].startswith(
        "MAP of 6 queries on 12 items, codes of 8 bits; every pixel may change by up to 25.5/255"
    )
    table = {line[:14].strip(): line[14:].split()[0] for line in lines[3:8]}
    scores = {"clean": report.clean, "mainstay": report.attacks["mainstay"], "hag": report.attacks["hag"]}
    scores |= {"dhta (t-MAP)": report.attacks["dhta"], "worst case": report.worst_case}
    assert table == {name: f"{score.map:.3f}" for name, score in scores.items()}
    assert lines[8].split() == ["chance", "0.333"]
    assert f"{len(report.findings) - len(report.raised)} passed, {len(report.raised)} warn." in lines[11]
    assert len(lines) == 12 + len(report.raised)

    found = json.loads(json.dumps(report.to_dict()))
    assert (found["chance_map"], found["worst_case_map"]) == (report.chance, report.worst_case.map)
    rows = {row["attack"]: row for row in found["results"]}
    assert list(rows) == ["none", "mainstay", "hag", "dhta", "worst"]
    assert rows["dhta"]["metric"] == "t-MAP" and rows["hag"]["num_steps"] == 3 and rows["hag"]["epsilon_255"] == 25.5
    assert rows["worst"]["interval"] == list(report.worst_case.interval)
    assert [check["raised"] for check in found["checks"]] == [finding.raised for finding in report.findings]


@pytest.mark.slow
def test_it_is_saved_as_one_page(report, tmp_path):
    path = report.save(tmp_path / "verdict.html")
    page = path.read_text(encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["verdict.html"]
    assert page.startswith("<!DOCTYPE html>") and "data:image/png;base64," in page
    assert f"{report.worst_case.map:.3f}" in page and "dhta" in page


@pytest.mark.slow
def test_an_attack_itself_and_splits_serve_too(encoder, report):
    bank = filled_bank(np.packbits(codes(DATABASE[0]) > 0, axis=1), np.float32(DATABASE[1]))
    split = array_split(QUERIES[0], np.float32(QUERIES[1]))
    found = evaluate_robustness(
        encoder,
        queries=split,
        database=DATABASE,
        train=DATABASE,
        attacks=[mainstay_attack(0.1, bank, num_steps=3)],
        epsilon=0.1,
        num_steps=3,
    )
    np.testing.assert_array_equal(found.attacks["mainstay"].codes, report.attacks["mainstay"].codes)


BAD = {
    "no encoder": ({"encoder": lambda images: images}, r"takes no `alpha`.*as_encoder"),
    "a function that gives no codes": ({"encoder": lambda images, alpha, training: images}, "needs `encode`"),
    "images alone": ({"queries": QUERIES[0]}, r"`queries` must be \(images, labels\).*Received: a ndarray"),
    "no query": ({"queries": (QUERIES[0][:0], QUERIES[1][:0])}, "`queries` must have .* at least one. Received: 0"),
    "rows that differ": ({"database": (DATABASE[0], DATABASE[1][:5])}, "Received: 12 images and 5 rows"),
    "images of another size": ({"train": (DATABASE[0][:, 1:], DATABASE[1])}, r"shape \(batch, 12, 12, 3\)"),
    "class numbers": ({"queries": (QUERIES[0], np.arange(6))}, "`queries labels` must be rows of 0 and 1"),
    "classes that differ": ({"train": (DATABASE[0], np.eye(12))}, "3 in `queries`, 3 in `database`, 12 in `train`"),
    "names that differ": ({"class_names": ["a"]}, "1 class names"),
    "nothing relevant": ({"database": (DATABASE[0], np.eye(CLASSES)[[0] * 12]), "train": DATABASE,
                          "queries": (QUERIES[0][:1], np.eye(CLASSES)[[1]])}, "no query has a relevant item"),
    "an unknown attack": ({"attacks": "fgsm"}, "must be one of standard, hag.*Received: 'fgsm'"),
    "no attack": ({"attacks": []}, 'Take "standard"'),
    "no start": ({"restarts": 0}, "`restarts` must be at least 1"),
    "a radius that is none": ({"epsilon": 8}, "usual radius is 8/255"),
    "an attack to be trained": ({"attacks": "tha"}, "needs a prototype network"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_evaluated_is_refused_with_the_remedy(name, encoder):
    changed, message = BAD[name]
    given = {"encoder": encoder, "queries": QUERIES, "database": DATABASE, "attacks": "hag", "num_steps": 1, **changed}
    with pytest.raises(ValueError, match=message):
        evaluate_robustness(given.pop("encoder"), **given)


def test_a_keras_model_is_not_taken_for_an_encoder():
    model = keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Flatten(), keras.layers.Dense(BITS)])
    with pytest.raises(ValueError, match=r"takes no `alpha`. Wrap it: saat_tf.as_encoder"):
        evaluate_robustness(model, queries=QUERIES, database=DATABASE)
