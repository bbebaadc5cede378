"""ProS-GAN: a targeted attack that is trained once and then costs one forward pass an image."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from saat_tf.attacks.objectives import alignment
from saat_tf.attacks.pros_gan_networks import check_sizes, discriminator, generator
from saat_tf.attacks.prototype_fit import BETAS, LEARNING_RATE, distinct_label_sets
from saat_tf.attacks.prototype_net import PrototypeNet
from saat_tf.batches import batch_check, batch_errors, checked_arrays, checked_batches
from saat_tf.images import shaped_images
from saat_tf.jit import StepModel
from saat_tf.labels import check_labels, checked_labels
from saat_tf.random_numbers import choices
from saat_tf.threat_model import ThreatModel

HASHING_WEIGHT = 5.0
DISCRIMINATOR_PERIOD = 3
LOSSES = ("loss", "hashing_loss", "reconstruction_loss", "realism_loss", "discriminator_loss")


@keras.saving.register_keras_serializable(package="saat_tf")
class ProSGAN(StepModel):
    """Train a generator whose images get the prototype code of any target label set, and attack with it.

    With t a target label set, f and p its semantic representation and prototype code, G the generator, D the
    discriminator, h the attacked encoder and images scaled to [-1, 1] inside:

        x' = project( x + epsilon G(x, f) )
        L_G = 5 (1 - mean(h(x') p)) + w mean((2x' - 2x)^2) + mean((D(x') - [t, 0])^2)
        L_D = ( mean((D(x) - [y, 0])^2) + mean((D(x') - [t, 1])^2) ) / 2,  every third step

    Make one with `ProSGAN.from_labels`; the constructor makes the shape that a saved one is loaded into. Fit it on a
    data set of (images, labels, index), as the hashing models; t is drawn anew for every image of every step. Encoder
    and prototype network are read in inference mode and never change. `compile`'s optimizer trains the generator; the
    discriminator has an Adam of its own, with the learning rate of that one; in an epoch of fewer than three steps
    its loss may read 0 where there was no step. Train on one replica.

    Args:
        encoder: the model to attack; `encoder(images, training=False)` gives relaxed codes (B, K), and it has
            `image_size` (a multiple of 16) and `code_length`.
        prototype_net: fitted; `fit_semantic_prototype_net` gives the published one, THA's serves too.
        num_label_sets: M, how many target label sets there are to draw from.
        epsilon: radius of the ball in pixel units of [0, 1].
        width: channels of the first convolutions, a multiple of 8; 64 in the authors' code.
        reconstruction_weight: w; 50 in the authors' code, 100 for FLICKR-25K.
        seed: seed of the draws of targets.

    Returns:
        Called on images float32 (B, S, S, 3) in [0, 1] and target labels (B, C): adversarial images like the images.

    Raises:
        ValueError: encoder and prototype network differ in code length, or a number is out of its range.

    Example:
        >>> from saat_tf.models import HashingModel
        >>> encoder = HashingModel("small_cnn", code_length=16, image_size=32)
        >>> gan = ProSGAN.from_labels(encoder, PrototypeNet(4, 16), np.eye(4), width=8)
        >>> gan.compile(keras.optimizers.Adam(1e-4, beta_1=0.5))
        >>> gan.attack(encoder, tf.zeros((1, 32, 32, 3)), tf.eye(4)[:1]).shape
        TensorShape([1, 32, 32, 3])

    Published settings: batches of 24, a hundred epochs, Adam with 1e-4 and betas 0.5 and 0.999, from the fiftieth epoch
    on straight down: `keras.callbacks.LearningRateScheduler(lambda epoch: 1e-4 * min(1, (100 - epoch) / 51))`.

    References:
        Wang et al., "Prototype-supervised Adversarial Network for Targeted Attack of Deep Hashing", CVPR 2021,
        arXiv 2105.07553, and its authors' code.

    Differs from the authors' code: their generator draws the whole image, held near the original by the
    reconstruction loss alone; here it draws a perturbation inside the ball, as every attack must, and the
    reconstruction loss only makes it smaller still. Targets are drawn from the training set's label sets, not the
    database's, and the empty set is none.
    """

    def __init__(
        self,
        encoder: keras.Model,
        prototype_net: PrototypeNet,
        num_label_sets: int,
        *,
        epsilon: float = 8 / 255,
        width: int = 64,
        reconstruction_weight: float = 50.0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        check_sizes(encoder.image_size, width)
        if encoder.code_length != prototype_net.code_length:
            raise ValueError(
                "Encoder and prototype network must have one code length. Received: "
                f"{encoder.code_length} and {prototype_net.code_length} bits. Fit the network to this encoder's codes."
            )
        if reconstruction_weight < 0:
            raise ValueError(f"`reconstruction_weight` must be at least 0. Received: {reconstruction_weight}.")
        self.threat_model = ThreatModel(epsilon)
        self.encoder = encoder
        self.prototype_net = prototype_net
        self.num_label_sets = num_label_sets
        self.width = width
        self.reconstruction_weight = reconstruction_weight
        self.seed = seed
        self.generator = generator(encoder.image_size, width)
        self.discriminator = discriminator(encoder.image_size, prototype_net.num_classes, width)
        self.discriminator_optimizer = keras.optimizers.Adam(LEARNING_RATE, *BETAS)
        self.discriminator_optimizer.build(self.discriminator.trainable_variables)
        self.label_sets = self.add_weight(
            name="label_sets",
            shape=(num_label_sets, prototype_net.num_classes),
            initializer="zeros",
            trainable=False,
        )
        self.loss_means = {name: keras.metrics.Mean(name=name) for name in LOSSES}
        self.built = True

    @classmethod
    def from_labels(
        cls, encoder: keras.Model, prototype_net: PrototypeNet, train_labels: np.ndarray, **options: Any
    ) -> "ProSGAN":
        """Make an untrained one whose targets are the distinct non-empty rows of `train_labels` (N, C) of 0/1.

        Raises:
            ValueError: `train_labels` are not 0/1, have no labeled row, or other classes than the prototype network.
        """
        train_labels = check_labels(train_labels, "train_labels")
        if train_labels.shape[1] != prototype_net.num_classes or not train_labels.any():
            raise ValueError(
                f"`train_labels` must be (items, {prototype_net.num_classes}), the classes of the prototype network, "
                f"with at least one label. Received: shape {train_labels.shape}."
            )
        label_sets = distinct_label_sets(train_labels)
        gan = cls(encoder, prototype_net, len(label_sets), **options)
        gan.label_sets.assign(label_sets)
        return gan

    def call(self, images: tf.Tensor, target_labels: tf.Tensor) -> tf.Tensor:
        """Return adversarial images: float32 (B, S, S, 3) in [0, 1], target labels (B, C) -> like the images."""
        directions = self.generator([2.0 * images - 1.0, self.prototype_net.semantics(target_labels)])
        return self.threat_model.project(images + self.threat_model.epsilon * directions, images)

    def attack(
        self,
        encoder: keras.Model | None,
        images: tf.Tensor,
        target_labels: tf.Tensor,
        seed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Return adversarial images, with the arguments that every attack takes.

        Args:
            encoder: not looked at; the generator knows the encoder that it was trained on, and against another one
                this is a transfer attack.
            images: float32 (B, S, S, 3) in [0, 1].
            target_labels: (B, C) of 0/1.
            seed: not used, the generator draws nothing.

        Returns:
            float32 (B, S, S, 3), inside the ball and [0, 1].

        Raises:
            ValueError: images that are not floats of the encoder's size, or target labels of other rows or classes, or
                not 0/1.
        """
        del encoder, seed
        images, target_labels = shaped_images(images, self.encoder.image_size), tf.convert_to_tensor(target_labels)
        expected = tf.TensorShape([images.shape[0], self.prototype_net.num_classes])
        if not expected.is_compatible_with(target_labels.shape):
            raise ValueError(
                f"`target_labels` must be one row of {expected[1]} classes for each image. Received: shape "
                f"{target_labels.shape} for {expected[0]} images."
            )
        return self._attack(images, checked_labels(target_labels, "target_labels"))

    @tf.function(reduce_retracing=True)
    def _attack(self, images: tf.Tensor, target_labels: tf.Tensor) -> tf.Tensor:
        return self(images, target_labels)

    def fit(self, x: Any = None, y: Any = None, **options: Any) -> keras.callbacks.History:
        """Fit as Keras does, on images (N, S, S, 3) and labels (N, C), or on batches of them.

        Raises:
            ValueError: images or labels of a batch are not what they must be, before its step.
        """
        check = batch_check(checked_labels, self.encoder.image_size)
        if isinstance(x, tf.data.Dataset):
            x = checked_batches(x, check)
        elif y is not None:
            x, y = checked_arrays(x, y, check)
        with batch_errors():
            return super().fit(x, y, **options)

    def train_step(self, data: tuple[tf.Tensor, ...]) -> dict:
        """Do one step on images (B, S, S, 3) and labels (B, C); an index is not read."""
        images, labels = data[:2]
        targets = self.draw_targets(tf.shape(images)[0])
        prototype_codes = self.prototype_net.prototype_codes(targets)
        variables = self.generator.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            adversarial_images = self(images, targets)
            with tape.stop_recording():
                self.train_discriminator(images, labels, adversarial_images, targets)
            relaxed_codes = tf.cast(self.encoder(adversarial_images, training=False), tf.float32)
            hashing = 1.0 - tf.reduce_mean(alignment(relaxed_codes, prototype_codes))
            reconstruction = tf.reduce_mean(tf.square(2.0 * (adversarial_images - images)))
            realism = self.judge(adversarial_images, targets, made_up=0.0, training=False)
            loss = HASHING_WEIGHT * hashing + self.reconstruction_weight * reconstruction + realism
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        losses = {"loss": loss, "hashing_loss": hashing, "reconstruction_loss": reconstruction, "realism_loss": realism}
        for name, value in losses.items():
            self.loss_means[name].update_state(value)
        return {name: mean.result() for name, mean in self.loss_means.items()}

    def draw_targets(self, num_images: tf.Tensor) -> tf.Tensor:
        """Draw a target label set for each image of this step, the same for the same seed: float32 (B, C)."""
        seed = tf.stack([tf.cast(self.seed, tf.int64), tf.cast(self.optimizer.iterations, tf.int64)])
        drawn = choices(num_images, self.num_label_sets, seed)
        return tf.gather(self.label_sets, drawn)

    def train_discriminator(
        self, images: tf.Tensor, labels: tf.Tensor, adversarial_images: tf.Tensor, targets: tf.Tensor
    ) -> None:
        """Do the discriminator's part of a step: nothing, but in every third step."""
        variables = self.discriminator.trainable_variables

        def step() -> None:
            with tf.GradientTape() as tape:
                real = self.judge(images, labels, made_up=0.0, training=True)
                loss = (real + self.judge(adversarial_images, targets, made_up=1.0, training=True)) / 2.0
            self.discriminator_optimizer.learning_rate.assign(tf.convert_to_tensor(self.optimizer.learning_rate))
            self.discriminator_optimizer.apply(tape.gradient(loss, variables), variables)
            self.loss_means["discriminator_loss"].update_state(loss)

        tf.cond(self.optimizer.iterations % DISCRIMINATOR_PERIOD == 0, step, lambda: None)

    def judge(self, images: tf.Tensor, labels: tf.Tensor, *, made_up: float, training: bool) -> tf.Tensor:
        """Return the mean of (D(x) - [y, made_up])^2 for images (B, S, S, 3) in [0, 1] and labels (B, C): a scalar."""
        wanted = tf.pad(tf.cast(labels, tf.float32), [[0, 0], [0, 1]], constant_values=made_up)  # (B, C) -> (B, C + 1)
        return tf.reduce_mean(tf.square(self.discriminator(2.0 * images - 1.0, training=training) - wanted))

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """Variables that the optimizer trains: those of the generator, and nothing of the encoder."""
        return self.generator.trainable_variables

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The mean of each loss over the epoch."""
        return list(self.loss_means.values())

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        parts = {"encoder": self.encoder, "prototype_net": self.prototype_net}
        return {
            **super().get_config(),
            **{name: keras.saving.serialize_keras_object(part) for name, part in parts.items()},
            "num_label_sets": self.num_label_sets,
            "epsilon": self.threat_model.epsilon,
            "width": self.width,
            "reconstruction_weight": self.reconstruction_weight,
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict) -> "ProSGAN":
        """Rebuild the model with its parts."""
        parts = ("encoder", "prototype_net")
        return cls(**{k: keras.saving.deserialize_keras_object(v) if k in parts else v for k, v in config.items()})
