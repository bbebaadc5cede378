"""CgAT, ATRDH and the refinements of adversarial training, each against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.data import array_split, draw_scenes, evaluation_batches
from saat_tf.layers import CodeBank
from saat_tf.losses import CSQ, DPH, consistency_loss
from saat_tf.models import ATRDH, SAAT, CgAT, HashingModel, Refinements

pytestmark = pytest.mark.usefixtures("tiny_small_cnn")

BITS, SIDE = 16, 16


@pytest.fixture(scope="module")
def split():
    scenes = draw_scenes(32, image_size=SIDE, seed=3)
    return array_split(scenes.images, scenes.labels)


@pytest.fixture(scope="module")
def batch(split):
    return next(iter(evaluation_batches(split, 10)))


def make(kind, split, loss=None, learning_rate=0.0, **options):
    keras.utils.set_random_seed(1)
    encoder = HashingModel("small_cnn", BITS, SIDE)
    bank = CodeBank.from_labels(split.labels, BITS)
    training = kind(encoder, bank, loss or DPH(), **{"num_steps": 2, "inner_training": "inference", **options})
    training.compile(optimizer=keras.optimizers.SGD(learning_rate))
    training.fill_bank(evaluation_batches(split, 32))
    return training


def signs(values):
    return np.where(values >= 0, 1.0, -1.0)


def center_by_hand(labels, codes, bank_labels):
    """Jaccard-weighted mean of related codes less the mean of the others, item by item."""
    rows = []
    for y in labels:
        shared = bank_labels @ y
        jaccard = shared / (bank_labels.sum(1) + y.sum() - shared)
        near, far = shared > 0, shared == 0
        score = (jaccard[near, None] * codes[near]).sum(0) / max(near.sum(), 1)
        rows.append(signs(score - codes[far].sum(0) / max(far.sum(), 1) + 1e-12))
    return np.array(rows)


def dph_by_hand(codes, bank, labels, bank_labels):
    relevant = (labels @ bank_labels.T > 0).astype(float)
    return np.mean((codes @ bank.T / BITS - (2 * relevant - 1)) ** 2)


def keep_the_adversarial_images(training):
    """Return a list that the images of the next step go into, and the codes that they were driven to."""
    perturbed, perturb = [], training.perturb

    def recorded(images, wanted_codes, index):
        adversarial_images = perturb(images, wanted_codes, index)
        perturbed.append((adversarial_images, wanted_codes))
        return adversarial_images

    training.perturb = recorded
    return perturbed


def codes_of(training, images):
    """Codes in training mode, with every statistic put back."""
    before = [v.numpy() for v in training.encoder.non_trainable_variables]
    codes = training.encoder(images, training=True).numpy()
    for variable, value in zip(training.encoder.non_trainable_variables, before, strict=True):
        variable.assign(value)
    return codes


def step(training, batch):
    return {name: float(value) for name, value in training.train_step(batch).items()}


@pytest.mark.slow
def test_a_cgat_step_drives_images_from_their_center_codes_and_back(split, batch):
    cgat = make(CgAT, split, adversarial_weight=0.7)
    images, labels, index = batch
    bank = cgat.code_bank.codes.numpy()
    centers = center_by_hand(labels.numpy(), signs(bank), split.labels)
    perturbed = keep_the_adversarial_images(cgat)
    logs = step(cgat, batch)
    (adversarial_images, wanted_codes) = perturbed[0]
    np.testing.assert_array_equal(wanted_codes, -centers)
    bank[index.numpy()] = h = codes_of(cgat, images)
    adversarial = -np.mean(
        codes_of(cgat, adversarial_images) * center_by_hand(labels.numpy(), signs(bank), split.labels)
    )
    assert logs["adversarial_loss"] == pytest.approx(adversarial, abs=1e-4)
    hashing = dph_by_hand(h, bank, labels.numpy(), split.labels)
    assert logs["loss"] == pytest.approx(hashing + 0.7 * adversarial, abs=1e-4)


def test_center_codes_are_not_mainstay_codes_where_labels_overlap_in_part(split):
    cgat = make(CgAT, split)
    labels = tf.constant(split.labels)
    assert np.mean(cgat.target_codes(labels) != cgat.dmfl(labels)) > 0.01


def test_an_atrdh_step_adds_twice_the_pairwise_loss_of_adversarial_codes(split, batch):
    atrdh = make(ATRDH, split)
    images, labels, index = batch
    bank = atrdh.code_bank.codes.numpy()
    perturbed = keep_the_adversarial_images(atrdh)
    logs = step(atrdh, batch)
    bank[index.numpy()] = h = codes_of(atrdh, images)
    adversarial = dph_by_hand(codes_of(atrdh, perturbed[0][0]), bank, labels.numpy(), split.labels)
    hashing = dph_by_hand(h, bank, labels.numpy(), split.labels)
    assert logs["adversarial_loss"] == pytest.approx(adversarial, abs=1e-4)
    assert logs["loss"] == pytest.approx(hashing + 2 * adversarial, abs=1e-4)


@pytest.mark.slow
def test_atrdh_trains_its_prototypes_apart_from_the_encoder(split, batch):
    atrdh = make(ATRDH, split, learning_rate=0.1)
    prototypes = {id(v) for v in atrdh.prototype_net.variables}
    assert not prototypes & {id(v) for v in atrdh.trainable_variables + atrdh.trainable_weights}
    before = [v.numpy() for v in atrdh.prototype_net.variables]
    step(atrdh, batch)
    for variable, value in zip(atrdh.prototype_net.variables, before, strict=True):
        assert 0 < np.abs(variable.numpy() - value).max() < 1.1e-4  # Adam's first step is its learning rate
    targets = tf.constant(np.unique(split.labels, axis=0))
    relevant = targets.numpy() @ split.labels.T > 0
    train = tf.function(atrdh.train_prototypes)
    for _ in range(20):
        train(targets)
    codes = atrdh.prototype_net.prototype_codes(targets).numpy()
    similarity = codes @ signs(atrdh.code_bank.codes.numpy()).T / BITS
    assert similarity[relevant].mean() > similarity[~relevant].mean()


def test_targets_of_atrdh_are_label_sets_of_the_bank_and_never_empty(split):
    labels = np.concatenate([split.labels, np.zeros((3, split.labels.shape[1]), np.float32)])
    encoder = HashingModel("small_cnn", BITS, SIDE)
    atrdh = ATRDH(encoder, CodeBank.from_labels(labels, BITS), DPH())
    atrdh.compile(optimizer="sgd")
    drawn = atrdh.draw_targets(tf.constant(500)).numpy()
    known = {tuple(row) for row in split.labels}
    assert {tuple(row) for row in drawn} <= known and len({tuple(row) for row in drawn}) > 0.9 * len(known)


def test_refinements_add_their_weighted_losses(split, batch):
    options = Refinements(adversarial_hashing_weight=0.6, consistency_weight=0.3)
    saat = make(SAAT, split, CSQ(10, BITS), refinements=options)
    images, labels, _ = batch
    perturbed = keep_the_adversarial_images(saat)
    logs = step(saat, batch)
    h, h_adv = codes_of(saat, images), codes_of(saat, perturbed[0][0])
    votes = labels.numpy() @ saat.hashing_loss.class_centers.numpy()
    centers = np.where(votes == 0, saat.hashing_loss.tie_code.numpy(), np.sign(votes))
    probability = np.maximum((1 + h_adv * centers) / 2, 1e-6)
    hashing = -np.mean(np.log(probability)) + 0.05 * np.mean((np.abs(h_adv) - 1) ** 2)
    assert logs["adversarial_hashing_loss"] == pytest.approx(hashing, abs=1e-4)
    assert logs["consistency_loss"] == pytest.approx(np.mean((h - h_adv) ** 2), abs=1e-4)
    plain = logs["hashing_loss"] + logs["adversarial_loss"] + 1e-4 * logs["quantization_loss"]
    assert logs["loss"] == pytest.approx(plain + 0.6 * hashing + 0.3 * np.mean((h - h_adv) ** 2), abs=1e-4)


def test_consistency_pulls_both_codes():
    h, h_adv = tf.constant([[0.5, -1.0]]), tf.constant([[0.1, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch([h, h_adv])
        loss = consistency_loss(h, h_adv)
    assert float(loss) == pytest.approx((0.16 + 1.0) / 2)
    slopes = tape.gradient(loss, [h, h_adv])
    np.testing.assert_allclose(slopes[0], [[0.4, -1.0]], atol=1e-6)
    np.testing.assert_allclose(slopes[1], [[-0.4, 1.0]], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("in_graph", [False, True])
def test_weights_are_perturbed_up_the_loss_and_put_back_to_the_bit(split, batch, in_graph):
    saat = make(SAAT, split, refinements=Refinements(weight_perturbation=0.01))
    images, labels, _ = batch
    variables = saat.encoder.variables
    before = [v.numpy() for v in variables]

    def within():
        with saat.perturbed_weights(images, labels):
            return [tf.identity(v) for v in variables], saat.adversarial_loss(saat.encoder(images), labels)

    plain = float(saat.adversarial_loss(saat.encoder(images), labels))
    perturbed, loss = (tf.function(within, autograph=False) if in_graph else within)()
    assert float(loss) > plain
    trained = {id(v) for v in saat.encoder.trainable_variables}
    for variable, old, new in zip(variables, before, perturbed, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old)
        moved = np.linalg.norm(new.numpy() - old) if id(variable) in trained and old.ndim > 1 else 0.0
        expected = 0.01 * np.linalg.norm(old) if moved else np.zeros(1)
        np.testing.assert_allclose(moved, np.squeeze(expected), rtol=1e-3)
    assert sum(np.abs(new.numpy() - old).max() > 0 for old, new in zip(before, perturbed, strict=True)) == sum(
        v.numpy().ndim > 1 for v in saat.encoder.trainable_variables
    )


@pytest.mark.slow
def test_a_perturbed_step_moves_the_weights_by_the_slope_at_the_perturbed_weights(split, batch):
    steps = {}
    for gamma in (0.0, 0.002):
        saat = make(SAAT, split, learning_rate=1.0, refinements=Refinements(weight_perturbation=gamma))
        before = [v.numpy() for v in saat.encoder.trainable_variables]
        step(saat, batch)
        after = saat.encoder.trainable_variables
        steps[gamma] = np.concatenate([(v.numpy() - b).ravel() for v, b in zip(after, before, strict=True)])
    cosine = steps[0.0] @ steps[0.002] / np.linalg.norm(steps[0.0]) / np.linalg.norm(steps[0.002])
    assert 0.5 < cosine < 0.9999


@pytest.mark.slow
def test_atrdh_fits_saves_and_loads(split, tmp_path):
    refinements = Refinements(consistency_weight=0.5)
    training = make(ATRDH, split, learning_rate=0.05, refinements=refinements, inner_training="training", num_steps=1)
    history = training.fit(evaluation_batches(split, 16), epochs=1, shuffle=False, verbose=0).history
    assert {"loss", "hashing_loss", "adversarial_loss", "consistency_loss"} <= set(history)
    training.save(tmp_path / "training.keras")
    loaded = keras.saving.load_model(tmp_path / "training.keras", safe_mode=True)
    assert loaded.get_config() == training.get_config() and loaded.refinements == refinements
    for ours, theirs in zip(training.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


@pytest.mark.parametrize("name", ["adversarial_hashing_weight", "consistency_weight", "weight_perturbation"])
def test_refinements_out_of_range_are_refused(name):
    for value in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=name):
            Refinements(**{name: value})
