"""Every step, attack and encoder, traced and looked up in TensorFlow's registry: a GPU can run all of it by itself."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.attacks import ATTACKS, Knowledge, build_attack
from saat_tf.attacks.pros_gan import ProSGAN
from saat_tf.attacks.prototype_net import PrototypeNet
from saat_tf.data import draw_scenes
from saat_tf.layers import CodeBank
from saat_tf.losses import CSQ, DCH, DPH, DPN, DPSH, DSDH, HSWD, GreedyHash, HashNet, OrthoHash
from saat_tf.models import ATRDH, SAAT, CgAT, HashingModel, HashingTraining, Refinements
from saat_tf.models.comdefend import Purifier
from saat_tf.models.inner import NFGSM, YOPO, FGSMPrior, Free, Steps
from saat_tf.threat_model import ThreatModel
from tests import gpu_kernels
from tests.small_graphs import flat_backbone, tiny_encoders

BITS, SIDE, ITEMS = 16, 16, 12
LABELS = draw_scenes(ITEMS, image_size=SIDE, seed=3).labels
CLASSES = LABELS.shape[1]
BATCH = (
    tf.TensorSpec([None, SIDE, SIDE, 3]),
    tf.TensorSpec([None, CLASSES]),
    tf.TensorSpec([None], tf.int64),
)
BALL = ThreatModel.from_255(8)
# Strings, which the message of a check is made of, and the checks live on the host; nothing waits for them.
ALLOWED = {"Const(dtype=string)", "Assert()"}

pytestmark = pytest.mark.skipif(
    not tf.test.is_built_with_cuda(), reason="this TensorFlow is built without kernels for GPUs"
)


def encoder(**options):
    """One convolution: what small_cnn adds to a step, its encoder and a step of hashing and SAAT on it show."""
    with tiny_encoders(build=flat_backbone):
        return HashingModel("small_cnn", BITS, SIDE, **options)


def small_cnn():
    return HashingModel("small_cnn", BITS, SIDE)


def bank(labels=LABELS):
    return CodeBank.from_labels(labels, BITS)


def many_label_sets():
    """Labels of which sums by subsets pay: 400 items with two of 40 classes each."""
    rng = np.random.default_rng(0)
    labels = np.zeros((400, 40), np.float32)
    for row in labels:
        row[rng.choice(40, 2, replace=False)] = 1
    return labels


def step_of(model, batch=BATCH):
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9))
    model.optimizer.build(model.trainable_variables)
    concrete = tf.function(model.train_step, autograph=False).get_concrete_function(batch)
    concrete.graph.model = model  # a graph refers to its variables weakly
    return concrete


def saat(inner=None, inner_training="training", precision="float32", **refinements):
    options = {"inner": inner or Steps(num_steps=2, step_size=2 / 255), "refinements": Refinements(**refinements)}
    return SAAT(encoder(precision=precision), bank(), DPH(), inner_training=inner_training, **options)


def with_subsets():
    labels = many_label_sets()
    banked = bank(labels)
    assert banked.num_subsets
    batch = (BATCH[0], tf.TensorSpec([None, 40]), BATCH[2])
    return step_of(SAAT(encoder(), banked, DPH(), inner=NFGSM()), batch)


def with_dropout():
    model = HashingModel("alexnet", BITS, 63)
    batch = (tf.TensorSpec([None, 63, 63, 3]), *BATCH[1:])
    return step_of(HashingTraining(model, bank(), CSQ(CLASSES, BITS)), batch)


STEPS = {
    "hashing": lambda: step_of(HashingTraining(small_cnn(), bank(), DPH())),
    "saat of small_cnn": lambda: step_of(SAAT(small_cnn(), bank(), DPH(), num_steps=2)),
    "saat": lambda: step_of(saat()),
    "saat in inference": lambda: step_of(saat(inner_training="inference")),
    "cgat": lambda: step_of(CgAT(encoder(), bank(), DPH(), num_steps=2)),
    "atrdh": lambda: step_of(ATRDH(encoder(), bank(), DPH(), inner=NFGSM())),
    "n-fgsm": lambda: step_of(saat(NFGSM())),
    "yopo": lambda: step_of(saat(YOPO(num_passes=1, num_steps=1, step_size=2 / 255))),
    "free": lambda: step_of(saat(Free(batch_size=8, image_size=SIDE))),
    "fgsm-prior": lambda: step_of(saat(FGSMPrior(num_items=ITEMS, image_size=SIDE))),
    "refinements": lambda: step_of(
        saat(NFGSM(), adversarial_hashing_weight=1.0, consistency_weight=1.0, weight_perturbation=0.005)
    ),
    "mixed_float16": lambda: step_of(saat(NFGSM(), precision="mixed_float16")),
    "mixed_bfloat16": lambda: step_of(saat(NFGSM(), precision="mixed_bfloat16")),
    "sums by subsets": with_subsets,
    "dropout": with_dropout,
    "purifier": lambda: step_of(Purifier()),
    "pros-gan": lambda: step_of(
        ProSGAN.from_labels(encoder(), PrototypeNet(CLASSES, BITS), LABELS, epsilon=8 / 255, width=8)
    ),
}
BY_CLASS, PAIRWISE = (CSQ, DPN, GreedyHash, OrthoHash), (DCH, DPSH, DSDH, HashNet, HSWD)
LOSSES = {kind.__name__: lambda kind=kind: kind(CLASSES, BITS) for kind in BY_CLASS} | {
    kind.__name__: kind for kind in PAIRWISE
}


# What the host waits for in a step, beside the shapes of slopes of means, of which TensorFlow itself makes vectors.
WAITS = {
    "mixed_float16": "If.cond",  # Keras asks whether the scaled gradients are finite
    "sums by subsets": "If.cond",  # whether a row has more labels than any item, for which there are no such sums
    "pros-gan": "If.cond",  # the discriminator trains in every third step
}


def check_kernels(concrete):
    assert gpu_kernels.without_gpu_kernel(concrete) <= ALLOWED
    assert not gpu_kernels.host_variables(concrete)


def check_waits(concrete, allowed="nothing"):
    assert [w for w in gpu_kernels.transfers(concrete) if "DynamicStitch" not in w and allowed not in w] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
def test_a_step_runs_on_a_gpu_alone_and_the_host_waits_for_nothing(name):
    concrete = STEPS[name]()
    check_kernels(concrete)
    check_waits(concrete, WAITS.get(name, "nothing"))


@pytest.mark.parametrize("name", LOSSES)
def test_a_hashing_loss_runs_on_a_gpu_alone_and_the_host_waits_for_nothing(name):
    loss, code_bank = LOSSES[name](), bank()

    @tf.function(autograph=False)
    def step(codes, labels):
        with tf.GradientTape() as tape:
            tape.watch(codes)
            value = loss(loss.alpha() * codes, labels, code_bank=code_bank)
        loss.advance()
        return tape.gradient(value, [codes, *loss.trainable_variables])

    concrete = step.get_concrete_function(tf.TensorSpec([None, BITS]), BATCH[1])
    check_kernels(concrete)
    check_waits(concrete)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_an_attack_runs_on_a_gpu_alone(name):
    code_bank, model = bank(), encoder()
    net = PrototypeNet(CLASSES, BITS)
    gan = ProSGAN.from_labels(model, net, LABELS, epsilon=BALL.epsilon, width=8) if name == "pros-gan" else None
    known = Knowledge(train=code_bank, database=code_bank, prototype_codes=net.prototype_codes, pros_gan=gan)
    attack = build_attack(name, BALL.epsilon, known, num_steps=2)
    traced = tf.function(lambda images, labels, seed: attack(model, images, labels, seed))
    check_kernels(traced.get_concrete_function(*BATCH[:2], tf.TensorSpec([2], tf.int32)))


def test_the_encoder_runs_on_a_gpu_alone():
    model = small_cnn()
    for encode in (model.encode, model.for_inference().encode):
        check_kernels(tf.function(encode).get_concrete_function(BATCH[0]))


def test_what_lives_on_the_host_is_found():
    table = tf.Variable([1, 2, 3])  # int32

    @tf.function
    def read_on_host(place):
        tf.print(place)
        return tf.reshape(tf.range(12.0), tf.cast(tf.stack([3.0 * place, place]), tf.int32)), tf.gather(table, 0)

    concrete = read_on_host.get_concrete_function(tf.TensorSpec([]))
    assert gpu_kernels.host_variables(concrete) == {table.name}
    assert any(op.startswith("PrintV2") for op in gpu_kernels.without_gpu_kernel(concrete))
    assert [read for read in gpu_kernels.transfers(concrete) if "Reshape.shape" in read]
