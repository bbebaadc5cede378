"""The contracts that every attack keeps, whatever it does inside."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.attacks import (
    ATTACKS,
    PGD,
    SUITES,
    GradientAttack,
    HalvingStep,
    Knowledge,
    alignment,
    build_attack,
    center_attack,
    code_goal,
    square_attack,
    suite,
)
from saat_tf.data import draw_scenes
from saat_tf.evaluation import filled_bank
from saat_tf.layers import DMFL
from saat_tf.models import HashingModel
from saat_tf.threat_model import ThreatModel

pytestmark = pytest.mark.usefixtures("tiny_small_cnn")

BITS, SIZE, NUM_STEPS, NUM_QUERIES = 16, 16, 3, 12
BALL = ThreatModel.from_255(8)
SEED, OTHER_SEED = tf.constant([3, 37]), tf.constant([3, 5])
ORDINARY, UNLABELLED, UNSEEN = [0, 3], 1, 2  # rows of the batch under attack
UNSEEN_LABEL = 9


def halving_attack(ball, known):
    dmfl = DMFL(known.train)
    pgd = PGD(threat_model=ball, objective=alignment, rule=HalvingStep(), num_steps=NUM_STEPS)
    goal = code_goal(lambda labels, seed: dmfl(labels), targeted=False)
    return GradientAttack(name="mainstay-halving", targeted=False, goal=goal, pgd=pgd)


def named(name):
    num_steps = 1 if name == "square" else NUM_STEPS  # ten queries; each may tip over a bit that rounding decides
    return lambda ball, known: build_attack(name, ball.epsilon, known, num_steps=num_steps)


BUILDERS = {
    # ProS-GAN has no loop and a test of its own.
    **{name: named(name) for name in ATTACKS if name != "pros-gan"},
    "mainstay-halving": halving_attack,
    "center-targeted": lambda ball, known: center_attack(ball.epsilon, known.train, targeted=True, num_steps=NUM_STEPS),
    "square-targeted": lambda ball, known: square_attack(
        ball.epsilon, DMFL(known.train), targeted=True, num_queries=NUM_QUERIES
    ),
}
TARGETED = {"p2p", "dhta", "tha", "mainstay-targeted", "auto-targeted", "center-targeted", "square-targeted"}
WITHOUT_CHANCE = {"hag", "sdha"}


@dataclasses.dataclass
class Victim:
    """An encoder, what the attacker knows of it, and a batch with its labels and targets."""

    encoder: HashingModel
    known: Knowledge
    images: np.ndarray
    labels: np.ndarray
    targets: np.ndarray
    train_codes: np.ndarray
    train_labels: np.ndarray

    def labels_for(self, attack):
        return self.targets if attack.targeted else self.labels

    def relaxed_codes(self, images):
        return tf.cast(self.encoder(tf.constant(images), training=False), tf.float32)

    def score(self, attack, images):
        """How near the codes of images are to what the attack wants, by the attack's own measure."""
        goal = attack.goal(self.encoder, tf.constant(self.images), tf.constant(self.labels_for(attack)), SEED)
        h = self.relaxed_codes(images)
        measure = attack.score if isinstance(attack, GradientAttack) else lambda h, t: alignment(tf.sign(h), t)
        return measure(h, goal).numpy()


def prototype_codes(labels):
    weights = np.random.default_rng(9).choice(np.float32([-1, 1]), (10, BITS))
    return tf.where(tf.matmul(labels, weights) >= 0, 1.0, -1.0)


