"""Norms of perturbations by hand, and SSIM against its formula written out window by window."""

import numpy as np
import pytest

from saat_tf.metrics import perceptibility


def ssim_window_by_window(a, b):
    """Wang et al. 2004 for one channel: Gaussian windows of 11 x 11 that lie wholly inside, sigma 1.5, range 1."""
    offsets = np.arange(11) - 5
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * 1.5**2))
    kernel /= kernel.sum()
    values = []
    for i in range(a.shape[0] - 10):
        for j in range(a.shape[1] - 10):
            x, y = a[i : i + 11, j : j + 11].astype(float), b[i : i + 11, j : j + 11].astype(float)
            mx, my = (kernel * x).sum(), (kernel * y).sum()
            vx, vy = (kernel * (x - mx) ** 2).sum(), (kernel * (y - my) ** 2).sum()
            cov = (kernel * (x - mx) * (y - my)).sum()
            c1, c2 = 0.01**2, 0.03**2
            values.append((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return np.mean(values)


def pair(seed=0, number=3, size=14):
    rng = np.random.default_rng(seed)
    images = rng.random((number, size, size, 3), np.float32)
    return images, np.clip(images + rng.uniform(-0.3, 0.3, images.shape), 0, 1).astype(np.float32)


def test_norms_worked_by_hand():
    images = np.full((2, 12, 12, 1), 0.5, np.float32)
    adversarial = images.copy()
    adversarial[1, 0, 0, 0], adversarial[1, 3, 4, 0] = 0.25, 1.0
    found = perceptibility(images, adversarial)
    assert found.linf.tolist() == [0, 0.5]
    assert found.l2.tolist() == pytest.approx([0, np.sqrt(0.0625 + 0.25)])
    assert found.mse.tolist() == pytest.approx([0, 0.3125 / 144])
    assert found.ssim[0] == pytest.approx(1)
    assert found.ssim[1] < 1


def test_ssim_is_its_formula_averaged_over_channels():
    images, adversarial = pair()
    expected = [
        np.mean([ssim_window_by_window(a[..., c], b[..., c]) for c in range(3)])
        for a, b in zip(images, adversarial, strict=True)
    ]
    np.testing.assert_allclose(perceptibility(images, adversarial).ssim, expected, atol=1e-4)


def test_each_image_is_measured_by_itself_however_many_there_are():
    images, adversarial = pair(number=70, size=11)
    together = perceptibility(images, adversarial)
    for i in (0, 63, 64, 69):
        alone = perceptibility(images[i : i + 1], adversarial[i : i + 1])
        for values, value in zip(together, alone, strict=True):
            assert values.shape == (70,)
            assert values[i] == pytest.approx(value[0], abs=1e-6)


IMAGES = np.zeros((1, 12, 12, 3), np.float32)


def test_no_images_and_images_smaller_than_the_window_have_what_there_is_of_them():
    assert [values.shape for values in perceptibility(IMAGES[:0], IMAGES[:0])] == [(0,)] * 4
    found = perceptibility(IMAGES[:, :10], IMAGES[:, :10] + np.float32(0.5))
    assert np.isnan(found.ssim).all() and found.linf == found.mse + 0.25 == 0.5
    assert found.l2 == pytest.approx(0.5 * (10 * 12 * 3) ** 0.5)


@pytest.mark.parametrize(
    ("images", "adversarial", "message"),
    [
        (IMAGES.astype(np.uint8), IMAGES, "`images` must be float.*uint8.*Divide"),
        (IMAGES, IMAGES[0], r"`adversarial_images` must be float.*shape \(12, 12, 3\)"),
        (IMAGES, IMAGES + 1.5, r"`adversarial_images` must lie in \[0, 1\].*from 1.5"),
        (IMAGES + np.nan, IMAGES, r"`images` must lie in \[0, 1\].*NaN"),
        (IMAGES, IMAGES[..., :1], "must have one shape"),
    ],
)
def test_what_is_no_pair_of_images_is_refused(images, adversarial, message):
    with pytest.raises(ValueError, match=message):
        perceptibility(images, adversarial)
