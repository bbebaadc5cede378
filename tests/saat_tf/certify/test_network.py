"""Bounds of networks against all corners of the ball, a mixed-integer program, and planted bugs."""

import functools
import itertools
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.backbones import vgg
from saat_tf.backbones.fold import folded
from saat_tf.certify import crown, intervals, network, rules, steps
from saat_tf.codes import sign
from saat_tf.layers import HashHead, PixelNormalization
from saat_tf.models import HashingModel, PurifiedModel
from tests.saat_tf.certify.mutants import mutant
from tests.saat_tf.certify.tiny_networks import BITS, NETWORKS, corners, least_by_program, relu_network

EPSILON = 0.05
IMAGES = np.random.default_rng(1).random((2, 2, 2, 3), np.float32)


def check_intervals(name, rules=rules, intervals=intervals):
    """What float32 computes at every corner and inside lies in the box; one affine step fills its box."""
    model = NETWORKS[name](seed=2)
    for image in IMAGES:
        pixels = intervals.pixel_box(image[None], EPSILON)
        box = intervals.propagate(rules.network_steps(model), pixels)[-1]
        logits = model.predict(corners(image, EPSILON), batch_size=8192, verbose=0)
        assert (box.low.numpy() <= logits.min(axis=0)).all()
        assert (box.high.numpy() >= logits.max(axis=0)).all()
        assert (box.high - box.low).numpy().max() < 50  # and not everything


@functools.cache
def true_minima(seed, image, epsilon):
    """Signs of the logits of an image and the least s z over its ball, by a mixed-integer program."""
    model = relu_network(seed)
    signs = sign(tf.cast(model(IMAGES[image][None]), tf.float64))
    return signs, least_by_program(model, IMAGES[image].astype(np.float64), epsilon, signs.numpy()[0])


def check_linear_bounds(rules=rules, crown=crown):
    """CROWN is never above the true minimum, and close to it where hardly any ReLU is undecided."""
    for seed, image, epsilon in itertools.product(range(3), range(2), (0.01, 0.1, 0.3)):
        chain = rules.network_steps(relu_network(seed))
        boxes = intervals.propagate(chain, intervals.pixel_box(IMAGES[image][None], epsilon))
        signs, true = true_minima(seed, image, epsilon)
        least = crown.least_margins(chain, boxes, signs).numpy()[0]
        assert (least <= true + 1e-6).all()  # HiGHS stops within 1e-7
        assert epsilon > 0.01 or (true - least).max() < 0.02


def check_margins(network=network, rules=rules):
    """No two images are further apart in logits than L times their distance; with one convolution it is reached."""
    for name, build in NETWORKS.items():
        model = build(seed=3)
        constant = network.lipschitz_constant(rules.network_steps(model))
        points = corners(IMAGES[0], 0.2)[:4096]
        moved = np.linalg.norm(model(points) - model(IMAGES[:1]), axis=1)
        lengths = np.linalg.norm((points - IMAGES[0]).reshape(len(points), -1), axis=1)
        assert (moved <= constant * lengths * (1 + 1e-5)).all(), name
    inputs = keras.Input((9, 9, 1))
    for layer, gain in (
        (keras.layers.Conv2D(1, 3, padding="same", kernel_initializer="ones"), 9 * 49 / 81),  # inside, of constants
        (keras.layers.Conv2D(1, 3, 3, kernel_initializer="ones"), 3),
        (keras.layers.AveragePooling2D(3), 1 / 3),
        (keras.layers.MaxPooling2D(3, 1), 1),
        (keras.layers.GlobalAveragePooling2D(), 1 / 9),
    ):
        constant = network.lipschitz_constant(rules.network_steps(keras.Model(inputs, layer(inputs))))
        assert gain <= constant <= 9 * 1.01
    normalize = PixelNormalization([0.5] * 3, [0.25, 0.5, 1.0])
    inputs = keras.Input((1, 1, 3))
    constant = network.lipschitz_constant(rules.network_steps(keras.Model(inputs, normalize(inputs))))
    assert 4 <= constant <= 4.01
    inputs = keras.Input((9, 9, 1))
    # One pixel in nine windows is the largest of each.
    spike = np.zeros((2, 9, 9, 1), np.float32)
    spike[1, 4, 4] = 1
    pooled = keras.Model(inputs, keras.layers.MaxPooling2D(3, 1)(inputs))
    assert np.linalg.norm(pooled(spike)[1]) <= network.lipschitz_constant(rules.network_steps(pooled))


