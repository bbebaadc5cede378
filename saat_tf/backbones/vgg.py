"""VGG-11, 13, 16 and 19, with and without batch normalization, in the layout of torchvision."""

import keras

from saat_tf.backbones.adaptive_pooling import AdaptiveAveragePooling
from saat_tf.images import ImageSize, image_shape
from saat_tf.layers import BatchNormalization, Dropout

# Depth -> convolutions of each stage. Each stage ends by halving the side.
CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
FILTERS = (64, 128, 256, 512, 512)
POOLED_SIDE = 7
DENSE_FEATURES = 4096
MIN_IMAGE_SIZE = 2 ** len(FILTERS)


def vgg(image_size: ImageSize, *, depth: int, batch_norm: bool = False) -> keras.Model:
    """Build VGG up to its second hidden dense layer and the dropout behind it.

    Stages of 3x3 convolutions with ReLU, an average over 7 x 7 cells and two dense layers. Layers have the names of
    torchvision's modules; the flattened order is channels first, so that PyTorch's dense layers need nothing but a
    transposition. Batch normalization has PyTorch's momentum (0.9 in Keras' terms) and epsilon 1e-5.

    Args:
        image_size: side of the square input in pixels, or (height, width), at least 32; 224 in the papers.
        depth: layers with weights, classifier included: 11, 13, 16 or 19.
        batch_norm: whether each convolution is normalized before its ReLU.

    Returns:
        Model from normalized images (B, S, S, 3) to features (B, 4096), which are not negative.

    Raises:
        ValueError: `image_size` is below 32, or there is no such depth.

    Example:
        >>> vgg(32, depth=11, batch_norm=True).output_shape
        (None, 4096)

    References:
        - Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015
          (arXiv:1409.1556).

    Differs from torchvision's network: the last dense layer, the classifier, is left out; weights start from He's
    uniform distribution and biases from zero; while training, Keras keeps the biased variance of a batch, PyTorch the
    unbiased.
    """
    if depth not in CONVOLUTIONS:
        raise ValueError(f"`depth` must be one of {', '.join(map(str, CONVOLUTIONS))}. Received: depth={depth}.")
    shape = image_shape(image_size)
    if min(shape[:2]) < MIN_IMAGE_SIZE:
        raise ValueError(
            f"vgg{depth} halves the side five times and needs images of at least {MIN_IMAGE_SIZE} pixels. "
            f"Received: image_size={image_size}. Use small_cnn for smaller images."
        )
    inputs = keras.Input(shape, name="images")
    x = inputs
    index = 0  # of the module in torchvision's `features`, where ReLU and pooling count too
    for filters, convolutions in zip(FILTERS, CONVOLUTIONS[depth], strict=True):
        for _ in range(convolutions):
            x = keras.layers.ZeroPadding2D(1, name=f"features.{index}_pad")(x)
            x = keras.layers.Conv2D(filters, 3, kernel_initializer="he_uniform", name=f"features.{index}")(x)
            if batch_norm:
                index += 1
                x = BatchNormalization(momentum=0.9, epsilon=1e-5, name=f"features.{index}")(x)
            x = keras.layers.ReLU(name=f"features.{index + 1}")(x)
            index += 2
        x = keras.layers.MaxPooling2D(2, 2, name=f"features.{index}")(x)
        index += 1
    x = AdaptiveAveragePooling(POOLED_SIDE, name="avgpool")(x)  # -> (B, 7, 7, 512)
    x = keras.layers.Permute((3, 1, 2), name="channels_first")(x)  # (B, 7, 7, 512) -> (B, 512, 7, 7)
    x = keras.layers.Flatten(name="flatten")(x)  # (B, 512, 7, 7) -> (B, 25088)
    x = keras.layers.Dense(DENSE_FEATURES, activation="relu", kernel_initializer="he_uniform", name="classifier.0")(x)
    x = Dropout(0.5, name="classifier.2")(x)
    x = keras.layers.Dense(DENSE_FEATURES, activation="relu", kernel_initializer="he_uniform", name="classifier.3")(x)
    outputs = Dropout(0.5, name="classifier.5")(x)
    return keras.Model(inputs, outputs, name=f"vgg{depth}_bn" if batch_norm else f"vgg{depth}")
