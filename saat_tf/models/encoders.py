"""Encoders of any kind: what an evaluation needs of one, and how other models are made one."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, Self

import keras
import numpy as np
import tensorflow as tf

from saat_tf.attacks.encoder import check_encoder
from saat_tf.backbones.own import input_size
from saat_tf.codes import check_packable, pack_codes
from saat_tf.images import ImageSize, checked_images, image_shape, image_size_of, shaped_images
from saat_tf.models.hashing_model import HashingModel
from saat_tf.random_numbers import uniform


class CodeEncoder(Protocol):
    """Model that is attacked and evaluated: `HashingModel` is one, and `as_encoder` makes one of others."""

    image_size: ImageSize
    code_length: int

    def __call__(self, images: tf.Tensor, alpha: float | tf.Tensor = 1.0, training: bool = False) -> tf.Tensor:
        """Return h = tanh(alpha z) of images float32 (B, H, W, 3) in [0, 1]: float32 (B, K)."""

    def encode(self, images: tf.Tensor) -> tf.Tensor:
        """Return packed codes of images float32 (B, H, W, 3) in [0, 1]: uint8 (B, K / 8)."""

    def for_inference(self) -> Self:
        """Return a model of the same outputs up to rounding that infers faster, or itself."""


class WrappedEncoder:
    """Encoder around a function f from images to real numbers: z = f(x) - threshold, h = tanh(alpha z), code sign(z).

    Made by `as_encoder`, which says what is checked.

    Args:
        function: (images float32 (B, H, W, 3) in [0, 1], training) -> float (B, K).
        image_size: side of the images in pixels, or (height, width).
        threshold: of each bit, float scalar or (K,).

    Raises:
        ValueError: the function returns no finite floats (B, K), has no gradient, or the threshold does not fit.
    """

    precision = "float32"

    def __init__(
        self, function: Callable[[tf.Tensor, bool], tf.Tensor], image_size: ImageSize, threshold: float | np.ndarray
    ) -> None:
        self.function = function
        self.image_size = image_size_of(image_shape(image_size))
        self.code_length = _code_length(function, self.image_size)
        self.threshold = np.asarray(threshold, np.float32)
        if self.threshold.shape not in ((), (self.code_length,)) or not np.isfinite(self.threshold).all():
            raise ValueError(
                f"`threshold` must be a number or one for each of the {self.code_length} bits. Received: shape "
                f"{self.threshold.shape}. Give the medians over the training set, for example."
            )

    def logits(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return z: images float32 (B, H, W, 3) in [0, 1] -> float32 (B, K)."""
        images = shaped_images(images, self.image_size)
        if images.shape[0] == 0:
            return tf.zeros((0, self.code_length))
        return tf.cast(self.function(images, training), tf.float32) - self.threshold

    def __call__(self, images: tf.Tensor, alpha: float | tf.Tensor = 1.0, training: bool = False) -> tf.Tensor:
        """Return h = tanh(alpha z): images float32 (B, H, W, 3) in [0, 1] -> float32 (B, K)."""
        return tf.tanh(alpha * self.logits(images, training))

    def encode(self, images: tf.Tensor) -> tf.Tensor:
        """Return packed codes: images float32 (B, H, W, 3) in [0, 1] -> uint8 (B, K / 8), most significant bit first.

        Raises:
            ValueError: as `HashingModel.encode`.
        """
        check_packable(self.code_length)
        images = checked_images(images, self.image_size)
        if images.shape[0] == 0:
            return pack_codes(tf.zeros((0, self.code_length)))
        return self._encode(images)

    @tf.function(reduce_retracing=True)
    def _encode(self, images: tf.Tensor) -> tf.Tensor:
        return pack_codes(self.logits(images))

    def for_inference(self) -> "WrappedEncoder":
        """Return itself: of the function nothing is known that could be made faster."""
        return self


def as_encoder(
    model: Any,
    *,
    image_size: ImageSize | None = None,
    threshold: float | np.ndarray = 0.0,
    signature: str = "serving_default",
    output: str | None = None,
) -> CodeEncoder:
    """Make an encoder of a model that gives real numbers, so that it can be attacked and evaluated as it is.

    tanh(alpha z) is put on here, with the alpha that an attack asks for; the code is the sign of z, the model's numbers
    less a threshold.

    Args:
        model: a Keras model or a function from images float32 (B, H, W, 3) in [0, 1] to logits or an embedding, float
            (B, K): in front of a tanh or a sign; a SavedModel, its folder or what `tf.saved_model.load` returned; or a
            `HashingModel`, which is an encoder already.
        image_size: side of the images in pixels, or (height, width); needed where the model does not say it.
        threshold: number above which a bit is 1, one for all bits or one for each, (K,).
        signature: of a SavedModel, the name of the signature.
        output: of that signature, the name of the output; by default the only one that is float (B, K).

    Returns:
        The encoder. It trains nothing; `HashingModel(backbone=model, ...)` is for that.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: the model takes other images, does not return finite floats (B, K), has no gradient with respect to
            the images, or has no such signature or output; the message names what there is.

    Example:
        >>> encoder = as_encoder(lambda images: tf.reduce_mean(images, (1, 2)), image_size=4, threshold=0.5)
        >>> encoder(tf.ones((1, 4, 4, 3)), alpha=2.0).numpy().round(2)
        array([[0.76, 0.76, 0.76]], dtype=float32)
    """
    if isinstance(model, HashingModel) and not np.any(threshold):
        return model
    if isinstance(model, str | os.PathLike):
        if not (Path(model) / "saved_model.pb").is_file():
            raise FileNotFoundError(f"{model}: no SavedModel. Expected a folder with saved_model.pb.")
        model = tf.saved_model.load(str(model))
    if isinstance(model, HashingModel):
        return WrappedEncoder(model.logits, model.image_size, threshold)
    if isinstance(model, keras.Model):
        own_size = input_size(model, image_size)
        return WrappedEncoder(lambda images, training: model(images, training=training), own_size, threshold)
    if hasattr(model, "signatures"):
        function, size = _signature(model, signature, output, image_size)
    elif callable(model):
        function, size = model, image_size
    else:
        raise ValueError(
            "An encoder is made of a Keras model, a function, a SavedModel or a HashingModel. Received: a "
            f"{type(model).__name__}."
        )
    if size is None:
        raise ValueError(
            "A function does not say which images it takes. Received: no `image_size`. Give it as a number of pixels "
            "or as (height, width)."
        )
    return WrappedEncoder(lambda images, training: function(images), size, threshold)


