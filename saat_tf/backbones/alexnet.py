"""AlexNet in the one-column layout, the backbone of most papers on adversarial attacks against hashing."""

import math

import keras
import tensorflow as tf

# 62 pixels leave nothing for the third pooling: (62 + 4 - 11) // 4 + 1 = 14, then 6, then 2, which is below 3.
MIN_IMAGE_SIZE = 63
POOLED_SIDE = 6


@keras.saving.register_keras_serializable(package="saat_tf")
class AdaptiveAveragePooling(keras.layers.Layer):
    """Average an image of any size into a square of `side` x `side` cells, as PyTorch's AdaptiveAvgPool2d does.

    Cell i averages the rows from floor(i H / side) up to, not including, ceil((i + 1) H / side), and likewise the
    columns. Cells overlap where `side` does not divide H; below `side` rows, rows are repeated.

    `keras.layers.AdaptiveAveragePooling2D` gives the same values, but in a graph it fails on inputs of one pixel,
    which is what AlexNet leaves of images of 63 to 94 pixels.

    Args:
        side: cells a side, positive.

    Returns:
        float tensor (B, side, side, C).

    Raises:
        ValueError: `side` is not positive.

    Example:
        >>> AdaptiveAveragePooling(2)(tf.reshape([1.0, 2, 3], (1, 1, 3, 1))).numpy().ravel().tolist()
        [1.5, 2.5, 1.5, 2.5]
    """

    def __init__(self, side: int, **kwargs) -> None:
        super().__init__(**kwargs)
        if side < 1:
            raise ValueError(f"`side` must be positive. Received: side={side}.")
        self.side = side

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Pool `images` (B, H, W, C)."""
        _, height, width, _ = images.shape
        if (height, width) == (self.side, self.side):
            return images
        # Slices and means rather than a product with a matrix of weights: TFLite cannot allocate that product's
        # reshapes when the batch size is unknown.
        rows = [tf.reduce_mean(images[:, a:b], axis=1, keepdims=True) for a, b in _cells(height, self.side)]
        pooled = tf.concat(rows, axis=1)  # (B, H, W, C) -> (B, side, W, C)
        columns = [tf.reduce_mean(pooled[:, :, a:b], axis=2, keepdims=True) for a, b in _cells(width, self.side)]
        return tf.concat(columns, axis=2)  # (B, side, W, C) -> (B, side, side, C)

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "side": self.side}


def alexnet(image_size: int, *, name: str = "alexnet") -> keras.Model:
    """Build AlexNet up to its second hidden dense layer, in the layout of torchvision.

    Zeros are padded explicitly, so that the padding is PyTorch's and not TensorFlow's "same". The flattened order is
    channels first, so that weights of PyTorch's dense layers need nothing but a transposition.

    Args:
        image_size: side of the square input in pixels, at least 63; 224 in the papers.
        name: name of the model.

    Returns:
        Model from normalised images (B, S, S, 3) to features (B, 4096), which are not negative.

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
    if image_size < MIN_IMAGE_SIZE:
        raise ValueError(
            f"alexnet pools three times and needs images of at least {MIN_IMAGE_SIZE} pixels. "
            f"Received: image_size={image_size}. Use small_cnn for smaller images."
        )
    inputs = keras.Input((image_size, image_size, 3), name="images")
    x = _conv(inputs, 64, 11, padding=2, stride=4, name="conv1")
    x = keras.layers.MaxPooling2D(3, 2, name="pool1")(x)
    x = _conv(x, 192, 5, padding=2, name="conv2")
    x = keras.layers.MaxPooling2D(3, 2, name="pool2")(x)
    x = _conv(x, 384, 3, padding=1, name="conv3")
    x = _conv(x, 256, 3, padding=1, name="conv4")
    x = _conv(x, 256, 3, padding=1, name="conv5")
    x = keras.layers.MaxPooling2D(3, 2, name="pool5")(x)
    x = AdaptiveAveragePooling(POOLED_SIDE, name="adaptive_pool")(x)  # -> (B, 6, 6, 256)
    x = keras.layers.Permute((3, 1, 2), name="channels_first")(x)  # (B, 6, 6, 256) -> (B, 256, 6, 6)
    x = keras.layers.Flatten(name="flatten")(x)  # (B, 256, 6, 6) -> (B, 9216)
    x = keras.layers.Dropout(0.5, name="dropout6")(x)
    x = keras.layers.Dense(4096, activation="relu", kernel_initializer="he_uniform", name="dense6")(x)
    x = keras.layers.Dropout(0.5, name="dropout7")(x)
    outputs = keras.layers.Dense(4096, activation="relu", kernel_initializer="he_uniform", name="dense7")(x)
    return keras.Model(inputs, outputs, name=name)


def _conv(
    x: keras.KerasTensor, filters: int, kernel_size: int, *, padding: int, name: str, stride: int = 1
) -> keras.KerasTensor:
    """Pad with zeros on every side, convolve and apply ReLU."""
    x = keras.layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
    return keras.layers.Conv2D(
        filters, kernel_size, strides=stride, activation="relu", kernel_initializer="he_uniform", name=name
    )(x)


def _cells(length: int, count: int) -> list[tuple[int, int]]:
    """Return where each of `count` cells over `length` places starts and, exclusively, ends."""
    return [(cell * length // count, math.ceil((cell + 1) * length / count)) for cell in range(count)]
