"""A small network of Lipschitz constant 1, for the joint margin certificate."""

import keras

from saat_tf.images import ImageSize, image_shape
from saat_tf.layers import MaxMin, Orthogonal

# Side of the patches and filters of each stage.
STAGES = ((4, 48), (1, 48), (2, 128), (1, 128), (2, 256), (1, 256))
SIDE_MULTIPLE = 16


def lipschitz_cnn(image_size: ImageSize, *, name: str = "lipschitz_cnn") -> keras.Model:
    """Build a network of orthogonal convolutions on patches that do not overlap, with `MaxMin` between.

    Every layer keeps or shortens L2 distances between images, so the whole does; the mean over n places at its end
    shortens them by sqrt(n) more. Kernels stay orthogonal by the constraint `Orthogonal` after each step of training.

    Args:
        image_size: side of the square input in pixels, or (height, width), multiples of 16.
        name: name of the model.

    Returns:
        Model from normalized images (B, S, S, 3) to features (B, 256).

    Raises:
        ValueError: a side is no multiple of 16.

    References:
        Anil et al., "Sorting Out Lipschitz Function Approximation", ICML 2019, for orthogonal kernels and sorting.
    """
    shape = image_shape(image_size)
    if any(side % SIDE_MULTIPLE for side in shape[:2]):
        raise ValueError(
            f"lipschitz_cnn needs images whose side is a multiple of {SIDE_MULTIPLE}. Received: "
            f"image_size={image_size}."
        )
    inputs = keras.Input(shape, name="images")
    x = inputs
    for stage, (side, filters) in enumerate(STAGES):
        x = keras.layers.Conv2D(
            filters, side, strides=side, kernel_initializer="orthogonal", kernel_constraint=Orthogonal(),
            name=f"conv{stage}",
        )(x)  # fmt: skip
        x = MaxMin(name=f"sort{stage}")(x)
    outputs = keras.layers.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(inputs, outputs, name=name)