def make_victim(precision="float32"):
    keras.utils.set_random_seed(0)
    encoder = HashingModel("small_cnn", BITS, SIZE, precision=precision)
    scenes = draw_scenes(60, image_size=SIZE, seed=0)
    logits = tf.cast(encoder.logits(scenes.images), tf.float32).numpy()
    projection = encoder.hash_head.projection  # scaled so that the codes differ between images
    projection.kernel.assign(projection.kernel / logits.std())
    projection.bias.assign(-logits.mean(axis=0) / logits.std())

    seen = scenes.labels[:, UNSEEN_LABEL] == 0
    train_labels = scenes.labels[seen]
    packed = encoder.encode(scenes.images[seen]).numpy()
    bank = filled_bank(packed, train_labels)
    images, labels = scenes.images[seen][:4].copy(), train_labels[:4].copy()
    images[0, : SIZE // 2], images[0, SIZE // 2 :] = 0.0, 1.0
    labels[UNLABELLED] = 0
    labels[UNSEEN] = np.eye(10)[UNSEEN_LABEL]
    targets = labels.copy()
    sets, counts = np.unique(train_labels, axis=0, return_counts=True)
    for row in ORDINARY:  # a set of one training item, whose code is thereby the anchor
        targets[row] = next(s for s, n in zip(sets, counts, strict=True) if n == 1 and s.any() and not s @ labels[row])
    known = Knowledge(train=bank, database=bank, prototype_codes=prototype_codes)
    codes = np.unpackbits(packed, axis=1) * 2.0 - 1.0
    return Victim(encoder, known, images, labels, targets, codes, train_labels)


@pytest.fixture(scope="module")
def victim():
    return make_victim()


def everything_that_remembers(victim):
    layers = (victim.encoder, victim.known.train, victim.known.database)
    tables = [variable.numpy() for layer in layers for variable in layer.variables]
    return [*tables, tf.random.get_global_generator().state.numpy(), np.random.get_state()[1]]


@pytest.fixture(scope="module")
def untouched(victim):
    return everything_that_remembers(victim)


@pytest.fixture(scope="module", params=BUILDERS)
def case(request, victim, untouched):
    """Name, attack, what it returns eagerly, and itself as a graph that takes any batch size."""
    attack = BUILDERS[request.param](BALL, victim.known)
    eager = attack(victim.encoder, victim.images, victim.labels_for(attack), SEED).numpy()
    signature = [tf.TensorSpec([None, SIZE, SIZE, 3]), tf.TensorSpec([None, 10]), tf.TensorSpec([2], tf.int32)]
    graph = tf.function(lambda x, y, s: attack(victim.encoder, x, y, s), input_signature=signature)
    return request.param, attack, eager, graph


def test_the_batch_has_what_the_contracts_speak_of(victim):
    assert victim.images.min() == 0 and victim.images.max() == 1
    assert not victim.labels[UNLABELLED].any()
    assert victim.labels[UNSEEN].any() and not victim.train_labels[:, UNSEEN_LABEL].any()
    codes = np.sign(victim.relaxed_codes(victim.images).numpy())
    assert len(np.unique(codes, axis=0)) == len(codes)


@pytest.mark.slow
def test_an_attack_says_what_it_is(case):
    name, attack, *_ = case
    assert attack.targeted == (name in TARGETED)
    assert attack.threat_model == BALL
    if name in ATTACKS:
        assert attack.name == name


def test_what_is_returned_is_in_the_ball_and_in_the_pixel_range(case, victim):
    _, _, result, _ = case
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    assert np.abs(result.astype(np.float64) - victim.images).max() <= 8 / 255 + 1e-6
    assert result.min() >= 0 and result.max() <= 1
    BALL.verify(result, victim.images)


def test_the_objective_is_never_worse_than_at_the_start(case, victim):
    _, attack, result, _ = case
    before, after = victim.score(attack, victim.images), victim.score(attack, result)
    assert (after >= before - 1e-6).all()
    assert after[ORDINARY].mean() > before[ORDINARY].mean()


def mainstay_by_hand(labels, victim):
    related = victim.train_labels @ labels
    w, n = related / np.linalg.norm(victim.train_labels, axis=1), related == 0
    return np.where(w @ victim.train_codes / w.sum() - n @ victim.train_codes / n.sum() >= -1e-12, 1, -1)


def relevant_center(labels, victim):
    return victim.train_codes[victim.train_labels @ labels > 0].mean(axis=0)


def center_by_hand(labels, victim):
    related = victim.train_labels @ labels
    w, n = related / (victim.train_labels.sum(axis=1) + labels.sum() - related), related == 0
    means = w @ victim.train_codes / (~n).sum() - n @ victim.train_codes / n.sum()
    return np.where(means >= -1e-12, 1, -1)


def anchor_by_hand(labels, victim):
    return victim.train_codes[(victim.train_labels == labels).all(axis=1)][0]


def point_of_reference(name, row, victim):
    """The point of [-1, 1]^K that the codes of an image should leave or, in a targeted attack, approach."""
    labels = (victim.targets if name in TARGETED else victim.labels)[row]
    if name == "hag":
        return np.sign(victim.relaxed_codes(victim.images[row : row + 1]).numpy()[0])
    if name == "tha":
        return prototype_codes(labels[None]).numpy()[0]
    if name == "sdha":
        return relevant_center(labels, victim)
    if name in ("p2p", "dhta"):
        return anchor_by_hand(labels, victim)
    return (center_by_hand if name.startswith("center") else mainstay_by_hand)(labels, victim)


def average_precision(relaxed_code, labels, victim):
    hits = (victim.train_labels @ labels > 0)[np.argsort(-victim.train_codes @ relaxed_code, kind="stable")]
    return np.mean((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits])


def test_codes_leave_their_code_or_approach_that_of_the_target(case, victim):
    name, _, result, _ = case
    before, after = victim.relaxed_codes(victim.images).numpy(), victim.relaxed_codes(result).numpy()
    if name.startswith("square"):
        before, after = np.sign(before), np.sign(after)
    if name == "pta":
        left = [
            average_precision(before[row], victim.labels[row], victim)
            - average_precision(after[row], victim.labels[row], victim)
            for row in ORDINARY
        ]
    else:
        left = [(before[row] - after[row]) @ point_of_reference(name, row, victim) for row in ORDINARY]
    gains = -np.array(left) if name in TARGETED else np.array(left)
    assert gains.sum() > 0
    assert (gains >= 0).all()


def test_a_query_without_labels_and_a_label_of_no_training_item_are_served(case, victim):
    name, _, result, _ = case
    moved = np.abs(result - victim.images).max(axis=(1, 2, 3)) > 1 / 255
    # Without a relevant item there is no average precision to lower.
    expected = {UNLABELLED: name != "pta", UNSEEN: name != "pta"}
    assert {row: bool(moved[row]) for row in expected} == expected


@pytest.mark.slow
def test_a_graph_does_what_eager_execution_does_and_a_seed_repeats_its_result(case, victim):
    name, attack, eager, graph = case
    labels = victim.labels_for(attack)
    first, again, other = (graph(victim.images, labels, seed).numpy() for seed in (SEED, SEED, OTHER_SEED))
    np.testing.assert_array_equal(first, again)
    # A graph sums in another order, which turns a few slopes near zero; nearly all pixels take the same steps.
    assert np.isclose(first, eager, rtol=0, atol=1e-5).mean() > 0.9
    np.testing.assert_allclose(victim.score(attack, first), victim.score(attack, eager), atol=0.02)
    if name in WITHOUT_CHANCE:
        np.testing.assert_array_equal(first, other)
    else:
        assert np.abs(first - other).max() > 1 / 255


@pytest.mark.slow
def test_a_batch_of_one_is_served(case, victim):
    _, attack, _, graph = case
    images, labels = victim.images[:1], victim.labels_for(attack)[:1]
    result = graph(images, labels, SEED).numpy()
    assert result.shape == (1, SIZE, SIZE, 3)
    BALL.verify(result, images)
    assert np.abs(result - images).max() > 1 / 255


def test_weights_statistics_tables_and_counters_stay_as_they_were(case, victim, untouched):
    _, attack, _, graph = case
    assert victim.encoder.non_trainable_variables
    graph(victim.images, victim.labels_for(attack), SEED)
    for value, before in zip(everything_that_remembers(victim), untouched, strict=True):
        np.testing.assert_array_equal(value, before)


def test_uint8_images_are_refused(case, victim):
    _, attack, *_ = case
    images = np.uint8(np.round(255 * victim.images))
    with pytest.raises(ValueError, match=r"floats in \[0, 1\].*uint8.*Divide"):
        attack(victim.encoder, images, victim.labels_for(attack), SEED)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_are_refused(case, victim, value):
    _, attack, _, graph = case
    images = victim.images.copy()
    images[1, 2, 3, 0] = value
    for run in (graph, lambda *arguments: attack(victim.encoder, *arguments)):
        # A graph can say so only when it runs.
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="NaN or infinite") as caught:
            run(images, victim.labels_for(attack), SEED)
        assert caught.errisinstance(ValueError) == (run is not graph)


