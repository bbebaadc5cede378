"""Train on one, two and four logical CPUs and compare; run by test_replicas.py in a process of its own."""

import functools
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.distribute.cross_device_ops import CrossDeviceOps

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
# Graphs that run a few times are not worth being optimized.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

from saat_tf.data import array_split, draw_scenes, evaluation_batches, training_epochs  # noqa: E402
from saat_tf.layers import CodeBank  # noqa: E402
from saat_tf.losses import DPH, HashNet  # noqa: E402
from saat_tf.models import SAAT, HashingModel, HashingTraining  # noqa: E402
from saat_tf.replicas import distribute, finite_in_all_or_none  # noqa: E402
from tests.saat_tf.models.small_batches import check_small_batches  # noqa: E402
from tests.small_graphs import tiny_encoders  # noqa: E402
from trainers.distributed.strategy import synchronize_batch_norm  # noqa: E402

BITS, BATCH, STEPS = 16, 8, 5


def small_cnn(precision="float32"):
    return HashingModel("small_cnn", BITS, 16, precision=precision)


def own_network():
    """An encoder around a network of the caller, with Keras' own batch norm."""
    layers = [keras.layers.Conv2D(6, 3, strides=2), keras.layers.BatchNormalization(), keras.layers.ReLU()]
    return HashingModel(keras.Sequential([keras.Input((16, 16, 3)), *layers]), BITS)


