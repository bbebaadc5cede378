"""Step rules, against loops in NumPy on a model whose slopes can be written down."""

import numpy as np
import pytest
import tensorflow as tf

from saat_tf.attacks import PGD, AdamStep, DiverseInput, GradientStep, MomentumStep, SignStep, alignment
from saat_tf.attacks.schedules import constant_alphas, rising_alphas
from saat_tf.threat_model import ThreatModel

EPSILON, STEP, BITS, SIDE = 8 / 255, 1 / 255, 6, 4
SEED = tf.constant([3, 4])


class TanhModel:
    """h = tanh(alpha x W), in TensorFlow and, with its slope of mean_k h_k t_k, in NumPy."""

    def __init__(self, side=SIDE, scale=0.4):
        rng = np.random.default_rng(side)
        pixels = side * side * 3
        self.weights = (rng.choice([-1, 1], (pixels, BITS)) * rng.uniform(0.2, 1, (pixels, BITS))) * scale
        self.seen = []

    def relax(self, images, alpha):
        if tf.executing_eagerly():
            self.seen.append(images.numpy())
        return tf.tanh(alpha * tf.matmul(tf.reshape(images, (tf.shape(images)[0], -1)), np.float32(self.weights)))

    def slope(self, images, alpha, wanted):
        h = np.tanh(alpha * images.reshape(len(images), -1) @ self.weights)
        return ((wanted / BITS * alpha * (1 - h**2)) @ self.weights.T).reshape(images.shape)


class LinearModel(TanhModel):
    """h = alpha x W: its slope is the same everywhere."""

    def relax(self, images, alpha):
        return alpha * tf.matmul(tf.reshape(images, (tf.shape(images)[0], -1)), np.float32(self.weights))

    def slope(self, images, alpha, wanted):
        return (alpha * wanted / BITS @ self.weights.T).reshape(images.shape)


def images_of(side=SIDE, rows=3):
    images = np.random.default_rng(1).random((rows, side, side, 3), np.float32)
    images[0, :2], images[0, 2:] = 0.0, 1.0
    return images


def wanted_codes(rows=3):
    return np.random.default_rng(0).choice(np.float32([-1, 1]), (rows, BITS))


def attack_of(rule, num_steps=4, schedule=constant_alphas, **options):
    return PGD(
        threat_model=ThreatModel(EPSILON),
        objective=alignment,
        rule=rule,
        num_steps=num_steps,
        schedule=schedule,
        random_start=False,
        **options,
    )


def project(x, images):
    return np.clip(x, images - EPSILON, images + EPSILON).clip(0, 1)


def normalized(gradient):
    return gradient / np.abs(gradient).mean(axis=(1, 2, 3), keepdims=True)


def momentum_loop(model, images, wanted, alphas, decay, look_ahead, num_scales):
    x, g = images.astype(np.float64), 0.0
    for alpha in alphas:
        place = x + STEP * decay * g if look_ahead else x
        # d/dx J(x / 2^i) = J'(x / 2^i) / 2^i
        d = sum(model.slope(place / 2**i, alpha, wanted) / 2**i for i in range(num_scales)) / num_scales
        g = decay * g + normalized(d)
        assert np.abs(g).min() > 1e-5  # no sign hangs on rounding
        x = project(x + STEP * np.sign(g), images)
    return x


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [constant_alphas, rising_alphas])
@pytest.mark.parametrize("decay", [1.0, 0.5, 0.0])
@pytest.mark.parametrize(("look_ahead", "num_scales"), [(False, 1), (True, 1), (False, 3), (True, 5)])
def test_momentum_steps_are_those_of_a_loop(schedule, decay, look_ahead, num_scales):
    model, images, wanted = TanhModel(), images_of(), wanted_codes()
    rule = MomentumStep(STEP, decay=decay, look_ahead=look_ahead, num_scales=num_scales)
    result = attack_of(rule, 10, schedule)(model.relax, images, wanted, SEED).numpy()
    expected = momentum_loop(model, images, wanted, schedule(10), decay, look_ahead, num_scales)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)