def check_rounding(rules=rules, intervals=intervals):
    """Sums that cancel: whatever float32 makes of them, in any order, is in the box."""
    random = np.random.default_rng(0)
    for scale in (1.0, 1e4, 1e30, 1e-30):
        dense = keras.layers.Dense(1)
        inputs = keras.Input((40,))
        model = keras.Model(inputs, dense(inputs))
        half = random.normal(size=20) * 10.0 ** random.uniform(-6, 6, 20) * scale
        kernel = np.concatenate([half, -half]).astype(np.float32)
        dense.set_weights([kernel[:, None], np.float32([scale * 1e-7])])
        x = np.full(40, 0.7, np.float32)
        box = intervals.propagate(
            rules.network_steps(model), intervals.Interval(*(tf.constant(x[None].astype(np.float64)),) * 2)
        )[-1]
        for _ in range(200):
            total = np.float32(0)
            for i in random.permutation(40):
                total = np.float32(total + np.float32(kernel[i] * x[i]))
            assert box.low.numpy() <= np.float32(total + dense.bias.numpy()) <= box.high.numpy()
        exact = np.float64(kernel) @ np.float64(x) + np.float64(dense.bias.numpy())
        assert box.low.numpy() < exact < box.high.numpy()


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_intervals_enclose_all_corners(name):
    check_intervals(name)


@pytest.mark.slow
def test_linear_bounds_are_below_the_true_minimum():
    check_linear_bounds()


def test_lipschitz_constants_are_upper_bounds():
    check_margins()


def test_float32_is_enclosed_at_adversarial_magnitudes():
    check_rounding()


INTERVAL_BUGS = [
    ("relu", rules, "return beta - shift,", "return beta,"),
    ("relu", rules, "tf.math.rsqrt(tf.cast(variance, dtype)", "tf.math.sqrt(tf.cast(variance, dtype)"),
    ("relu", rules, "x * (tf.abs(scale(x.dtype)) if absolute", "x * (0.5 * tf.abs(scale(x.dtype)) if absolute"),
    ("relu", rules, "return tf.abs(kernel) if absolute else kernel", "return kernel"),
    ("relu", rules, 'if layer.channel_order == "bgr" else scaled', "if False else scaled"),
    ("relu", rules, "return -shift, tf.abs(shift)", "return shift, tf.abs(shift)"),
    ("relu", rules, "tf.reduce_mean(x, axes, keepdims", "tf.reduce_max(x, axes, keepdims"),
    ("pooling", rules, "layer.bias, dtype), tf.abs", "0.0 * layer.bias, dtype), tf.abs"),
    ("pooling", rules, "return tf.nn.max_pool2d(x,", "return tf.nn.avg_pool2d(x,"),
    ("pooling", rules, "[0, *layer.dims]", "[0, 2, 3, 1]"),
    ("pooling", rules, "return [dense, *_activation(layer, layer.activation)]", "return [dense]"),
    ("other", rules, "return [convolution, *_activation(layer, layer.activation)]", "return [convolution]"),
    ("other", rules, "[Monotone(layer.name, tf.nn.relu6)]", "[]"),
    ("other", rules, "tf.cast(layer.max_value, x.dtype)", "tf.cast(0.5, x.dtype)"),
    ("other", rules, "[Monotone(layer.name, tf.tanh, error=TANH_ERROR)]", "[Monotone(layer.name, tf.nn.relu6)]"),
    ("other", rules, "return tf.nn.avg_pool2d(x,", "return -tf.nn.max_pool2d(-x,"),
    ("other", rules, "MaxMin: lambda layer: [Monotone(layer.name, layer.call)]", "MaxMin: lambda layer: []"),
    ("relu", intervals, "step.apply((box.high - box.low) / 2, True)", "step.apply((box.high - box.low) / 4, True)"),
    ("relu", intervals, "step.apply((box.high - box.low) / 2, True)", "step.apply((box.high - box.low) / 2, False)"),
    ("other", intervals, "step(box.high) + step.error", "step(box.low) + step.error"),
    ("relu", intervals, "side * reach", "0.5 * side * reach"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "module", "old", "new"), INTERVAL_BUGS)
