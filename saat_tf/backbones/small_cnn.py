"""A convolutional network that a laptop trains in a minute."""

import keras

from saat_tf.images import ImageSize, image_shape
from saat_tf.layers import BatchNormalization

WIDTHS = (24, 48, 96)


def small_cnn(image_size: ImageSize, *, name: str = "small_cnn") -> keras.Model:
    """Build a small convolutional network.

    Three stages of two 3x3 convolutions with batch normalization and ReLU, each halving the side; then the
    average over the remaining places.

    Args:
        image_size: side of the square input in pixels, or (height, width), at least 16.
        name: name of the model.

    Returns:
        Model from normalized images (B, S, S, 3) to features (B, 96).

    Raises:
        ValueError: `image_size` is below 16.
    """
    shape = image_shape(image_size)
    if min(shape[:2]) < 16:
        raise ValueError(f"small_cnn needs images of at least 16 pixels. Received: image_size={image_size}.")
    inputs = keras.Input(shape, name="images")
    x = inputs
    for stage, width in enumerate(WIDTHS):
        for repeat in range(2):
            stride = 2 if repeat == 0 else 1
            x = keras.layers.Conv2D(
                width,
                3,
                strides=stride,
                padding="same",
                use_bias=False,
                kernel_initializer="he_normal",
                name=f"stage{stage}_conv{repeat}",
            )(x)
            x = BatchNormalization(momentum=0.9, name=f"stage{stage}_norm{repeat}")(x)
            x = keras.layers.ReLU(name=f"stage{stage}_relu{repeat}")(x)
    outputs = keras.layers.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(inputs, outputs, name=name)
