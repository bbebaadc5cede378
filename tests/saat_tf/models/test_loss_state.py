"""Every hashing loss in training: it learns, and what it learns or counts is trained, kept, and nobody else's."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.data import array_split, draw_scenes, evaluation_batches
from saat_tf.layers import CodeBank
from saat_tf.losses import CSQ, DCH, DPH, DPN, DPSH, DSDH, HSWD, GreedyHash, HashNet, OrthoHash
from saat_tf.models import SAAT, HashingModel, HashingTraining

pytestmark = pytest.mark.usefixtures("tiny_small_cnn")

BITS, CLASSES = 16, 10
# The published weights of DPSH and DSDH are for thousands of items: they count N times less than here.
LOSSES = {
    "csq": lambda: CSQ(CLASSES, BITS),
    "dch": DCH,
    "dph": DPH,
    "dpn": lambda: DPN(CLASSES, BITS),
    "dpsh": lambda: DPSH(quantization=1.0),
    "dsdh": lambda: DSDH(quantization=1.0),
    "greedyhash": lambda: GreedyHash(CLASSES, BITS),
    "hashnet": HashNet,
    "hswd": HSWD,
    "orthohash": lambda: OrthoHash(CLASSES, BITS),
}
STATEFUL = ["greedyhash", "hswd"]  # one that is trained, one that counts


@pytest.fixture(scope="module")
def split():
    scenes = draw_scenes(48, image_size=16, seed=3)
    return array_split(scenes.images, scenes.labels)


@pytest.fixture(scope="module")
def batch(split):
    return next(iter(evaluation_batches(split, len(split))))


def make(kind, split, name, **options):
    keras.utils.set_random_seed(1)
    encoder = HashingModel("small_cnn", BITS, 16)
    return kind(encoder, CodeBank.from_labels(split.labels, BITS), LOSSES[name](), **options)


def map_by_hand(codes, labels):
    """Mean average precision of every item against all, itself left out."""
    precisions = []
    for q in range(len(codes)):
        others = np.arange(len(codes)) != q
        order = np.argsort((codes != codes[q]).sum(axis=1)[others], kind="stable")
        hits = ((labels @ labels[q]) > 0)[others][order]
        precisions.append(np.mean([hits[: i + 1].mean() for i in np.flatnonzero(hits)]) if hits.any() else 0.0)
    return np.mean(precisions)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_training_lowers_the_loss_and_brings_relevant_items_together(split, batch, name):
    training = make(HashingTraining, split, name)
    training.compile(optimizer=keras.optimizers.SGD(0.1, momentum=0.9))
    step = tf.function(training.train_step, autograph=False)
    losses = []
    for _ in range(60):
        training.reset_metrics()
        losses.append(float(step(batch)["hashing_loss"]))
    assert losses[-1] < 0.9 * losses[0]
    codes = np.unpackbits(training.encoder.encode(batch[0]).numpy(), axis=1)
    chance = np.mean([[float(any(a * b)) for b in split.labels] for a in split.labels])
    assert map_by_hand(codes, split.labels) > chance + 0.2


@pytest.mark.parametrize("name", STATEFUL)
def test_the_inner_attack_and_encoding_change_nothing_of_the_loss_and_a_step_does(split, batch, name):
    saat = make(SAAT, split, name, num_steps=1)
    saat.compile(optimizer=keras.optimizers.SGD(0.1))
    assert len(saat.hashing_loss.variables) > 0
    before = [v.numpy() for v in saat.hashing_loss.variables]
    saat.perturb(batch[0], tf.ones((48, BITS)))
    saat.encoder.encode(batch[0])
    saat.fill_bank(evaluation_batches(split, 48))
    for variable, value in zip(saat.hashing_loss.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    saat.train_step(batch)
    for variable, value in zip(saat.hashing_loss.variables, before, strict=True):
        assert (variable.numpy() != value).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", STATEFUL)
def test_the_state_of_a_loss_is_in_checkpoint_and_model_file_and_not_in_the_encoder(split, tmp_path, name):
    training, fresh = (make(HashingTraining, split, name) for _ in range(2))
    for model in (training, fresh):
        model.compile(optimizer=keras.optimizers.SGD(0.1))
    for data in evaluation_batches(split, 24):
        training.train_step(data)
    state = [v.numpy() for v in training.hashing_loss.variables]
    assert all((v.numpy() != value).any() for v, value in zip(fresh.hashing_loss.variables, state, strict=True))

    training.save_weights(tmp_path / "training.weights.h5")
    fresh.load_weights(tmp_path / "training.weights.h5")
    training.save(tmp_path / "training.keras")
    loaded = keras.saving.load_model(tmp_path / "training.keras", safe_mode=True)
    for model in (fresh, loaded):
        for variable, value in zip(model.hashing_loss.variables, state, strict=True):
            np.testing.assert_array_equal(variable, value)
    data = next(iter(evaluation_batches(split, 24)))
    after = [float(model.train_step(data)["hashing_loss"]) for model in (fresh, loaded)]
    assert after[0] == pytest.approx(after[1], rel=1e-5)

    training.encoder.save(tmp_path / "encoder.keras")
    encoder = keras.saving.load_model(tmp_path / "encoder.keras")
    assert len(encoder.variables) == len(training.encoder.variables)
    assert not {id(v) for v in training.hashing_loss.variables} & {id(v) for v in training.encoder.variables}
    np.testing.assert_array_equal(encoder.encode(data[0]), training.encoder.encode(data[0]))


def test_the_optimizer_moves_the_parts_that_a_loss_trains_by_their_slopes(split, batch):
    training = make(HashingTraining, split, "greedyhash")
    training.compile(optimizer=keras.optimizers.SGD(0.5))
    before = training.hashing_loss.projection.numpy()
    codes = np.where(training.encoder(batch[0], training=True) >= 0, 1.0, -1.0)
    training = make(HashingTraining, split, "greedyhash")
    training.compile(optimizer=keras.optimizers.SGD(0.5))
    training.train_step(batch)
    logits = codes @ before
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = batch[1].numpy()
    shares = labels / labels.sum(axis=1, keepdims=True)
    expected = before - 0.5 * codes.T @ (probabilities - shares) / len(labels)
    np.testing.assert_allclose(training.hashing_loss.projection, expected, atol=1e-5)


@pytest.mark.slow
def test_hashnet_gives_its_alpha_to_the_codes_of_the_bank_in_both_kinds_of_training(split, batch):
    for kind, options in ((HashingTraining, {}), (SAAT, {"num_steps": 1, "inner_training": "inference"})):
        training = make(kind, split, "hashnet", **options)
        training.compile(optimizer=keras.optimizers.SGD(0.0))
        training.hashing_loss.steps.assign(1000)
        training.fill_bank(evaluation_batches(split, 48))
        logits = training.encoder.logits(batch[0]).numpy()
        np.testing.assert_allclose(training.code_bank.codes, np.tanh(np.sqrt(6) * logits), atol=1e-5)
        logits = make(kind, split, "hashnet", **options).encoder.logits(batch[0], training=True).numpy()
        training.train_step(batch)
        np.testing.assert_allclose(training.code_bank.codes, np.tanh(np.sqrt(6) * logits), atol=1e-4)
        assert int(training.hashing_loss.steps) == 1001


TWO_REPLICAS = """
    import numpy as np
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    from saat_tf.layers import CodeBank
    from saat_tf.losses import DCH, DPH, DPSH, DSDH, HSWD, HashNet, OrthoHash

    labels = np.eye(4, dtype=np.float32)[[0, 0, 0, 1, 1, 2, 0, 3]]
    codes = np.random.default_rng(0).uniform(-1, 1, (8, 6)).astype(np.float32)
    parts_of_batch = [slice(0, 5), slice(5, 8)]
    makers = {
        "DPH": DPH, "DPSH": DPSH, "DSDH": DSDH, "HashNet": HashNet,
        "DCH": DCH, "HSWD": HSWD, "OrthoHash": lambda: OrthoHash(4, 6),  # those that look at the batch as a whole
    }

    def step(bank, losses, index, h, y):
        bank.update(index, h)
        values = {name: loss(h, y, code_bank=bank) for name, loss in losses.items()}
        for loss in losses.values():
            loss.advance()
        return values

    def parts():
        return CodeBank.from_labels(labels, 6), {name: make() for name, make in makers.items()}

    whole = step(*parts(), tf.range(8), tf.constant(codes), tf.constant(labels))
    with strategy.scope():
        bank, losses = parts()

    @tf.function
    def run(*args):
        return strategy.run(lambda i, h, y: step(bank, losses, i, h, y), args=args)

    def share(values):
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(values[parts_of_batch[context.replica_id_in_sync_group]]))

    answers = run(share(np.arange(8)), share(codes), share(labels))
    for name, answer in answers.items():
        first, second = strategy.experimental_local_results(answer)
        assert name in ("DCH", "OrthoHash") or abs(float(first) - float(second)) > 1e-4, name
        np.testing.assert_allclose((5 * first + 3 * second) / 8, whole[name], rtol=1e-5, err_msg=name)
    assert [int(copy) for copy in strategy.experimental_local_results(losses["HashNet"].steps.value)] == [1, 1]
    print("the weighted mean over replicas is the loss of the whole batch")
"""


@pytest.mark.slow
def test_over_two_replicas_the_losses_that_read_the_bank_are_those_of_the_whole_batch():
    # A process of its own: logical devices can be set only before TensorFlow starts.
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(TWO_REPLICAS)], capture_output=True, text=True, timeout=120, check=False
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout.splitlines()[-1] == "the weighted mean over replicas is the loss of the whole batch"