def test_pixels_outside_of_0_to_1_are_refused(case, victim):
    _, attack, _, graph = case
    for images in (255 * victim.images, victim.images - np.float32(0.5)):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"outside of \[0, 1\].*Divide"):
            graph(np.float32(images), victim.labels_for(attack), SEED)
        with pytest.raises(ValueError, match=r"outside of \[0, 1\].*Divide"):
            attack(victim.encoder, np.float32(images), victim.labels_for(attack), SEED)


def test_an_empty_batch_gives_an_empty_result(case, victim):
    _, attack, *_ = case
    found = attack(victim.encoder, victim.images[:0], victim.labels_for(attack)[:0], SEED)
    assert found.shape == (0, SIZE, SIZE, 3) and found.dtype == tf.float32


@pytest.fixture(scope="module", params=["mixed_bfloat16", "mixed_float16"])
def mixed_victim(request):
    return make_victim(request.param)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_a_model_of_mixed_precision_is_attacked_as_any_other(name, mixed_victim):
    victim, attack = mixed_victim, BUILDERS[name](BALL, mixed_victim.known)
    assert victim.encoder.backbone.compute_dtype in ("float16", "bfloat16")
    result = attack(victim.encoder, victim.images, victim.labels_for(attack), SEED).numpy()
    assert result.dtype == np.float32
    BALL.verify(result, victim.images)
    before, after = victim.score(attack, victim.images), victim.score(attack, result)
    assert (after >= before - 1e-6).all()
    assert after[ORDINARY].mean() > before[ORDINARY].mean()


