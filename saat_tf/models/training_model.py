"""Base of the training models: the encoder, an optimizer's step, their metrics and how they are saved."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from saat_tf.batches import (
    batch_check,
    batch_errors,
    check_images_in_memory,
    checked_arrays,
    is_array,
    parts_of,
    with_items,
)
from saat_tf.jit import StepModel
from saat_tf.models.bank_rows import BankRows
from saat_tf.models.fit_data import refuse_options, with_index
from saat_tf.models.image_model import ImageModel
from saat_tf.replicas import finite_in_all_or_none, share, step_over_workers, whole_batch


class TrainingModel(StepModel):
    """Base of the training models; a subclass adds `learn_batch`, `test_batch` and `checked_targets`.

    It names its losses in `LOSSES`, of which `loss` is the sum that is minimized.

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

    def set_items(self, labels: np.ndarray) -> None:
        """Tell the labels (N, ...) of the training set's items, in their order, before anything else of it is known."""

    def prepare(self, dataset: tf.data.Dataset) -> None:
        """Do what comes before the first step, with a data set of all training items in their order."""

    def fit(self, x: Any = None, y: Any = None, **options: Any) -> keras.callbacks.History:
        """Fit as Keras does.

        Args:
            x: images, float32 (N, S, S, 3) in [0, 1]; or a `tf.data.Dataset` or generator of batches (images, labels)
                or (images, labels, index), or a `keras.utils.PyDataset` of the latter.
            y: labels of the images (N, ...), where these are in memory.
            **options: those of `keras.Model.fit`, without weights of items and `validation_split`.

        Raises:
            ValueError: images, labels or index are not what the model takes; before a step, of each batch as it is
                drawn.
        """
        refuse_options(options)
        options["validation_data"] = self.checked_validation(options.get("validation_data"))
        if is_array(x):
            x, y = checked_arrays(x, y, self._check)
            # Keras shuffles and batches what it takes for weights as it does the images.
            options["sample_weight"] = self.index_of_arrays(y)
        else:
            x = with_index(x, self._check, self.rows_without_index())
        with batch_errors():
            return super().fit(x, y, **options)

    def evaluate(self, x: Any = None, y: Any = None, **options: Any) -> Any:
        """Evaluate as Keras does: the losses of images and labels, without a change of anything.

        Args:
            x: as in `fit`; an index is not read.
            y: as in `fit`.
            **options: those of `keras.Model.evaluate`.

        Raises:
            ValueError: as `fit`.
        """
        refuse_options(options)
        if not options.get("_use_cached_eval_dataset"):  # `fit` has checked what it passes
            if is_array(x):
                x, y = checked_arrays(x, y, self._check)
            else:
                x = with_index(x, self._check, None)
        with batch_errors():
            return super().evaluate(x, y, **options)

    def checked_validation(self, data: Any) -> Any:
        """Return `validation_data` as Keras takes it, checked at once where it is in memory, else as it is drawn.

        Raises:
            ValueError: as `fit`.
        """
        if isinstance(data, tuple | list):
            x, y, *_ = parts_of(data)
            return checked_arrays(x, y, self._check)
        return None if data is None else with_index(data, self._check, None)

    def predict(self, x: Any, **options: Any) -> np.ndarray:
        """Predict as Keras does, from images that are checked where they are in memory; none give an empty result.

        Raises:
            ValueError: as `saat_tf.images.checked_images`.
        """
        check_images_in_memory(x, self.encoder.image_size)
        return self(x).numpy() if is_array(x) and not len(x) else super().predict(x, **options)

    def _check(self, *batch: tf.Tensor) -> tuple[tf.Tensor, ...]:
        check = batch_check(self.checked_targets, self.encoder.image_size, num_items=self.num_items())
        return with_items(check(*batch))

    def num_items(self) -> int | None:
        """Return how many items an index may name; None for any."""
        return None

    def checked_targets(self, labels: tf.Tensor) -> tf.Tensor:
        """Return the labels of a batch, or raise `ValueError` where they are not what the model learns from."""
        raise NotImplementedError(f"{type(self).__name__} must implement `checked_targets`.")

    def index_of_arrays(self, labels: np.ndarray) -> np.ndarray:
        """Return the index of each item of a training set in memory, by its labels (N, ...): int64 (N,)."""
        return np.arange(len(labels))

    def rows_without_index(self) -> Callable[[], BankRows] | None:
        """Return what gives items without an index one; None where the model does without."""
        return None

    def train_step(self, data: tuple[tf.Tensor, ...]) -> dict:
        """Do one step on (images (B, S, S, 3), labels (B, ...), index (B,)), and return the losses' means."""
        images, labels, *index = parts_of(data)
        if not index:
            return self.learn_batch(images, labels, None)
        with whole_batch(index[0]):
            return self.learn_batch(images, labels, index[0])

    def learn_batch(self, images: tf.Tensor, labels: tf.Tensor, index: tf.Tensor | None) -> dict:
        """Do one step on a batch, or a replica's part of it, as `train_step` says."""
        raise NotImplementedError(f"{type(self).__name__} must implement `learn_batch`.")

    def test_step(self, data: tuple[tf.Tensor, ...]) -> dict:
        """Add the losses of (images (B, S, S, 3), labels (B, ...)) to their means, and return these."""
        images, labels, *_ = parts_of(data)
        return self.test_batch(images, labels)

    def test_batch(self, images: tf.Tensor, labels: tf.Tensor) -> dict:
        """Report the losses of a batch as the model is, in inference mode; nothing but the means changes."""
        raise NotImplementedError(f"{type(self).__name__} must implement `test_batch`.")

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
        # Of data whose number of batches nobody knows, a step is begun that finds no batch: it must not count.
        with tf.control_dependencies([loss]):
            self.optimizer.apply(gradients, variables)
        return slopes

    def report(self, images: tf.Tensor, **losses: tf.Tensor) -> dict[str, tf.Tensor]:
        """Add this step's losses, means over `images` (B, ...), to their means and return the means."""
        with tf.control_dependencies([images]):  # as in `descend`
            weight = tf.identity(share(images))
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