def test_a_bug_in_a_rule_of_intervals_is_found(name, module, old, new):
    broken = {module.__name__.rpartition(".")[2]: mutant(module, old, new)}
    with pytest.raises(AssertionError):
        check_intervals(name, **broken)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("least += _sums(slopes * offset) -", "least -="),
        ("negative * (-chord * low)[:, None]", "0.5 * negative * (-chord * low)[:, None]"),
        ("positive * lower_slope[:, None] + negative * chord[:, None]", "positive + negative * chord[:, None]"),
        ("positive * lower_slope[:, None] + negative * chord[:, None]", "positive * lower_slope[:, None]"),
        ("tf.maximum(slopes, 0) * boxes[0].low", "tf.maximum(slopes, 0) * boxes[0].high"),
        ("tf.minimum(slopes, 0) * boxes[0].high", "tf.minimum(slopes, 0) * boxes[0].low"),
    ],
)
def test_a_bug_in_a_linear_bound_is_found(old, new):
    with pytest.raises(AssertionError):
        check_linear_bounds(crown=mutant(crown, old, new))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        (rules, "kernel.shape[-1])) * float(patches) ** 0.5", "kernel.shape[-1]))"),
        (rules, "lambda: 1 / min(layer.std)", "lambda: 1.0"),
        (rules, "float(np.linalg.norm(np.asarray(matrix, np.float64), 2))", "float(np.asarray(matrix)[0, 0])"),
        (rules, "tf.reduce_max(tf.abs(scale(tf.float64)))", "0.1 * tf.reduce_max(tf.abs(scale(tf.float64)))"),
        (rules, "norm=float(windows) ** 0.5)", "norm=1.0)"),
        (rules, "places**-0.5)", "1 / places)"),
        (network, "constant *= step.norm() if isinstance(step, Affine) else step.norm", "constant = 1.0"),
    ],
)
def test_a_bug_in_a_lipschitz_constant_is_found(module, old, new):
    broken = {module.__name__.rpartition(".")[2]: mutant(module, old, new)}
    with pytest.raises(AssertionError):
        check_margins(**broken)


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        (steps, "return gamma * (self.apply(magnitude, True)", "return 0.0 * (self.apply(magnitude, True)"),
        (steps, "UNIT_ROUNDOFF = 2.0**-24", "UNIT_ROUNDOFF = 2.0**-53"),
        (intervals, "radius = radius + step.rounding(", "radius = radius + 0.0 * step.rounding("),
    ],
)
def test_rounding_that_is_left_out_is_found(module, old, new, monkeypatch):
    broken = mutant(module, old, new)
    if module is steps:
        monkeypatch.setattr(steps.Affine, "rounding", broken.Affine.rounding)
    with pytest.raises(AssertionError):
        check_rounding(intervals=intervals if module is steps else broken)


@pytest.mark.slow
@pytest.mark.parametrize("method", network.METHODS)
def test_certified_bits_do_not_flip_at_any_corner(method):
    model = relu_network(seed=4)
    for epsilon in (0.01, 0.05, 0.2):
        certified = network.network_bits(model, IMAGES, epsilon, method=method, batch_size=1)
        for image, fixed in zip(IMAGES, certified, strict=True):
            bits = model.predict(corners(image, epsilon), batch_size=8192, verbose=0) >= 0
            assert not (fixed & bits.any(axis=0) & ~bits.all(axis=0)).any()
    assert network.network_bits(model, IMAGES, 0.01, method=method).mean() > 0.5


def test_linear_bounds_certify_bits_that_intervals_do_not():
    model = HashingModel("small_cnn", 8, 16)
    image, epsilon = np.random.default_rng(0).random((1, 16, 16, 3), np.float32), 0.5 / 255
    chain = rules.network_steps(model)
    boxes = intervals.propagate(chain, intervals.pixel_box(image, epsilon))
    tight, loose = crown.least_margins(chain, boxes, tf.ones((1, 8))).numpy()[0], boxes[-1].low.numpy()[0]
    assert (tight > loose).all()
    model.hash_head.projection.bias.assign(-(tight + loose) / 2)
    assert not network.network_bits(model, image, epsilon, method="ibp").any()
    assert network.network_bits(model, image, epsilon, method="crown").all()


def test_batch_norm_is_enclosed_folded_or_not():
    model = relu_network(seed=5)
    image = np.float64(IMAGES[:1])
    box = intervals.propagate(rules.network_steps(model), intervals.Interval(tf.constant(image), tf.constant(image)))[
        -1
    ]
    for one in (model, folded(model)):
        logits = one(IMAGES[:1]).numpy()
        assert (box.low.numpy() <= logits).all() and (logits <= box.high.numpy()).all()
    assert (box.high - box.low).numpy().max() < 1e-4