def test_the_loops_differ_where_the_rules_do():
    # So that the test before can tell the rules apart.
    model, images, wanted = TanhModel(scale=2.0), images_of(), wanted_codes()
    options = [(1.0, False, 1), (0.0, False, 1), (1.0, True, 1), (1.0, False, 3)]
    ends = [momentum_loop(model, images, wanted, [1.0] * 10, *option) for option in options]
    for i in range(len(ends)):
        for j in range(i):
            assert np.abs(ends[i] - ends[j]).max() > STEP / 2


def test_variance_is_that_of_the_neighbors_of_the_step_before():
    model, images, wanted, neighbors = TanhModel(scale=2.0), images_of(), wanted_codes(), 3
    attack = attack_of(MomentumStep(STEP, num_neighbors=neighbors), 6)
    result = attack(model.relax, images, wanted, SEED).numpy()
    x, g, variance = images.astype(np.float64), 0.0, 0.0
    assert len(model.seen) == 6 * (1 + neighbors)
    for step in range(6):
        seen = [place.astype(np.float64) for place in model.seen[4 * step : 4 * step + 4]]
        center = min(range(4), key=lambda i: np.abs(seen[i] - x).max())  # the others are its neighbors
        np.testing.assert_allclose(seen.pop(center), x, rtol=0, atol=1e-5)
        for i, place in enumerate(seen):
            assert 1.3 * EPSILON < np.abs(place - x).max() <= 1.5 * EPSILON + 1e-6
            assert all(np.abs(place - other).max() > EPSILON for other in seen[:i])
        d = model.slope(x, 1.0, wanted)
        g = g + normalized(d + variance)
        assert np.abs(g).min() > 1e-4
        variance = np.mean([model.slope(place, 1.0, wanted) for place in seen], axis=0) - d
        x = project(x + STEP * np.sign(g), images)
    np.testing.assert_allclose(result, x, rtol=0, atol=1e-5)


def test_where_the_slope_is_the_same_everywhere_variance_changes_nothing():
    model, images, wanted = LinearModel(), images_of(), wanted_codes()
    plain, varied = (
        attack_of(rule, 5)(model.relax, images, wanted, SEED).numpy()
        for rule in (MomentumStep(STEP), MomentumStep(STEP, num_neighbors=4))
    )
    np.testing.assert_array_equal(plain, varied)
    np.testing.assert_allclose(plain, momentum_loop(model, images, wanted, [1.0] * 5, 1.0, False, 1), rtol=0, atol=1e-6)


def test_an_image_without_a_slope_keeps_its_place_and_gets_no_nan():
    images, wanted = images_of(), wanted_codes()
    flat = lambda x, alpha: tf.tanh(0.0 * tf.reshape(x, (-1, 48))[:, :BITS])  # noqa: E731
    for rule in (MomentumStep(STEP, num_neighbors=2), AdamStep(), GradientStep(1.0), SignStep(STEP)):
        np.testing.assert_array_equal(attack_of(rule)(flat, images, wanted, SEED).numpy(), images)


@pytest.mark.parametrize("pixel_weight", [0.0, 20.0])
def test_heavy_ball_steps_are_those_of_a_loop(pixel_weight):
    model, images, wanted = TanhModel(), images_of(), wanted_codes()
    attack = attack_of(GradientStep(0.05, 0.9), 8, rising_alphas, pixel_weight=pixel_weight)
    x, v = images.astype(np.float64), 0.0
    for alpha in rising_alphas(8):
        v = 0.9 * v + model.slope(x, alpha, wanted) - pixel_weight * 2 * (x - images) / images[0].size
        x = project(x + 0.05 * v, images)
    assert 0.1 < np.mean(np.abs(x - images) < 0.9 * EPSILON)  # the ball does not decide everywhere
    np.testing.assert_allclose(attack(model.relax, images, wanted, SEED).numpy(), x, rtol=0, atol=1e-6)


def test_adam_steps_are_those_of_a_loop():
    model, images, wanted = TanhModel(), images_of(), wanted_codes()
    attack = attack_of(AdamStep(0.002), 8, rising_alphas)
    x, m, v = images.astype(np.float64), 0.0, 0.0
    for t, alpha in enumerate(rising_alphas(8), start=1):
        g = model.slope(x, alpha, wanted)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x = project(x + 0.002 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8), images)
    np.testing.assert_allclose(attack(model.relax, images, wanted, SEED).numpy(), x, rtol=0, atol=2e-6)


