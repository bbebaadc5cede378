"""Base of the training models: the encoder, an optimizer's step, their metrics and how they are saved."""

from typing import Any

import keras
import tensorflow as tf

from saat_tf.jit import StepModel
from saat_tf.models.image_model import ImageModel
from saat_tf.replicas import finite_in_all_or_none, share, step_over_workers, whole_batch


class TrainingModel(StepModel):
    """Base of the training models; a subclass adds `learn_batch` and names its losses in `LOSSES`.

    Args:
        encoder: the model to train.
    """

    LOSSES: tuple[str, ...] = ()
    # What `get_config` contains as serialized objects.
    PARTS: tuple[str, ...] = ("encoder",)

    def __init__(self, encoder: ImageModel, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.encoder = encoder
        self.loss_means = {name: keras.metrics.Mean(name=name) for name in self.LOSSES}
        self.built = True

    def compile(self, optimizer: keras.optimizers.Optimizer | str = "rmsprop", **options: Any) -> None:
        """Compile; an optimizer scales the loss where the encoder is of mixed_float16, and skips steps that overflow.

        Keras does that by the policy of the model, which here is that of the encoder's backbone alone. The options are
        those of `saat_tf.jit.StepModel.compile`.
        """
        super().compile(optimizer=optimizer, **options)
        is_scaled = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        if self.encoder.precision == "mixed_float16" and not is_scaled:
            self.optimizer = keras.optimizers.LossScaleOptimizer(self.optimizer)

    def call(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return what the encoder returns (B, K)."""
        return self.encoder(images, training=training)

    def prepare(self, dataset: tf.data.Dataset) -> None:
        """Do what comes before the first step, with a data set of all training items in their order."""

    def train_step(self, data: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> dict:
        """Do one step on (images (B, S, S, 3), labels (B, ...), index (B,)), and return the losses' means."""
        images, labels, index = data
        with whole_batch(index):
            return self.learn_batch(images, labels, index)

    def learn_batch(self, images: tf.Tensor, labels: tf.Tensor, index: tf.Tensor) -> dict:
        """Do one step on a batch, or a replica's part of it, as `train_step` says."""
        raise NotImplementedError(f"{type(self).__name__} must implement `learn_batch`.")

    def make_train_function(self, force: bool = False) -> None:
        """Make `train_function`, which does a step on the next batch of an iterator and returns the losses."""
        super().make_train_function(force)
        if isinstance(self.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
            self.train_function = step_over_workers(self.distribute_strategy, self.train_step)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The mean of each loss over the epoch."""
        return list(self.loss_means.values())

    @property
    def optimizers(self) -> list[keras.optimizers.Optimizer]:
        """Optimizers of the model: the optimizer of `compile`, and others that a subclass has."""
        return [self.optimizer]

    def training_state(self) -> list[keras.Variable]:
        """Return all that the next step depends on, the metrics' variables last.

        These are the weights, a bank, what a loss learns and counts, batch statistics, dropout seeds, and the state of
        the optimizers, which must be built. The rest of a step's randomness is a function of seed and step.
        """
        metrics = self.metric_variables()
        others = [*self.variables, *(v for optimizer in self.optimizers for v in optimizer.variables)]
        seen = {id(variable) for variable in metrics}
        state = {id(v): v for v in others if id(v) not in seen}
        return [*state.values(), *metrics]

    def metric_variables(self) -> list[keras.Variable]:
        """Return the variables of `metrics`."""
        return [variable for metric in self.metrics for variable in metric.variables]

    def descend(
        self, tape: tf.GradientTape, loss: tf.Tensor, images: tf.Tensor, *watched: tf.Tensor
    ) -> list[tf.Tensor]:
        """Apply one step of the optimizer to all that trains, for the mean `loss` over `images` (B, ...).

        Replicas' gradients are summed, hence each counts for its share of the batch. Returns the gradients of tensors
        that the tape `watched`, times a positive number: from the same backward pass.
        """
        slope = self.optimizer.scale_loss(share(images))
        variables = self.trainable_variables
        gradients = tape.gradient(loss, [*variables, *watched], output_gradients=slope)
        gradients, slopes = gradients[: len(variables)], gradients[len(variables) :]
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            gradients = finite_in_all_or_none(gradients)
        self.optimizer.apply(gradients, variables)
        return slopes

    def report(self, images: tf.Tensor, **losses: tf.Tensor) -> dict[str, tf.Tensor]:
        """Add this step's losses, means over `images` (B, ...), to their means and return the means."""
        weight = share(images)
        for name, value in losses.items():
            self.loss_means[name].update_state(value, sample_weight=weight)
        return {name: mean.result() for name, mean in self.loss_means.items()}

    def get_config(self) -> dict:
        """Return the constructor's arguments."""
        parts = {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in self.PARTS}
        return {**super().get_config(), **parts}

    @classmethod
    def from_config(cls, config: dict) -> "TrainingModel":
        """Rebuild the model with its parts."""
        parts = {name: keras.saving.deserialize_keras_object(config[name]) for name in cls.PARTS}
        return cls(**{**config, **parts})
