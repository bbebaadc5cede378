"""The pictures of certificates: their lines, and which rows belong together."""

import pytest

from saat_tf.evaluation.report.sandwich import certified_rows, sandwich_pictures


def row(epsilon_255, value, **changes):
    return {
        "defense": "ibp", "attack": "certified by crown", "epsilon_255": epsilon_255, "value": value, "clean_map": 0.8,
        "attacked_map": 0.7, "confidence": 1.0, "num_queries": 9, "top_k": 50, **changes,
    }  # fmt: skip


CARD = {
    "results": [
        row(4.0, 0.4), row(1.0, 0.6), row(2.0, 0.3, attack="certified by smoothing", sigma=0.25, confidence=0.999),
        {"defense": "ibp", "attack": "none", "value": 0.8}, {"value": "not of an attack"},
    ]
}  # fmt: skip


def test_a_picture_has_the_radii_of_one_certificate_in_order():
    crown, smoothing = sandwich_pictures(CARD, 0.2)
    clean, proved, attacked, chance = crown.figure.axes[0].lines
    assert list(proved.get_xdata()) == [0, 1, 4]
    assert list(proved.get_ydata()) == pytest.approx([0.8, 0.6, 0.4])
    assert list(attacked.get_ydata()) == pytest.approx([0.8, 0.7, 0.7])
    assert list(clean.get_ydata()) == pytest.approx([0.8] * 3)
    assert chance.get_ydata()[0] == 0.2
    assert "no attack brings MAP below 0.40 at 4/255" in crown.caption
    assert "confidence of 0.999" in smoothing.caption
    assert [picture.name for picture in (crown, smoothing)] == ["certified-1", "certified-2"]


def test_rows_of_certificates_alone_are_shown():
    assert [found["epsilon_255"] for found in certified_rows(CARD)] == [1.0, 4.0, 2.0]
    assert certified_rows({}) == []
    assert list(sandwich_pictures({"results": []}, 0.2)) == []


def test_where_nothing_was_attacked_two_lines_remain():
    unattacked = {name: value for name, value in row(1.0, 0.5).items() if name != "attacked_map"}
    (picture,) = sandwich_pictures({"results": [unattacked]}, 0.2)
    assert [line.get_label() for line in picture.figure.axes[0].lines[:2]] == ["no attack", "certified by crown"]
    assert len(picture.figure.axes[0].lines) == 3
