"""Perceptibility of an attack: norms of the perturbation of each image, and its structural similarity."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

# Side of the window of SSIM (Wang et al.); a smaller image has no whole window.
SSIM_WINDOW = 11
# Images are measured this many at a time, which bounds the memory whatever their number.
BLOCK_IMAGES = 64


class Perceptibility(NamedTuple):
    """Result of `perceptibility`, one value an image.

    Args:
        linf: float64 (B,), the largest |x' - x| over pixels and channels, in [0, 1].
        l2: float64 (B,), sqrt(sum (x' - x)^2).
        mse: float64 (B,), mean (x' - x)^2.
        ssim: float64 (B,) in [-1, 1], the mean structural similarity, 1 for equal images; NaN for images smaller than
            its window.
    """

    linf: np.ndarray
    l2: np.ndarray
    mse: np.ndarray
    ssim: np.ndarray


def perceptibility(images: np.ndarray, adversarial_images: np.ndarray) -> Perceptibility:
    """Measure the perturbation of each image, over its pixels and channels.

    These are norms of the perturbation as one long vector; a matrix norm (largest row sum, largest singular value) of
    it is something else. SSIM has an 11 x 11 Gaussian window of sigma 1.5, k1 = 0.01, k2 = 0.03 and is averaged over
    the channels.

    Args:
        images: float (B, H, W, channels) in [0, 1]; B may be 0.
        adversarial_images: float of the same shape, in [0, 1].

    Returns:
        `Perceptibility`.

    Raises:
        ValueError: images that are not float, not in [0, 1], or differ in shape.

    Example:
        >>> images = np.full((2, 16, 16, 3), 0.5, np.float32)
        >>> found = perceptibility(images, images + np.float32([0, 0.25]).reshape(2, 1, 1, 1))
        >>> found.linf.tolist(), found.l2.round(3).tolist(), found.mse.tolist(), found.ssim.round(3).tolist()
        ([0.0, 0.25], [0.0, 6.928], [0.0, 0.0625], [1.0, 0.923])

    References:
        Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004.
    """
    images, adversarial_images = np.asarray(images), np.asarray(adversarial_images)
    for name, values in (("images", images), ("adversarial_images", adversarial_images)):
        _check_images(name, values)
    if images.shape != adversarial_images.shape:
        raise ValueError(
            f"`images` and `adversarial_images` must have one shape. Received: {images.shape} and "
            f"{adversarial_images.shape}."
        )
    blocks = [
        _of_block(images[i : i + BLOCK_IMAGES], adversarial_images[i : i + BLOCK_IMAGES])
        for i in range(0, len(images), BLOCK_IMAGES)
    ]
    return Perceptibility(*np.concatenate([np.zeros((len(Perceptibility._fields), 0)), *blocks], axis=1))


def _check_images(name: str, values: np.ndarray) -> None:
    if values.ndim != 4 or not np.issubdtype(values.dtype, np.floating):
        raise ValueError(
            f"`{name}` must be float images of shape (images, height, width, channels) in [0, 1]. Received: "
            f"{values.dtype} of shape {values.shape}. Divide pixels of 0 ... 255 by 255."
        )
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(
            f"`{name}` must lie in [0, 1]. Received values from {values.min()} to {values.max()}. Clip them, and look "
            "for NaN."
        )


def _of_block(images: np.ndarray, adversarial_images: np.ndarray) -> np.ndarray:
    """Return linf, l2, mse and SSIM of some images: float64 (4, B)."""
    delta = (adversarial_images.astype(np.float64) - images).reshape(len(images), -1)
    squares = np.square(delta)
    ssim = np.full(len(images), np.nan)
    if min(images.shape[1:3]) >= SSIM_WINDOW:
        pair = (tf.convert_to_tensor(values, tf.float32) for values in (images, adversarial_images))
        ssim = tf.image.ssim(*pair, max_val=1.0, filter_size=SSIM_WINDOW).numpy()
    return np.stack([np.abs(delta).max(axis=1), np.sqrt(squares.sum(axis=1)), squares.mean(axis=1), ssim])
