"""The two networks that ProS-GAN trains: a generator of perturbations and a discriminator.

Both are always float32, whatever the global policy: a perturbation of 8/255 has few digits in float16.
"""

import keras

from saat_tf.attacks.prototype_net import SEMANTIC_UNITS
from saat_tf.images import ImageSize, image_shape

LABEL_HALVINGS, DISCRIMINATOR_HALVINGS = 4, 5
RESIDUAL_BLOCKS = 6


def check_sizes(image_size: ImageSize, width: int) -> None:
    """Raise `ValueError` unless `image_size` is a multiple of 16 and `width` of 8, as the generator needs."""
    side = 2**LABEL_HALVINGS
    sides = image_shape(image_size)[:2]
    if any(one % side for one in sides):
        fitting = " x ".join(str(max(1, round(one / side)) * side) for one in dict.fromkeys(sides))
        raise ValueError(
            f"ProS-GAN needs images whose side is a positive multiple of {side} pixels: its generator doubles an image "
            f"of the label {LABEL_HALVINGS} times. Received: image_size={image_size}. Train the encoder at {fitting} "
            "pixels."
        )
    if width < 8 or width % 8:
        raise ValueError(f"`width` must be a positive multiple of 8; the paper has 64. Received: {width}.")


def generator(image_size: ImageSize, width: int = 64) -> keras.Model:
    """Build the generator: an image and a semantic representation in, a direction for each pixel out.

    The representation is grown to an image of its own (a dense layer, four doublings) and laid on the image as three
    more channels; two halvings, six residual blocks and two doublings follow, and a convolution over what they made
    and the image. Instance normalization and ReLU stand between.

    Args:
        image_size: S, or (height, width), multiples of 16.
        width: channels of the first convolution, a multiple of 8.

    Returns:
        Model from images float32 (B, S, S, 3) in [-1, 1] and semantics (B, 512) to float32 (B, S, S, 3) in [-1, 1].

    Example:
        >>> generator(32, width=8).output_shape
        (None, 32, 32, 3)

    References:
        The code of the authors of arXiv 2105.07553.
    """
    images = keras.Input(image_shape(image_size), name="images", dtype="float32")
    semantics = keras.Input((SEMANTIC_UNITS,), name="semantics", dtype="float32")
    rows, columns = (side // 2**LABEL_HALVINGS for side in image_shape(image_size)[:2])
    x = _float32(keras.layers.Dense, rows * columns * 2 * width, activation="relu")(semantics)
    x = _float32(keras.layers.Reshape, (rows, columns, 2 * width))(x)
    for halving in range(LABEL_HALVINGS):
        x = _normalized(_doubling(width >> halving)(x))  # (B, s, s, c) -> (B, 2s, 2s, c/2)
    x = _float32(keras.layers.Concatenate)([_convolution(3, 3, use_bias=False)(x), images])  # (B, S, S, 6)
    x = _normalized(_convolution(width, 7)(x))
    for factor in (2, 4):
        x = _normalized(_convolution(factor * width, 4, strides=2)(x))
    for _ in range(RESIDUAL_BLOCKS):
        inner = _normalized(_convolution(4 * width, 3, use_bias=False)(x))
        x = _float32(keras.layers.Add)([x, _instance_norm()(_convolution(4 * width, 3, use_bias=False)(inner))])
    for factor in (2, 1):
        x = _normalized(_doubling(factor * width)(x))
    x = _float32(keras.layers.Concatenate)([x, images])
    directions = _convolution(3, 3, use_bias=False, activation="tanh")(x)
    return keras.Model([images, semantics], directions, name="generator")


def discriminator(image_size: ImageSize, num_classes: int, width: int = 64) -> keras.Model:
    """Build the discriminator: which labels an image has, and whether it is made up.

    Five halvings with spectral normalization and leaky ReLU, then one convolution over what remains.

    Args:
        image_size: S, or (height, width), multiples of 16.
        num_classes: C.
        width: channels of the first convolution.

    Returns:
        Model from images float32 (B, S, S, 3) in [-1, 1] to float32 (B, C + 1): scores of the labels, then of "made
        up".

    Example:
        >>> discriminator(32, num_classes=10, width=8).output_shape
        (None, 11)

    References:
        The code of the authors of arXiv 2105.07553. Spectral normalization is Keras's layer: before each training step
        it divides the norm out of the weights themselves, not out of a copy of them.
    """
    images = keras.Input(image_shape(image_size), name="images", dtype="float32")
    x = images
    for halving in range(DISCRIMINATOR_HALVINGS):
        convolution = _convolution(width << halving, 4, strides=2)
        x = _float32(keras.layers.SpectralNormalization, convolution)(x)
        x = _float32(keras.layers.LeakyReLU, negative_slope=0.01)(x)
    x = _convolution(num_classes + 1, x.shape[1], padding="valid", use_bias=False)(x)
    return keras.Model(images, _float32(keras.layers.Flatten)(x), name="discriminator")


def _float32(kind: type[keras.layers.Layer], *args: object, **options: object) -> keras.layers.Layer:
    return kind(*args, dtype="float32", **options)


def _convolution(filters: int, size: int, padding: str = "same", **options: object) -> keras.layers.Layer:
    return _float32(keras.layers.Conv2D, filters, size, padding=padding, **options)


def _doubling(filters: int) -> keras.layers.Layer:
    return _float32(keras.layers.Conv2DTranspose, filters, 4, strides=2, padding="same", use_bias=False)


def _instance_norm() -> keras.layers.Layer:
    return _float32(keras.layers.GroupNormalization, groups=-1, epsilon=1e-5, center=False, scale=False)


def _normalized(x: keras.KerasTensor) -> keras.KerasTensor:
    return _float32(keras.layers.ReLU)(_instance_norm()(x))
