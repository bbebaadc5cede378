"""Backbones that are no name: any Keras model from images to features."""

import keras

from saat_tf.backbones.fold import is_layer_graph
from saat_tf.backbones.precision import Precision
from saat_tf.images import ImageSize, image_shape, image_size_of

REMEDY = "Leave out its head (`include_top=False` in keras.applications) and pool or flatten what remains."


def input_size(backbone: keras.Model, image_size: ImageSize | None) -> ImageSize:
    """Return the size of the images that a model takes: that of its input, or `image_size` where it takes several.

    Raises:
        ValueError: the model takes no images of three channels or of `image_size`, or says nothing of their size and
            `image_size` is None.

    Example:
        >>> input_size(keras.Sequential([keras.Input((8, 16, 3)), keras.layers.Flatten()]), None)
        (8, 16)
    """
    known = _shape(backbone, "input_shape")
    if known is None:  # a model of a class of its own
        known = (None, None, None, 3)
    if not isinstance(known, tuple) or len(known) != 4 or known[3] != 3:
        raise ValueError(
            f"A network must take one batch of images (batch, height, width, 3). Received: {backbone.name}, which "
            f"takes {known}."
        )
    if image_size is None and None in known[1:]:
        raise ValueError(
            f"{backbone.name} takes images of any size. Received: no `image_size`. Give it as a number of pixels or as "
            "(height, width)."
        )
    shape = known[1:] if image_size is None else image_shape(image_size)
    if any(side not in (None, given) for side, given in zip(known[1:], shape, strict=True)):
        raise ValueError(
            f"{backbone.name} takes images of {known[1]} x {known[2]} pixels. Received: image_size={image_size}. Leave "
            "`image_size` out."
        )
    return image_size_of(shape)


def feature_shape(backbone: keras.Model, image_size: ImageSize) -> tuple[int | None, ...]:
    """Return the shape of a model's features, (None, F) or (None, H, W, F); build it where it has no weights yet.

    Raises:
        ValueError: it returns something else.

    Example:
        >>> feature_shape(keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)]), 8)
        (None, 6, 6, 4)
    """
    shape = _shape(backbone, "output_shape")
    if shape is None:
        features = backbone(keras.Input(image_shape(image_size), dtype="float32"), training=False)
        shape = getattr(features, "shape", None)
    if not isinstance(shape, tuple) or len(shape) not in (2, 4) or shape[-1] is None:
        raise ValueError(
            "A backbone must return features (batch, F), or a map of them (batch, H, W, F), which is averaged. "
            f"Received: {backbone.name}, which returns {shape}. {REMEDY}"
        )
    return shape


def precision_of(backbone: keras.Model) -> Precision:
    """Return the precision in which a model computes, the lowest of its layers.

    Example:
        >>> precision_of(keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, dtype="mixed_bfloat16")]))
        'mixed_bfloat16'
    """
    types = {layer.compute_dtype for layer in backbone._flatten_layers()}
    if "float16" in types:
        return "mixed_float16"
    return "mixed_bfloat16" if "bfloat16" in types else "float32"


def in_float32(backbone: keras.Model) -> keras.Model:
    """Return a copy of a model of mixed precision that computes in float32, with the same weights.

    Raises:
        ValueError: it is no functional or sequential model, which Keras could copy layer by layer.

    Example:
        >>> mixed = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, dtype="mixed_float16")])
        >>> precision_of(in_float32(mixed))
        'float32'
    """
    if not is_layer_graph(backbone):
        raise ValueError(
            "Functional and sequential models can be copied in another precision. Received: a "
            f"{type(backbone).__name__}. Build it anew in float32 and give it the weights by `set_weights`."
        )

    def single(layer: keras.Layer) -> keras.Layer:
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    copy = keras.models.clone_model(backbone, clone_function=single, recursive=True)
    copy.set_weights(backbone.get_weights())
    return copy


def _shape(backbone: keras.Model, name: str) -> object:
    """Return a shape that a functional or sequential model knows of itself, else None."""
    try:
        return getattr(backbone, name)
    except AttributeError:
        return None