def checked_encoder(encoder: CodeEncoder) -> CodeEncoder:
    """Return `encoder`; raise `ValueError` where it is none, or one that has no codes.

    Example:
        >>> checked_encoder(lambda images, alpha, training: images)
        Traceback (most recent call last):
        ValueError: An evaluation needs `encode`, `image_size` and `code_length`. Received: a function. Wrap ...
    """
    check_encoder(encoder)
    if not all(hasattr(encoder, name) for name in ("encode", "image_size", "code_length", "for_inference")):
        raise ValueError(
            "An evaluation needs `encode`, `image_size` and `code_length`. Received: a "
            f"{type(encoder).__name__}. Wrap what gives the numbers in front of the tanh: saat_tf.as_encoder(model)."
        )
    return encoder


def _code_length(function: Callable[[tf.Tensor, bool], tf.Tensor], image_size: ImageSize) -> int:
    """Return K, after a look at what a function makes of two drawn images, and at its gradient."""
    images = uniform((2, *image_shape(image_size)), (0, 0))
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        found = function(images, False)
    shape = tuple(found.shape) if tf.is_tensor(found) else ()
    if len(shape) != 2 or shape[0] != 2 or not shape[1] or not found.dtype.is_floating:
        received = f"{found.dtype.name} of shape {shape}" if tf.is_tensor(found) else f"a {type(found).__name__}"
        raise ValueError(
            f"An encoder must return floats (batch, bits). Received: {received} for 2 images. Pool or flatten the "
            "features, and end with the layer whose sign is the code."
        )
    if not np.isfinite(found).all():
        raise ValueError("An encoder must return finite numbers. Received: NaN or infinity for drawn images.")
    slopes = tape.gradient(found, images)
    if slopes is None or not np.any(slopes):
        received = "without one" if slopes is None else "whose gradient is zero everywhere"
        raise ValueError(
            f"An attack needs the gradient of the codes with respect to the images. Received: an encoder {received}. "
            "Look for rounding, a sign, an argmax or a NumPy function in it; give the numbers in front of the sign."
        )
    return int(shape[1])


def _signature(
    model: Any, name: str, output: str | None, image_size: ImageSize | None
) -> tuple[Callable[[tf.Tensor], tf.Tensor], ImageSize | None]:
    """Return a signature of a SavedModel as a function of images, and their size where it says it."""
    signatures = model.signatures
    if name not in signatures:
        raise ValueError(f"`signature` must be one of {', '.join(signatures)}. Received: {name!r}.")
    run = signatures[name]
    inputs, outputs = run.structured_input_signature[1], run.structured_outputs
    images = [(key, spec) for key, spec in inputs.items() if spec.shape.rank == 4 and spec.dtype.is_floating]
    if len(inputs) != 1 or not images:
        raise ValueError(
            f"The signature {name} must take floats (batch, height, width, 3) alone. Received: {_listed(inputs)}. "
            f"There are the signatures {', '.join(signatures)}."
        )
    floats = [key for key, spec in outputs.items() if spec.dtype.is_floating and spec.shape.rank == 2]
    chosen = [output] if output in floats else floats if output is None else []
    if len(chosen) != 1:
        raise ValueError(
            f"One output of {name}, floats (batch, bits), must be chosen by `output`, or another `signature` of "
            f"{', '.join(signatures)}. Received: output={output!r} of {_listed(outputs)}."
        )
    ((key, spec),) = images
    size = image_size_of(spec.shape[1:]) if image_size is None and None not in spec.shape[1:3] else image_size

    def function(images: tf.Tensor) -> tf.Tensor:
        return model.signatures[name](**{key: images})[chosen[0]]  # by the model, whose variables it thereby keeps

    return function, size


def _listed(specs: dict[str, tf.TensorSpec]) -> str:
    return ", ".join(f"{key} ({spec.dtype.name} {spec.shape})" for key, spec in sorted(specs.items()))
