"""AlexNet in the one-column layout, the backbone of most papers on adversarial attacks against hashing."""

import keras

from saat_tf.backbones.adaptive_pooling import AdaptiveAveragePooling
from saat_tf.images import ImageSize, image_shape
from saat_tf.layers import Dropout

# 62 pixels leave nothing for the third pooling: (62 + 4 - 11) // 4 + 1 = 14, then 6, then 2, which is below 3.
MIN_IMAGE_SIZE = 63
POOLED_SIDE = 6


def alexnet(image_size: ImageSize, *, name: str = "alexnet") -> keras.Model:
    """Build AlexNet up to its second hidden dense layer, in the layout of torchvision.

    Zeros are padded explicitly, so that the padding is PyTorch's and not TensorFlow's "same". The flattened order is
    channels first, so that weights of PyTorch's dense layers need nothing but a transposition. Layers have the names of
    torchvision's modules.

    Args:
        image_size: side of the square input in pixels, or (height, width), at least 63; 224 in the papers.
        name: name of the model.

    Returns:
        Model from normalized images (B, S, S, 3) to features (B, 4096), which are not negative.

    Raises:
        ValueError: `image_size` is below 63.

    Example:
        >>> alexnet(64).output_shape
        (None, 4096)

    References:
        - Krizhevsky, One weird trick for parallelizing convolutional neural networks, 2014 (arXiv:1404.5997).

    Differs from torchvision's network: the last dense layer, the classifier, is left out; weights start from He's
    uniform distribution, which keeps the scale of activations through ReLU, and biases from zero.
    """
    shape = image_shape(image_size)
    if min(shape[:2]) < MIN_IMAGE_SIZE:
        raise ValueError(
            f"alexnet pools three times and needs images of at least {MIN_IMAGE_SIZE} pixels. "
            f"Received: image_size={image_size}. Use small_cnn for smaller images."
        )
    inputs = keras.Input(shape, name="images")
    x = _conv(inputs, 64, 11, padding=2, stride=4, name="features.0")
    x = keras.layers.MaxPooling2D(3, 2, name="features.2")(x)
    x = _conv(x, 192, 5, padding=2, name="features.3")
    x = keras.layers.MaxPooling2D(3, 2, name="features.5")(x)
    x = _conv(x, 384, 3, padding=1, name="features.6")
    x = _conv(x, 256, 3, padding=1, name="features.8")
    x = _conv(x, 256, 3, padding=1, name="features.10")
    x = keras.layers.MaxPooling2D(3, 2, name="features.12")(x)
    x = AdaptiveAveragePooling(POOLED_SIDE, name="avgpool")(x)  # -> (B, 6, 6, 256)
    x = keras.layers.Permute((3, 1, 2), name="channels_first")(x)  # (B, 6, 6, 256) -> (B, 256, 6, 6)
    x = keras.layers.Flatten(name="flatten")(x)  # (B, 256, 6, 6) -> (B, 9216)
    x = Dropout(0.5, name="classifier.0")(x)
    x = keras.layers.Dense(4096, activation="relu", kernel_initializer="he_uniform", name="classifier.1")(x)
    x = Dropout(0.5, name="classifier.3")(x)
    outputs = keras.layers.Dense(4096, activation="relu", kernel_initializer="he_uniform", name="classifier.4")(x)
    return keras.Model(inputs, outputs, name=name)


def _conv(
    x: keras.KerasTensor, filters: int, kernel_size: int, *, padding: int, name: str, stride: int = 1
) -> keras.KerasTensor:
    """Pad with zeros on every side, convolve and apply ReLU."""
    x = keras.layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
    return keras.layers.Conv2D(
        filters, kernel_size, strides=stride, activation="relu", kernel_initializer="he_uniform", name=name
    )(x)