def resized(side, inner):
    """Bilinear resampling with half-pixel centers, as a matrix (inner, side)."""
    matrix = np.zeros((inner, side))
    for i in range(inner):
        place = (i + 0.5) * side / inner - 0.5
        low = int(np.floor(place))
        for j, share in ((low, low + 1 - place), (low + 1, place - low)):
            matrix[i, min(max(j, 0), side - 1)] += share
    return matrix


def varied_views(images, side):
    """Every way to shrink images to 90% of their side or more and pad them: {(inner, top, left): linear map}."""
    for inner in range(int(0.9 * side), side):
        shrink = resized(side, inner)
        for top in range(side - inner + 1):
            for left in range(side - inner + 1):
                view = np.zeros((len(images), side, side, 3))
                view[:, top : top + inner, left : left + inner] = np.einsum("ij,bjkc,lk->bilc", shrink, images, shrink)
                yield (inner, top, left), view, shrink


def test_diverse_inputs_are_shrunk_and_padded_images_and_the_slope_goes_back_through_them():
    side, places = 20, set()
    images, wanted = images_of(side), wanted_codes()
    for draw in range(8):
        model = TanhModel(side, scale=0.05)
        rule = DiverseInput(GradientStep(1.0, 0.0), probability=1.0)
        result = attack_of(rule, 1)(model.relax, images, wanted, tf.constant([0, draw])).numpy()
        (seen,) = model.seen
        assert seen.shape == images.shape
        matches = [
            (place, view, shrink)
            for place, view, shrink in varied_views(images, side)
            if np.abs(view - seen).max() < 1e-5
        ]
        (((inner, top, left), view, shrink),) = matches
        places.add((inner, top, left))
        slope = model.slope(view, 1.0, wanted)[:, top : top + inner, left : left + inner]
        expected = project(images + np.einsum("ij,bilc,lk->bjkc", shrink, slope, shrink), images)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-5)
    assert {inner for inner, *_ in places} == {18, 19}
    assert len(places) > 3


@pytest.mark.parametrize(("probability", "share"), [(0.0, (0, 0)), (1.0, (1, 1)), (0.5, (0.25, 0.75))])
def test_so_many_steps_see_varied_images(probability, share):
    model, images = TanhModel(12), images_of(12)
    attack_of(DiverseInput(SignStep(1e-6), probability), 24)(model.relax, images, wanted_codes(), SEED)
    varied = np.mean([np.abs(seen - images).max() > 0.01 for seen in model.seen])
    assert share[0] <= varied <= share[1]


def test_diverse_inputs_serve_every_rule_and_every_call_of_one_step_sees_the_same_view():
    model, images = TanhModel(10), images_of(10)
    rule = DiverseInput(MomentumStep(STEP, num_scales=2), probability=1.0)
    attack_of(rule, 3)(model.relax, images, wanted_codes(), SEED)
    assert len(model.seen) == 6
    for whole, half in zip(model.seen[::2], model.seen[1::2], strict=True):
        np.testing.assert_allclose(half, whole / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MomentumStep(STEP, decay=-0.1), "`decay`"),
        (lambda: MomentumStep(STEP, num_scales=0), "`num_scales`"),
        (lambda: MomentumStep(STEP, num_neighbors=-1), "`num_neighbors`"),
        (lambda: MomentumStep(STEP, neighborhood=0.0), "`neighborhood`"),
        (lambda: MomentumStep(2.0), "`step_size`"),
        (lambda: DiverseInput(SignStep(STEP), probability=1.1), "`probability`"),
        (lambda: DiverseInput(SignStep(STEP), smallest=1.0), "`smallest`"),
        (lambda: GradientStep(0.0), "`learning_rate`"),
        (lambda: GradientStep(1.0, momentum=1.0), "`momentum`"),
        (lambda: AdamStep(0.0), "`learning_rate`"),
        (lambda: AdamStep(np.nan), "`learning_rate`"),
        (lambda: GradientStep(np.nan), "`learning_rate`"),
        (lambda: MomentumStep(STEP, decay=np.nan), "`decay`"),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message + r".*Received"):
        make()
