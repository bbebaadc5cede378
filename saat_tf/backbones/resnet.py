"""ResNet-18, 34, 50, 101 and 152 in the layout of torchvision."""

import keras

from saat_tf.images import ImageSize, image_shape
from saat_tf.layers import BatchNormalization

# Depth -> blocks of each stage. From 50 on, blocks are bottlenecks of three convolutions and four times the filters.
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
FILTERS = (64, 128, 256, 512)
BOTTLENECK_DEPTH = 50
BOTTLENECK_EXPANSION = 4
MIN_IMAGE_SIZE = 32


def resnet(image_size: ImageSize, *, depth: int) -> keras.Model:
    """Build ResNet without its classifier.

    Each block adds to its input what its convolutions make of it. Zeros are padded explicitly, so that the padding is
    PyTorch's and not TensorFlow's "same"; batch normalization has PyTorch's momentum (0.9 in Keras' terms) and epsilon
    1e-5. Layers have the names of torchvision's modules.

    Args:
        image_size: side of the square input in pixels, or (height, width), at least 32; 224 in the papers.
        depth: layers with weights, classifier included: 18, 34, 50, 101 or 152.

    Returns:
        Model from normalized images (B, S, S, 3) to pooled features, (B, 512) for 18 and 34, else (B, 2048), which are
        not negative.

    Raises:
        ValueError: `image_size` is below 32, or there is no such depth.

    Example:
        >>> resnet(32, depth=18).output_shape
        (None, 512)

    References:
        - He, Zhang, Ren, Sun, Deep Residual Learning for Image Recognition, CVPR 2016 (arXiv:1512.03385).

    Differs from the paper as torchvision does: bottlenecks take their stride in the 3x3 convolution, not in the first
    1x1. Differs from torchvision in training alone: Keras keeps the biased variance of a batch, PyTorch the unbiased.
    """
    if depth not in BLOCKS:
        raise ValueError(f"`depth` must be one of {', '.join(map(str, BLOCKS))}. Received: depth={depth}.")
    shape = image_shape(image_size)
    if min(shape[:2]) < MIN_IMAGE_SIZE:
        raise ValueError(
            f"resnet{depth} halves the side five times and needs images of at least {MIN_IMAGE_SIZE} pixels. "
            f"Received: image_size={image_size}. Use small_cnn for smaller images."
        )
    inputs = keras.Input(shape, name="images")
    x = _conv(inputs, 64, 7, "conv1", "bn1", stride=2)
    x = keras.layers.ReLU(name="relu")(x)
    # PyTorch pads with minus infinity; behind ReLU zero is as good.
    x = keras.layers.ZeroPadding2D(1, name="maxpool_pad")(x)
    x = keras.layers.MaxPooling2D(3, 2, name="maxpool")(x)
    for stage, (filters, blocks) in enumerate(zip(FILTERS, BLOCKS[depth], strict=True), start=1):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            x = _block(x, filters, stride, f"layer{stage}.{block}", bottleneck=depth >= BOTTLENECK_DEPTH)
    outputs = keras.layers.GlobalAveragePooling2D(name="avgpool")(x)  # (B, S/32, S/32, F) -> (B, F)
    return keras.Model(inputs, outputs, name=f"resnet{depth}")


def _block(x: keras.KerasTensor, filters: int, stride: int, name: str, *, bottleneck: bool) -> keras.KerasTensor:
    """Convolve two or three times and add the input, through a 1x1 convolution where the shapes differ."""
    convolutions: tuple[tuple[int, int, int], ...]
    if bottleneck:
        convolutions = ((filters, 1, 1), (filters, 3, stride), (BOTTLENECK_EXPANSION * filters, 1, 1))
    else:
        convolutions = ((filters, 3, stride), (filters, 3, 1))
    shortcut = x
    if stride != 1 or x.shape[-1] != convolutions[-1][0]:
        shortcut = _conv(x, convolutions[-1][0], 1, f"{name}.downsample.0", f"{name}.downsample.1", stride=stride)
    for number, (width, kernel_size, step) in enumerate(convolutions, start=1):
        x = _conv(x, width, kernel_size, f"{name}.conv{number}", f"{name}.bn{number}", stride=step)
        if number < len(convolutions):
            x = keras.layers.ReLU(name=f"{name}.relu{number}")(x)
    x = keras.layers.Add(name=f"{name}.add")([x, shortcut])
    return keras.layers.ReLU(name=f"{name}.relu")(x)


def _conv(
    x: keras.KerasTensor, filters: int, kernel_size: int, name: str, norm_name: str, *, stride: int = 1
) -> keras.KerasTensor:
    """Pad with zeros by half the kernel, convolve and normalize."""
    if kernel_size > 1:
        x = keras.layers.ZeroPadding2D(kernel_size // 2, name=f"{name}_pad")(x)
    x = keras.layers.Conv2D(
        filters,
        kernel_size,
        strides=stride,
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal"),
        name=name,
    )(x)
    return BatchNormalization(momentum=0.9, epsilon=1e-5, name=norm_name)(x)
