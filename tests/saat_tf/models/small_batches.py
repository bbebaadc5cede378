"""Batches of 33, 3 and 1 images on several replicas and on one, for each loss, defense and inner attack.

Used by replicas_program.py, in whose process there are several CPUs.
"""

import itertools

import keras
import numpy as np
import tensorflow as tf

from saat_tf.layers import CodeBank
from saat_tf.losses import CSQ, DCH, DPH, DPN, DPSH, DSDH, HSWD, GreedyHash, HashNet, OrthoHash
from saat_tf.models import ATRDH, SAAT, CgAT, HashingModel, HashingTraining, Refinements
from saat_tf.models.inner import NFGSM, YOPO, FGSMPrior, Free
from saat_tf.replicas import distribute, share, whole_batch
from tests.small_graphs import tiny_encoders
from trainers.distributed.strategy import synchronize_batch_norm

BITS, CLASSES, SIZE, SIZES = 8, 4, 16, (33, 3, 1)
ITEMS = sum(SIZES)
LOSSES = {
    **{loss.__name__: loss for loss in (DPH, DPSH, DSDH, DCH, HashNet, HSWD)},
    **{loss.__name__: lambda loss=loss: loss(CLASSES, BITS) for loss in (CSQ, DPN, OrthoHash, GreedyHash)},
}
REFINED = Refinements(adversarial_hashing_weight=0.5, consistency_weight=0.5)
# Each defense and each inner attack in one of them; the hashing losses have a check of their own. Four devices have
# batches dealt or copied as two have: one case is enough there.
SPREAD = {
    "hashing": lambda e, b: HashingTraining(e, b, HSWD()),
    "saat by steps, refined": lambda e, b: SAAT(e, b, HSWD(), num_steps=1, refinements=REFINED),
    "saat by yopo": lambda e, b: SAAT(e, b, DPH(), inner=YOPO(num_passes=1, num_steps=2, step_size=2 / 255)),
    "cgat by n-fgsm, in inference": lambda e, b: CgAT(e, b, DPH(), inner=NFGSM(), inner_training="inference"),
}
ON_ONE = {
    "`ATRDH`": lambda e, b: ATRDH(e, b, DPH(), num_steps=1),
    "`weight_perturbation`": lambda e, b: SAAT(
        e, b, DPH(), num_steps=1, refinements=Refinements(weight_perturbation=0.1)
    ),
    "`FGSMPrior`": lambda e, b: SAAT(e, b, DPH(), inner=FGSMPrior(num_items=ITEMS, image_size=SIZE)),
    "`Free`": lambda e, b: SAAT(e, b, DPH(), inner=Free(batch_size=max(SIZES), image_size=SIZE)),
}


def batches():
    """Batches of each of `SIZES`, every item once; a dataset of (images, labels, index)."""
    rng = np.random.default_rng(0)
    images = rng.random((ITEMS, SIZE, SIZE, 3), np.float32)
    labels = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, ITEMS)]
    ends = np.cumsum(SIZES)

    def each():
        for start, end in zip([0, *ends], ends, strict=False):
            yield images[start:end], labels[start:end], np.arange(start, end, dtype=np.int64)

    specs = (
        tf.TensorSpec((None, SIZE, SIZE, 3)),
        tf.TensorSpec((None, CLASSES)),
        tf.TensorSpec((None,), tf.int64),
    )
    return tf.data.Dataset.from_generator(each, output_signature=specs), labels


def tiny_encoder():
    keras.utils.set_random_seed(1)
    with tiny_encoders():
        encoder = HashingModel("small_cnn", BITS, SIZE)
    synchronize_batch_norm(encoder)
    return encoder


def steps_of(build, strategy):
    """Train on the batches one after the other, and return what each step led to."""
    dataset, labels = batches()
    with strategy.scope():
        training = build(tiny_encoder(), CodeBank.from_labels(labels, BITS))
        training.compile(keras.optimizers.SGD(0.05, momentum=0.9))
        training.optimizer.build(training.trainable_variables)
    training.make_train_function()
    iterator, led_to = iter(distribute(dataset, strategy)), []
    for _ in SIZES:
        training.reset_metrics()
        training.train_function(iterator)
        values = {variable.path: variable.numpy() for variable in training.training_state()}
        led_to.append(values)
    return led_to


def losses_of(strategy):
    """Return for each batch the value of each loss and its slopes at given codes, put together from all replicas."""
    dataset, labels = batches()
    drawn = np.random.default_rng(1).uniform(-1, 1, (ITEMS, BITS)).astype(np.float32)
    with strategy.scope():
        bank = CodeBank.from_labels(labels, BITS)
        losses = {name: make() for name, make in LOSSES.items()}

    def step(images, labels, index):
        codes, found = tf.gather(drawn, index), {}
        with whole_batch(index), tf.GradientTape(persistent=True) as tape:
            tape.watch(codes)
            bank.update(index, codes)
            for name, loss in losses.items():
                found[name] = loss(codes, labels, code_bank=bank) * share(codes)
        # Rows of one item are those of copies: what is asked of the item is what is asked of all of them.
        of_items = {name: tf.IndexedSlices(tape.gradient(value, codes), index) for name, value in found.items()}
        slopes = {name: tf.math.unsorted_segment_sum(s.values, s.indices, ITEMS) for name, s in of_items.items()}
        return found, slopes

    @tf.function(reduce_retracing=True)
    def run(iterator):
        results = strategy.run(step, next(iterator))
        return tf.nest.map_structure(lambda x: strategy.reduce("SUM", x, axis=None), results)

    iterator = iter(distribute(dataset, strategy))
    return [tf.nest.map_structure(lambda x: x.numpy(), run(iterator)) for _ in SIZES]


def check_losses(strategy):
    for size, one, other in zip(SIZES, losses_of(tf.distribute.get_strategy()), losses_of(strategy), strict=True):
        for name in LOSSES:
            where = f"{name}, batch of {size} on {strategy.num_replicas_in_sync} devices"
            for value, found in zip((one[0][name], one[1][name]), (other[0][name], other[1][name]), strict=True):
                np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-5 * np.abs(value).max(), err_msg=where)


def check_steps(strategy):
    """Check for each case that the strategy does step by step what one device does."""
    names = [*SPREAD] if strategy.num_replicas_in_sync == 2 else ["saat by steps, refined"]
    for name, build in ((name, SPREAD[name]) for name in names):
        alone, together = steps_of(build, tf.distribute.get_strategy()), steps_of(build, strategy)
        for size, one, other in zip(SIZES, alone, together, strict=True):
            where = f"{name}, batch of {size} on {strategy.num_replicas_in_sync} devices"
            for (path, value), found in zip(one.items(), other.values(), strict=True):
                np.testing.assert_allclose(found, value, rtol=1e-4, atol=2e-5, err_msg=f"{where}: {path}")
        # A comparison with nothing moved would prove nothing.
        assert all(
            np.abs(after["projection/kernel"] - before["projection/kernel"]).max() > 1e-5
            for before, after in itertools.pairwise(
                [{k.rpartition("hash_head/")[2]: v for k, v in step.items()} for step in alone]
            )
        )


def check_refusals(strategy):
    for name, build in ON_ONE.items():
        try:
            steps_of(build, strategy)
        except ValueError as error:
            assert f"{name} trains on one replica" in str(error)
        else:
            raise AssertionError(f"{name} was not refused.")


def check_small_batches(strategy):
    check_losses(strategy)
    check_steps(strategy)
    if strategy.num_replicas_in_sync == 2:
        check_refusals(strategy)
