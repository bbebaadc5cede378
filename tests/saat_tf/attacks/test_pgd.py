"""The gradient loop: its contracts on a network, and its steps where they can be worked out."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.attacks import PGD, SignStep, adaptive_alignment, alignment, code_attack, mainstay_attack
from saat_tf.attacks.schedules import constant_alphas, rising_alphas
from saat_tf.layers import CodeBank
from saat_tf.models import HashingModel
from saat_tf.threat_model import ThreatModel

EPSILON = 8 / 255
PIXELS = 4 * 4 * 3
BITS = 6
SEED = tf.constant([3, 4])


class TanhModel:
    """h = tanh(alpha x W) with W (P, K) small enough for the tanh to keep a slope."""

    def __init__(self, bits=BITS, one_bit_a_pixel=False, scale=0.3):
        rng = np.random.default_rng(bits)
        weights = rng.choice([-1, 1], (PIXELS, bits)) * rng.uniform(0.2, 1, (PIXELS, bits)) * scale
        if one_bit_a_pixel:
            weights *= np.arange(PIXELS)[:, None] % bits == np.arange(bits)
        self.weights = weights.astype(np.float32)

    def relax(self, images, alpha):
        return tf.tanh(alpha * tf.matmul(tf.reshape(images, (-1, PIXELS)), self.weights))


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return HashingModel("small_cnn", 16, 32)


def tanh_images(rows=3):
    images = np.random.default_rng(1).random((rows, 4, 4, 3), np.float32)
    images[0, :2] = 0.0
    images[0, 2:] = 1.0
    return images


def network_images(rows=3):
    return np.random.default_rng(2).random((rows, 32, 32, 3), np.float32)


def wanted_codes(rows, bits, seed=0):
    return np.random.default_rng(seed).choice(np.float32([-1, 1]), (rows, bits))


def attack_of(objective=alignment, step_255=2, num_steps=4, epsilon_255=8, schedule=constant_alphas):
    return PGD(
        threat_model=ThreatModel.from_255(epsilon_255),
        objective=objective,
        rule=SignStep(step_255 / 255),
        num_steps=num_steps,
        schedule=schedule,
    )


CASES = {
    "tanh": (lambda network: TanhModel().relax, tanh_images, BITS),
    "network": (lambda network: lambda images, alpha: network(images, alpha=alpha), network_images, 16),
}


@pytest.fixture(params=CASES)
def victim(request, network):
    """A model, images and bits."""
    make, images, bits = CASES[request.param]
    return make(network), images(), bits


@pytest.mark.parametrize("objective", [alignment, adaptive_alignment])
@pytest.mark.parametrize(("epsilon_255", "step_255"), [(8, 2), (8, 20), (0, 1), (255, 255)])
def test_what_is_returned_is_in_the_ball_and_in_the_pixel_range(victim, objective, epsilon_255, step_255):
    relax, images, bits = victim
    attack = attack_of(objective, step_255=step_255, num_steps=2, epsilon_255=epsilon_255)
    result = attack(relax, images, wanted_codes(len(images), bits), SEED).numpy()
    assert result.shape == images.shape
    assert result.dtype == np.float32
    assert np.abs(result.astype(np.float64) - images).max() <= epsilon_255 / 255 + 1e-6
    assert result.min() >= 0
    assert result.max() <= 1


def test_a_seed_repeats_its_result_and_another_gives_another(victim):
    relax, images, bits = victim
    run = tf.function(lambda seed: attack_of()(relax, images, wanted_codes(len(images), bits), seed))
    first, again, other = (run(tf.constant(seed)).numpy() for seed in ([0, 1], [0, 1], [0, 2]))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1 / 255


@pytest.mark.slow
@pytest.mark.parametrize("objective", [alignment, adaptive_alignment])
@pytest.mark.parametrize("towards", [1.0, -1.0])
def test_a_wanted_code_is_approached_and_its_opposite_left(victim, objective, towards):
    relax, images, bits = victim
    codes = wanted_codes(len(images), bits, seed=5)

    def alignment_with_codes(x):
        return (relax(tf.constant(x), 1.0).numpy() * codes).mean(axis=1)

    attack = attack_of(objective, num_steps=10)
    before, after = alignment_with_codes(images), alignment_with_codes(attack(relax, images, towards * codes, SEED))
    assert (towards * (after - before) > 0).all()


@pytest.mark.parametrize("graph", [False, True])
def test_an_attack_changes_no_variable_of_the_model(network, graph):
    assert network.trainable_variables
    assert network.non_trainable_variables
    before = [variable.numpy() for variable in network.variables]
    attack = attack_of(adaptive_alignment, num_steps=3, schedule=rising_alphas)
    run = tf.function(attack) if graph else attack
    run(network, tf.constant(network_images()), tf.constant(wanted_codes(3, 16)), SEED)
    for variable, value in zip(network.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


@pytest.mark.parametrize("objective", [alignment, adaptive_alignment])
def test_eagerly_and_in_a_graph_the_steps_are_the_same(objective):
    model, images, wanted = TanhModel(), tf.constant(tanh_images()), wanted_codes(3, BITS)
    attack = attack_of(objective, num_steps=10, schedule=rising_alphas)
    eager = attack(model.relax, images, wanted, SEED).numpy()
    graph = tf.function(lambda x, t, s: attack(model.relax, x, t, s))(images, wanted, SEED).numpy()
    np.testing.assert_allclose(graph, eager, rtol=0, atol=1e-6)


def test_eagerly_and_in_a_graph_an_attack_on_a_network_does_as_much(network):
    images, wanted = tf.constant(network_images()), wanted_codes(3, 16)
    attack = attack_of(num_steps=4)
    eager = attack(network, images, wanted, SEED)
    graph = tf.function(lambda x: attack(network, x, wanted, SEED))(images)
    # A graph sums in another order, which turns a few slopes near zero; nearly all pixels take the same steps.
    assert np.isclose(eager, graph, rtol=0, atol=1e-6).mean() > 0.9
    gains = [(network(x).numpy() * wanted).mean() for x in (images, eager, graph)]
    assert gains[2] - gains[0] == pytest.approx(gains[1] - gains[0], rel=0.02)


def test_a_batch_of_one_and_a_batch_of_unknown_size_serve(network):
    attack = attack_of(num_steps=2)
    images, wanted = network_images(2), wanted_codes(2, 16)
    signature = [tf.TensorSpec([None, 32, 32, 3]), tf.TensorSpec([None, 16]), tf.TensorSpec([2], tf.int32)]
    run = tf.function(lambda x, t, s: attack(network, x, t, s), input_signature=signature)
    for rows in (1, 2):
        result = run(images[:rows], wanted[:rows], SEED).numpy()
        assert result.shape == (rows, 32, 32, 3)
        assert 0 < np.abs(result - images[:rows]).max() <= EPSILON + 1e-6
    assert attack(network, images[:1], wanted[:1], SEED).shape == (1, 32, 32, 3)


def operations(function, *arguments):
    """The kinds of operations that a traced function runs, bodies of loops and inner functions included.

    The gradient of a convolution adds both of its slopes to a graph. TensorFlow drops what no result needs before it
    runs a function, so only nodes count here from which a path leads to a result.
    """
    concrete = tf.function(function).get_concrete_function(*arguments)
    kinds = set()
    for definition in (concrete.function_def, *concrete.graph.as_graph_def().library.function):
        nodes = {node.name: node for node in definition.node_def}
        needed, waiting = set(), [*definition.ret.values(), *definition.control_ret.values()]
        while waiting:
            name = waiting.pop().lstrip("^").split(":")[0]
            if name in nodes and name not in needed:
                needed.add(name)
                waiting.extend(nodes[name].input)
        kinds |= {nodes[name].op for name in needed}
    return kinds


def test_the_graph_of_an_attack_has_pixel_gradients_and_no_weight_gradients(network):
    images, wanted = tf.constant(network_images()), tf.constant(wanted_codes(3, 16))
    attack = attack_of(adaptive_alignment, num_steps=7)
    found = operations(lambda x, t: attack(network, x, t, SEED), images, wanted)
    assert found & {"While", "StatelessWhile"}  # the loop is one body, not seven copies
    assert "Conv2DBackpropInput" in found
    assert "Conv2DBackpropFilter" not in found
    assert not [op for op in found if op.startswith(("Assign", "ResourceScatter"))]


def test_the_search_for_weight_gradients_finds_them_where_they_are(network):
    def loop_with_weight_gradients(images):
        def body(t, total):
            with tf.GradientTape() as tape:
                value = tf.reduce_sum(network(images))
            gradients = tape.gradient(value, network.trainable_variables)
            return t + 1, total + tf.add_n([tf.reduce_sum(g) for g in gradients])

        return tf.while_loop(lambda t, _: t < 3, body, (0, 0.0))

    assert "Conv2DBackpropFilter" in operations(loop_with_weight_gradients, tf.constant(network_images()))


def test_no_gradient_flows_through_the_returned_images():
    model, images = TanhModel(), tf.constant(tanh_images())
    with tf.GradientTape() as tape:
        tape.watch(images)
        result = attack_of()(model.relax, images, wanted_codes(3, BITS), SEED)
    assert tape.gradient(result, images) is None


@pytest.mark.slow
@pytest.mark.parametrize("bits", [1, BITS])
@pytest.mark.parametrize("towards", [1.0, -1.0])
@pytest.mark.parametrize("step_255", [1, 3, 100])
def test_on_a_tanh_model_the_attack_ends_in_the_corner_that_the_weights_name(bits, towards, step_255):
    # Each pixel feeds one bit, so the sign of its slope is that of its weight times the wanted bit, everywhere.
    model, images, codes = TanhModel(bits, one_bit_a_pixel=True), tanh_images(), wanted_codes(3, bits)
    num_steps = -(-16 // step_255)  # across the ball, 2 epsilon, from wherever the random start is
    result = attack_of(step_255=step_255, num_steps=num_steps)(model.relax, images, towards * codes, SEED)
    direction = towards * np.sign(codes @ model.weights.T).reshape(images.shape)
    expected = np.clip(images.astype(np.float64) + EPSILON * direction, 0, 1)
    np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1e-6)


def slope_by_hand(objective, logits, alpha, wanted):
    """dJ/dz for h = tanh(alpha z) in float64."""
    h = np.tanh(alpha * logits)
    if objective is alignment:
        slope = wanted / wanted.shape[1]
    else:
        active = h * wanted < 0.5
        slope = active * (2 - 2 * h * wanted) * wanted / np.maximum(active.sum(axis=1, keepdims=True), 1)
    return slope * alpha * (1 - h**2)


@pytest.mark.parametrize("objective", [alignment, adaptive_alignment])
@pytest.mark.parametrize(("num_steps", "schedule"), [(1, constant_alphas), (4, constant_alphas), (10, rising_alphas)])
def test_steps_are_those_of_a_loop_in_numpy(objective, num_steps, schedule):
    model, images, wanted = TanhModel(scale=1.0), tanh_images(), wanted_codes(3, BITS)
    attack = attack_of(objective, num_steps=num_steps, schedule=schedule)
    x = attack.threat_model.random_start(images, SEED).numpy().astype(np.float64)
    for alpha in schedule(num_steps):
        slope = slope_by_hand(objective, x.reshape(len(x), -1) @ model.weights, alpha, wanted) @ model.weights.T
        assert (np.abs(slope) > 1e-9).all()
        x = np.clip(x + 2 / 255 * np.sign(slope).reshape(x.shape), images - EPSILON, images + EPSILON).clip(0, 1)
    np.testing.assert_allclose(attack(model.relax, images, wanted, SEED).numpy(), x, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("schedule", "num_steps"), [(rising_alphas, 10), (constant_alphas, 3)])
def test_each_step_calls_the_model_once_with_the_alpha_of_the_schedule(schedule, num_steps):
    model, seen = TanhModel(), []

    def relax(images, alpha):
        seen.append(float(alpha))
        return model.relax(images, alpha)

    attack_of(num_steps=num_steps, schedule=schedule)(relax, tanh_images(), wanted_codes(3, BITS), SEED)
    np.testing.assert_allclose(seen, schedule(num_steps), rtol=1e-6)


def test_pixels_without_a_slope_stay_where_the_random_start_put_them():
    model, images = TanhModel(), tanh_images()
    model.weights[::2] = 0.0
    attack = attack_of(num_steps=3)
    start = attack.threat_model.random_start(images, SEED).numpy().reshape(3, -1)
    result = attack(model.relax, images, wanted_codes(3, BITS), SEED).numpy().reshape(3, -1)
    np.testing.assert_array_equal(result[:, ::2], start[:, ::2])
    assert (result[:, 1::2] != start[:, 1::2]).mean() > 0.5


@pytest.mark.parametrize("step_size", [0.0, -0.1, 1.5, np.nan])
def test_a_step_outside_the_pixel_range_is_refused(step_size):
    with pytest.raises(ValueError, match=r"`step_size`.*Received"):
        SignStep(step_size)


@pytest.mark.parametrize("num_steps", [0, -3])
def test_an_attack_without_steps_is_refused(num_steps):
    with pytest.raises(ValueError, match="`num_steps` must be at least 1"):
        attack_of(num_steps=num_steps)


@pytest.mark.parametrize("weight", [-1.0, np.nan])
def test_a_weight_of_the_pixel_difference_that_is_not_positive_or_zero_is_refused(weight):
    with pytest.raises(ValueError, match="`pixel_weight` must be at least 0"):
        PGD(threat_model=ThreatModel(0.1), objective=alignment, rule=SignStep(0.1), num_steps=1, pixel_weight=weight)


@pytest.fixture(scope="module")
def bank():
    bank = CodeBank.from_labels(np.eye(4), BITS)
    bank.update(tf.range(4), wanted_codes(4, BITS, seed=7))
    return bank


def test_the_mainstay_attack_has_the_settings_of_the_paper(bank):
    attack = mainstay_attack(8 / 255, bank)
    assert (attack.threat_model.epsilon, attack.pgd.rule.step_size, attack.pgd.num_steps) == (8 / 255, 1 / 255, 100)
    assert attack.pgd.random_start
    assert attack.pgd.schedule(10) == [0.1] * 5 + [0.2, 0.3, 0.5, 0.7, 1.0]


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize(("name", "objective"), [("plain", alignment), ("adaptive", adaptive_alignment)])
def test_an_attack_on_codes_is_the_loop_with_the_objective_by_name(name, objective, targeted):
    model, images, codes = TanhModel(), tanh_images(), wanted_codes(3, BITS)
    attack = code_attack(
        "codes",
        8 / 255,
        lambda labels, seed: tf.gather(codes, tf.argmax(labels, axis=1)),
        targeted=targeted,
        rule=SignStep(2 / 255),
        num_steps=5,
        objective=name,
    )
    result = attack(lambda x, alpha, training: model.relax(x, alpha), images, np.eye(3), SEED)
    wanted = codes if targeted else -codes
    expected = attack_of(objective, num_steps=5, schedule=rising_alphas)(model.relax, images, wanted, SEED)
    np.testing.assert_array_equal(result.numpy(), expected.numpy())


def test_an_unknown_objective_is_refused_with_the_names(bank):
    with pytest.raises(ValueError, match=r"plain, adaptive.*Received: 'strong'"):
        mainstay_attack(8 / 255, bank, objective="strong")
