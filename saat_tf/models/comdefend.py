"""ComDefend: a network in front that compresses an image and draws it anew."""

import math
from typing import Any

import keras
import tensorflow as tf

from saat_tf.batches import batch_errors, blocks, is_array
from saat_tf.images import ImageSize, checked_images, shaped_images
from saat_tf.jit import StepModel
from saat_tf.models.fit_data import refuse_options
from saat_tf.models.hashing_model import HashingModel
from saat_tf.random_numbers import normal
from saat_tf.replicas import refuse_several

COMPRESSOR_CHANNELS = (16, 32, 64, 128, 256, 128, 64, 32, 12)
RECONSTRUCTOR_CHANNELS = (32, 64, 128, 256, 128, 64, 32, 16, 3)
NOISE_STD = 20.0
CODE_WEIGHT = 1e-4


@keras.saving.register_keras_serializable(package="saat_tf")
class Purifier(StepModel):
    """Compress each pixel to 12 bits and draw the image anew from them: x -> c = 1[z(x) > 0] -> r(c).

    z and r are nine convolutions each, 3 x 3, with ELU between. It is trained on clean images, with noise that forces
    z away from 0, and needs no labels and no attack:

        L = mean( (r(s) - x)^2 ) + 1e-4 mean( s^2 ),   s = sigmoid( z(x) - n ),  n ~ Normal(0, std^2)

    The bits c have no slope, which masks the gradient of an attack without making the model robust. So their slope is
    set to that of the mean of 1[z - n > 0] over the noise of training, Phi'(z / std) / std (backward pass
    differentiable approximation): an attack on the model goes through the purifier, and a score of it means something.

    Fit it on images, alone or with labels and index, which are not read.

    Args:
        noise_std: std; 20 in the paper.
        seed: seed of the noise in training.

    Returns:
        Called on images float32 (B, S, S, 3) in [0, 1]: images of the same shape and range. Nothing is random.

    Raises:
        ValueError: `noise_std` is not above 0.

    Example:
        >>> purifier = Purifier()
        >>> purifier.compile(keras.optimizers.Adam(1e-4, beta_1=0.5))
        >>> purifier(tf.zeros((1, 8, 8, 3))).shape
        TensorShape([1, 8, 8, 3])

    References:
        Jia et al., "ComDefend: An Efficient Image Compression Model to Defend Adversarial Examples", CVPR 2019, with
        the numbers of the code of SAAT's authors; the slope by Athalye et al., "Obfuscated Gradients Give a False Sense
        of Security", ICML 2018.

    Differs from the code of SAAT's authors: they draw noise at test time too and do not round, so that their model is
    random and an attack sees another model at each step.
    """

    def __init__(self, noise_std: float = NOISE_STD, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 < noise_std < math.inf:
            raise ValueError(f"`noise_std` must be above 0 and finite. Received: {noise_std}. It is 20 in the paper.")
        self.noise_std = noise_std
        self.seed = seed
        self.compressor = _convolutions(3, COMPRESSOR_CHANNELS, None, "compressor")
        self.reconstructor = _convolutions(COMPRESSOR_CHANNELS[-1], RECONSTRUCTOR_CHANNELS, "sigmoid", "reconstructor")
        self.loss_mean = keras.metrics.Mean(name="loss")
        self.built = True

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Return purified images: float32 (B, S, S, 3) in [0, 1]."""
        return self.reconstructor(bits(self.compressor(images), self.noise_std))

    def fit(self, x: Any = None, y: Any = None, **options: Any) -> keras.callbacks.History:
        """Fit as Keras does, on images, float32 (N, S, S, 3) in [0, 1], or batches whose first part they are.

        Raises:
            ValueError: they are something else, or weights of items are given.
        """
        refuse_options(options)
        if isinstance(options.get("validation_data"), tf.data.Dataset):
            options["validation_data"] = _checked(options["validation_data"])
        with batch_errors():
            return super().fit(_checked(x), y, **options)

    def evaluate(self, x: Any = None, y: Any = None, **options: Any) -> Any:
        """Evaluate as Keras does, on what `fit` takes.

        Raises:
            ValueError: as `fit`.
        """
        refuse_options(options)
        with batch_errors():
            return super().evaluate(_checked(x), y, **options)

    def train_step(self, data: tf.Tensor | tuple[tf.Tensor, ...]) -> dict:
        """Do one step on images (B, S, S, 3), or a tuple of them, labels and index, which are not read."""
        refuse_several("`Purifier`", "Train it on one device.")
        images = _images_of(data)
        with tf.GradientTape() as tape:
            loss = self.reconstruction_loss(images, self.optimizer.iterations)
        with tf.control_dependencies([loss]):  # as in `TrainingModel.descend`
            self.optimizer.apply(tape.gradient(loss, self.trainable_variables), self.trainable_variables)
        self.loss_mean.update_state(loss)
        return {"loss": self.loss_mean.result()}

    def test_step(self, data: tf.Tensor | tuple[tf.Tensor, ...]) -> dict:
        """Add the loss of images (B, S, S, 3), under the noise of the first step, to its mean."""
        self.loss_mean.update_state(self.reconstruction_loss(_images_of(data), tf.constant(0)))
        return {"loss": self.loss_mean.result()}

    def reconstruction_loss(self, images: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """Return L of images (B, S, S, 3) under the noise of a step: a scalar."""
        seed = tf.stack([tf.cast(self.seed, tf.int64), tf.cast(step, tf.int64)])
        logits = self.compressor(images)
        codes = tf.sigmoid(logits - normal(tf.shape(logits), seed, self.noise_std))
        error = tf.reduce_mean(tf.square(self.reconstructor(codes) - images))
        return error + CODE_WEIGHT * tf.reduce_mean(tf.square(codes))

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The mean of the loss over the epoch."""
        return [self.loss_mean]

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        return {**super().get_config(), "noise_std": self.noise_std, "seed": self.seed}


@keras.saving.register_keras_serializable(package="saat_tf")
class PurifiedModel(HashingModel):
    """A hashing model that sees purified images: h(purify(x)). It is encoded with, attacked and exported like another.

    Make one with `PurifiedModel.from_parts`; the constructor makes the shape that a saved one is loaded into.

    Args:
        backbone: a name in `saat_tf.backbones.BACKBONES`, or a Keras model from images to features.
        code_length: K, the number of bits.
        image_size: side of the square input in pixels, or (height, width).
        noise_std: that of the purifier.
        **options: those of `ImageModel`.

    Raises:
        ValueError: unknown backbone, or a number that cannot be.

    Example:
        >>> encoder = HashingModel("small_cnn", code_length=16, image_size=16)
        >>> PurifiedModel.from_parts(Purifier(), encoder).encode(tf.zeros((2, 16, 16, 3))).shape
        TensorShape([2, 2])
    """

    def __init__(
        self,
        backbone: str | keras.Model,
        code_length: int,
        image_size: ImageSize | None = None,
        noise_std: float = NOISE_STD,
        **options: Any,
    ) -> None:
        super().__init__(backbone, code_length, image_size, **options)
        self.purifier = Purifier(noise_std, name="purifier")

    @classmethod
    def from_parts(cls, purifier: Purifier, encoder: HashingModel) -> "PurifiedModel":
        """Put a copy of `purifier` in front of a copy of `encoder`."""
        backbone = encoder.backbone_name or keras.models.clone_model(encoder.backbone)
        model = cls(**{**encoder.arguments(), "backbone": backbone, "noise_std": purifier.noise_std})
        for copy, part in (
            (model.purifier, purifier),
            (model.backbone, encoder.backbone),
            (model.hash_head, encoder.hash_head),
        ):
            copy.set_weights(part.get_weights())
        return model

    def features(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return the features of the purified images: float32 (B, F)."""
        images = shaped_images(images, self.image_size)
        return super().features(self.purifier(images) if images.shape[0] != 0 else images, training)

    def stages(self) -> list[keras.layers.Layer]:
        """Return the purifier and what comes behind it, in their order."""
        return [self.purifier, *super().stages()]

    def arguments(self) -> dict:
        """Return the constructor's arguments, the backbone as a name or as the model itself."""
        return {**super().arguments(), "noise_std": self.purifier.noise_std}


def bits(logits: tf.Tensor, noise_std: float) -> tf.Tensor:
    """Return 1[z > 0] with the slope of Phi(z / std), the mean of 1[z - n > 0] over n ~ Normal(0, std^2).

    Args:
        logits: z, float of any shape.
        noise_std: std, above 0.

    Returns:
        0 or 1, of the shape and type of `logits`.

    Example:
        >>> bits(tf.constant([-3.0, 0.0, 2.0]), noise_std=20.0).numpy().tolist()
        [0.0, 0.0, 1.0]
    """
    mean = 0.5 * (1.0 + tf.math.erf(logits / (math.sqrt(2.0) * noise_std)))
    hard = tf.cast(logits > 0, logits.dtype)
    # In this order nothing is rounded: what is added is 0.
    return hard + (mean - tf.stop_gradient(mean))


def _images_of(data: tf.Tensor | tuple[tf.Tensor, ...]) -> tf.Tensor:
    return data[0] if isinstance(data, tuple | list) else data


def _checked(x: Any) -> Any:
    """Return images in memory or a data set of batches, with its images checked; others as they are."""
    check = tf.autograph.experimental.do_not_convert(lambda images, *rest: (checked_images(images), *rest))
    if isinstance(x, tf.data.Dataset):
        return x.map(check)
    if is_array(x):
        for rows in blocks(len(x)):
            checked_images(x[rows])
    return x


def _convolutions(
    channels_in: int, channels: tuple[int, ...], last_activation: str | None, name: str
) -> keras.Sequential:
    activations = ["elu"] * (len(channels) - 1) + [last_activation]
    layers = [
        keras.layers.Conv2D(filters, 3, padding="same", activation=activation)
        for filters, activation in zip(channels, activations, strict=True)
    ]
    return keras.Sequential([keras.Input((None, None, channels_in)), *layers], name=name)