def test_the_joint_margin_is_reached_by_an_orthogonal_encoder():
    rows = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1]]) / 2  # orthonormal, equal entries: L-inf is L2 / 2
    head = HashHead(3, orthogonal=True)
    inputs = keras.Input((1, 1, 4))
    model = keras.Model(inputs, head(keras.layers.Flatten()(inputs)))
    head.projection.set_weights([rows.T.astype(np.float32), np.float32([-0.98, 0.03, 0.3])])
    image = np.full((1, 1, 1, 4), 0.5, np.float32)
    logits = head.logits(image.reshape(1, 4)).numpy()[0]
    assert logits == pytest.approx([0.02, 0.03, 0.3])
    for epsilon, expected in ((0.009, []), (0.0102, [0]), (0.0152, [1])):
        costs, budget, constant = network.margin_costs(model, image, epsilon)
        assert constant == pytest.approx(1.0, abs=1e-6)
        assert budget[0] == pytest.approx(4 * epsilon**2, rel=1e-3)
        may_flip = costs[0] <= budget[0]
        for bit in expected:  # straight through the plane of the bit
            attacked = image.reshape(4) - np.sign(rows[bit]) * epsilon
            assert head.logits(attacked[None].astype(np.float32)).numpy()[0, bit] < 0
            assert may_flip[bit]
        assert not may_flip[2]
    assert costs[0].sum() == pytest.approx((logits**2).sum(), rel=1e-3)


def test_alexnet_and_vgg_have_rules(monkeypatch):
    monkeypatch.setattr(vgg, "FILTERS", (4,) * 5)
    monkeypatch.setattr(vgg, "DENSE_FEATURES", 8)
    model = vgg.vgg(32, depth=11, batch_norm=True)
    image = np.random.default_rng(0).random((1, 32, 32, 3), np.float32)
    box = intervals.propagate(rules.network_steps(model), intervals.pixel_box(image, 1e-4))[-1]
    features = model(image).numpy()
    assert (box.low.numpy() <= features).all() and (features <= box.high.numpy()).all()
    alexnet = sys.modules["saat_tf.backbones.alexnet"]  # the package has a function of that name
    monkeypatch.setattr(alexnet, "POOLED_SIDE", 1)
    names = [step.name for step in rules.network_steps(alexnet.alexnet(63))]
    assert names[:4] == ["features.0_pad", "features.0", "features.0", "features.2"]


def functional(*layers):
    inputs = x = keras.Input((4, 4, 3))
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


def joined():
    inputs = keras.Input((4, 4, 3))
    return keras.Model(inputs, keras.layers.Add(name="sum")([inputs, keras.layers.ReLU()(inputs)]))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: functional(keras.layers.LeakyReLU(name="leaky")), "'leaky' .LeakyReLU. has no rule"),
        (
            lambda: functional(keras.layers.ReLU(negative_slope=0.1, name="slope")),
            "'slope' .ReLU. has no rule.*negative",
        ),
        (lambda: functional(keras.layers.Conv2D(2, 1, activation="gelu", name="conv")), "'conv'.*activation 'gelu'"),
        (lambda: functional(keras.layers.Conv2D(3, 1, groups=3, name="grouped")), "'grouped'.*groups"),
        (lambda: functional(keras.layers.Dense(2, dtype="mixed_bfloat16", name="half")), "'half'.*bfloat16"),
        (joined, "'sum' .Add. has no rule.*joins"),
        (lambda: PurifiedModel("small_cnn", 8, 16), "'purifier' .Purifier. has no rule.*class of its own"),
    ],
)
def test_a_layer_without_a_rule_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        rules.network_steps(build())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: network.network_bits(relu_network(), IMAGES, 0.0), "must be above 0"),
        (lambda: network.network_bits(relu_network(), IMAGES, 2.0), r"epsilon must be in \[0, 1\]"),
        (lambda: network.network_bits(relu_network(), IMAGES, 0.1, method="guess"), "`method` must be one of"),
        (lambda: network.network_bits(NETWORKS["pooling"](), IMAGES, 0.1, method="crown"), "has no linear bounds"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_bits_are_the_code_length():
    assert network.network_bits(relu_network(), IMAGES, 0.1).shape == (2, BITS)