@pytest.mark.parametrize("name, steps", [("pta", 20), ("hag", 100), ("sdha", 100), ("mainstay", 100), ("dhta", 100)])
def test_without_a_number_the_published_steps_are_taken(victim, name, steps):
    assert build_attack(name, BALL.epsilon, victim.known).pgd.num_steps == steps
    assert build_attack(name, BALL.epsilon, victim.known, num_steps=3).pgd.num_steps == 3


def test_an_unknown_name_is_refused_with_the_names(victim):
    with pytest.raises(ValueError, match="Received: 'fgsm'") as caught:
        build_attack("fgsm", BALL.epsilon, victim.known)
    assert all(name in str(caught.value) for name in ATTACKS)


def test_tha_without_a_prototype_network_says_what_is_missing(victim):
    with pytest.raises(ValueError, match="prototype network"):
        build_attack("tha", BALL.epsilon, dataclasses.replace(victim.known, prototype_codes=None))


def test_a_mix_holds_its_attacks_and_an_unknown_one_is_refused():
    bank = filled_bank(np.uint8([[1, 2], [3, 4]]), np.eye(2, dtype=np.float32))
    attacks = suite("standard", BALL.epsilon, Knowledge(bank, bank), num_steps=2)
    assert [attack.name for attack in attacks] == list(SUITES["standard"])
    with pytest.raises(ValueError, match=r"standard.*Received: 'strong'"):
        suite("strong", BALL.epsilon, Knowledge(bank, bank))