def train(build, strategy, split, make=small_cnn):
    """Return the model after five steps, and its losses over them."""
    keras.utils.set_random_seed(1)
    with strategy.scope():
        encoder = make()
        training = build(encoder, CodeBank.from_labels(split.labels, BITS))
        training.compile(keras.optimizers.SGD(0.05, momentum=0.9))
        training.optimizer.build(training.trainable_variables)
    synchronize_batch_norm(encoder)
    training.fill_bank(evaluation_batches(split, 7))
    filled = training.code_bank.codes.numpy()
    batches = training_epochs(split, BATCH, seed=0)
    training.make_train_function()
    done, epoch = 0, 0
    while done < STEPS:
        iterator = iter(distribute(batches(epoch, 0), strategy))
        for _ in range(min(-(-len(split) // BATCH), STEPS - done)):
            training.train_function(iterator)
            done += 1
        epoch += 1
    return training, filled, {name: float(value) for name, value in training.get_metrics_result().items()}


def compare(build, count, strategy, make=small_cnn):
    """Check that the replicas end where one ends that has their batches to itself."""
    scenes = draw_scenes(count, image_size=16, seed=3)
    split = array_split(scenes.images, scenes.labels)
    alone, filled, losses = train(build, tf.distribute.get_strategy(), split, make)
    together, filled_together, losses_together = train(build, strategy, split, make)
    np.testing.assert_allclose(filled_together, filled, atol=1e-5)
    assert (filled_together != 0).any(axis=1).all()
    for one, other in zip(alone.encoder.variables, together.encoder.variables, strict=True):
        np.testing.assert_allclose(other.numpy(), one.numpy(), rtol=1e-4, atol=2e-5, err_msg=one.path)
    np.testing.assert_allclose(together.code_bank.codes.numpy(), alone.code_bank.codes.numpy(), atol=1e-4)
    for name, value in losses.items():
        np.testing.assert_allclose(losses_together[name], value, rtol=1e-4, err_msg=name)
    for table in (together.code_bank.codes, together.code_bank.label_sums, together.encoder.variables[0]):
        copies = strategy.experimental_local_results(table.value)
        assert len(copies) == strategy.num_replicas_in_sync
        for copy in copies[1:]:
            np.testing.assert_array_equal(copy, copies[0])
    with tempfile.TemporaryDirectory() as folder:
        together.encoder.save(f"{folder}/encoder.keras")
        loaded = keras.saving.load_model(f"{folder}/encoder.keras", safe_mode=True)
        np.testing.assert_array_equal(loaded.encode(scenes.images), together.encoder.encode(scenes.images))
    # A comparison with nothing moved would prove nothing.
    trained = alone.encoder.variables[0].numpy()
    keras.utils.set_random_seed(1)
    assert np.abs(make().variables[0].numpy() - trained).max() > 1e-3


def saat(encoder, bank):
    return SAAT(encoder, bank, DPH(), num_steps=1, inner_training="training")


def hashing(encoder, bank):
    return HashingTraining(encoder, bank, HashNet())


def one_overflow_skips_the_step_in_all(strategy):
    """Check that replicas in half precision train alike, and that they skip a step where the second one overflows."""
    scenes = draw_scenes(16, image_size=16, seed=3)
    split = array_split(scenes.images, scenes.labels)
    half = functools.partial(small_cnn, "mixed_float16")
    with tiny_encoders():
        training, _, losses = train(hashing, strategy, split, half)
        _, _, alone = train(hashing, tf.distribute.get_strategy(), split, half)
    np.testing.assert_allclose([*losses.values()], [*alone.values()], rtol=2e-2)
    optimizer, variables = training.optimizer, training.trainable_variables
    assert int(optimizer.step_counter.numpy()) == STEPS

    def apply(fault):
        number = tf.distribute.get_replica_context().replica_id_in_sync_group
        faults = tf.where(tf.equal(number, 1), fault, 1.0)
        optimizer.apply(finite_in_all_or_none([faults * tf.ones_like(v) for v in variables]), variables)

    step = tf.function(lambda fault: strategy.run(apply, (fault,)))
    before, scale = variables[0].numpy(), float(optimizer.dynamic_scale.numpy())
    step(tf.constant(np.inf))
    np.testing.assert_array_equal(variables[0].numpy(), before)
    assert float(optimizer.dynamic_scale.numpy()) == scale / 2
    step(tf.constant(1.0))
    assert (variables[0].numpy() != before).all()


def exchanges_are_those_of_batch_norm_and_of_the_whole_batch(strategy):
    """Check how often replicas exchange numbers: once a layer of batch norm and direction, and three times besides."""
    exchanges = []
    original = CrossDeviceOps.batch_reduce
    CrossDeviceOps.batch_reduce = lambda self, *args, **kwargs: exchanges.append(1) or original(self, *args, **kwargs)
    scenes = draw_scenes(8, image_size=16, seed=3)
    batch = strategy.experimental_distribute_values_from_function(
        lambda _: (scenes.images, scenes.labels.astype("float32"), np.arange(8))
    )
    # Six layers, forward and back: for the images, the adversarial images, and the inner step unless in inference. Few
    # more: the gradients, and how many images there are.
    found = {}
    for inner_training in ("training", "inference"):
        with strategy.scope():
            encoder = HashingModel("small_cnn", BITS, 16)
            bank = CodeBank.from_labels(scenes.labels, BITS)
            training = SAAT(encoder, bank, DPH(), num_steps=1, inner_training=inner_training)
            training.compile(keras.optimizers.SGD(0.05))
            training.optimizer.build(training.trainable_variables)
        synchronize_batch_norm(encoder)
        exchanges.clear()
        run = tf.function(lambda batch, training=training: strategy.run(training.train_step, (batch,)), autograph=False)
        run.get_concrete_function(batch)
        found[inner_training] = len(exchanges)
    assert found["training"] - found["inference"] == 6 * 2, found
    assert 6 * 2 * 2 <= found["inference"] <= 6 * 2 * 2 + 6, found
    CrossDeviceOps.batch_reduce = original


def pairs_are_given_rows_as_on_one_device(strategy):
    """Check `adapt` and Keras' `fit` on batches (images, labels): the same weights, losses and codes of label sets."""
    scenes = draw_scenes(22, image_size=16, seed=3)
    pairs = tf.data.Dataset.from_tensor_slices((scenes.images, scenes.labels)).batch(8)
    ends = []
    for each in (tf.distribute.get_strategy(), strategy):
        keras.utils.set_random_seed(1)
        with each.scope(), tiny_encoders():
            training = HashingTraining(small_cnn(), hashing_loss=HashNet())
            training.compile(keras.optimizers.SGD(0.05))
        synchronize_batch_norm(training.encoder)
        training.adapt(pairs)
        history = training.fit(pairs, epochs=2, verbose=0).history
        bank = training.code_bank
        rows = np.hstack([bank.label_sets.numpy()[bank.set_index.numpy()], bank.codes.numpy()])
        ends.append((training.encoder.get_weights(), history["loss"], rows[np.lexsort(rows.T[::-1])]))
    (weights, losses, rows), (weights_together, losses_together, rows_together) = ends
    for one, other in zip(weights, weights_together, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(losses_together, losses, rtol=1e-4)
    np.testing.assert_allclose(rows_together, rows, atol=1e-3)
    assert losses[1] != losses[0]


count = int(sys.argv[1])
strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)])
if count == 2:
    exchanges_are_those_of_batch_norm_and_of_the_whole_batch(strategy)
    compare(saat, 22, strategy)  # batches of 8, 8 and 6
    one_overflow_skips_the_step_in_all(strategy)
    pairs_are_given_rows_as_on_one_device(strategy)
else:
    compare(hashing, 11, strategy, own_network)
    compare(hashing, 11, strategy)  # batches of 8 and 3, the latter smaller than the number of replicas
check_small_batches(strategy)
