"""Every training model and every hashing loss does what Keras promises of a model."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from saat_tf.losses import CSQ, DCH, DPH, DPN, DPSH, DSDH, HSWD, GreedyHash, HashNet, OrthoHash
from saat_tf.models import (
    ATRDH,
    SAAT,
    AdversarialClassifier,
    BoundTraining,
    CgAT,
    Classifier,
    HashingModel,
    HashingTraining,
    Purifier,
    Refinements,
)
from saat_tf.models.code_training import CodeTraining
from saat_tf.models.inner import NFGSM, YOPO, FGSMPrior, Free
from tests.small_graphs import small_graphs

BITS, SIZE, CLASSES, ITEMS = 8, 8, 3, 12
RNG = np.random.default_rng(0)
IMAGES = RNG.random((ITEMS, SIZE, SIZE, 3), dtype=np.float32)
LABELS = np.eye(CLASSES, dtype=np.float32)[np.arange(ITEMS) % CLASSES]


def hashing(kind, loss=None, precision="float32", **options):
    encoder = HashingModel("small_cnn", BITS, SIZE, precision=precision)
    return kind(encoder, hashing_loss=loss and loss(), **options)


def classifier(precision="float32"):
    encoder = Classifier("small_cnn", CLASSES, SIZE, precision=precision)
    return AdversarialClassifier(encoder, inner=NFGSM(), ramp_steps=3)


LOSSES = {
    "csq": lambda: CSQ(CLASSES, BITS),
    "dch": DCH,
    "dph": DPH,
    "dpn": lambda: DPN(CLASSES, BITS),
    "dpsh": DPSH,
    "dsdh": DSDH,
    "greedyhash": lambda: GreedyHash(CLASSES, BITS),
    "hashnet": HashNet,
    "hswd": HSWD,
    "orthohash": lambda: OrthoHash(CLASSES, BITS),
}
REFINED = {"refinements": Refinements(adversarial_hashing_weight=0.5, consistency_weight=0.5, weight_perturbation=0.01)}
MODELS = {
    **{f"hashing {name}": (HashingTraining, loss, {}) for name, loss in LOSSES.items()},
    "saat": (SAAT, None, {"num_steps": 1}),
    "saat refined": (SAAT, None, {"num_steps": 1, **REFINED}),
    "saat n-fgsm": (SAAT, None, {"inner": NFGSM()}),
    "cgat": (CgAT, LOSSES["hashnet"], {"num_steps": 1}),
    "atrdh": (ATRDH, None, {"num_steps": 1}),
    "bounds": (BoundTraining, None, {"num_steps": 1, "ramp_steps": 2}),
    "yopo": (SAAT, None, {"inner": lambda: YOPO(num_passes=1, num_steps=1, step_size=0.01)}),
    "free": (SAAT, None, {"inner": lambda: Free(batch_size=ITEMS, image_size=SIZE)}),
    "fgsm-prior": (SAAT, None, {"inner": lambda: FGSMPrior(num_items=ITEMS, image_size=SIZE)}),
    "classifier": (AdversarialClassifier, None, {}),
    "purifier": (Purifier, None, {}),
}
EACH = pytest.mark.parametrize("name", MODELS)
OWN = {
    HashingTraining: {"hashing_loss"},
    SAAT: {"hashing_loss", "adversarial_loss", "quantization_loss"},
    CgAT: {"hashing_loss", "adversarial_loss", "quantization_loss"},
    ATRDH: {"hashing_loss", "adversarial_loss"},
    BoundTraining: {"hashing_loss", "adversarial_loss", "quantization_loss", "bound_loss"},
    AdversarialClassifier: {"adversarial_accuracy"},
    Purifier: set(),
}


@pytest.fixture(scope="module", autouse=True)
def small():
    with small_graphs():
        yield


def build(kind, loss, options, precision="float32"):
    """Return a model, and the labels of `IMAGES` that it learns."""
    if kind is Purifier:
        return Purifier(), LABELS
    if kind is AdversarialClassifier:
        return classifier(precision), LABELS.argmax(axis=1)
    own = {key: value() if key == "inner" and callable(value) else value for key, value in options.items()}
    return hashing(kind, loss, precision, **own), LABELS


def make(name, precision="float32", **compiled):
    """Return a model, compiled, that knows its data set, and that.

    A step or two by hand costs less than to trace one: what graphs do is tested where each model is.
    """
    keras.utils.set_random_seed(1)
    training, labels = build(*MODELS[name], precision)
    training.compile(optimizer=keras.optimizers.SGD(0.01), run_eagerly=True, **compiled)
    if isinstance(training, CodeTraining):
        training.adapt(IMAGES, labels)
    return training, (IMAGES, labels)


def state(training):
    """The variables but for those of metrics, by paths without the numbers that Keras gives to unnamed layers."""
    left_out = {id(v) for metric in training.metrics for v in metric.variables}
    paths = [(re.sub(r"_\d+", "", v.path), v) for v in training.variables if id(v) not in left_out]
    return sorted(paths, key=lambda pair: pair[0])


def values(training):
    return [(path, variable.numpy()) for path, variable in state(training)]


def assert_same(found, expected):
    for (path, value), (other_path, other) in zip(found, expected, strict=True):
        assert path == other_path
        np.testing.assert_array_equal(value, other, err_msg=path)


@pytest.mark.slow
@EACH
def test_fit_evaluate_save_clone_predict(name, tmp_path):
    training, data = make(name, jit_compile="auto")
    assert training.jit_compile is False
    kind = MODELS[name][0]
    names = {"loss", *OWN[kind]} | ({"consistency_loss", "adversarial_hashing_loss"} if "refined" in name else set())
    history = training.fit(*data, batch_size=ITEMS, validation_data=data, verbose=0).history
    assert set(history) == names | {f"val_{key}" for key in names}
    assert {metric.name for metric in training.metrics} == names
    assert np.isfinite([value for values in history.values() for value in values]).all()

    before = values(training)
    first, second = (training.evaluate(*data, batch_size=ITEMS, verbose=0, return_dict=True) for _ in range(2))
    assert first == second and set(first) == names
    assert_same(values(training), before)
    lines = []
    training.summary(print_fn=lambda line, **_: lines.append(line))
    count = sum(int(np.prod(w.shape)) for w in training.trainable_variables)
    assert f"{count:,}" in "\n".join(lines)
    width = {AdversarialClassifier: CLASSES, Purifier: None}.get(kind, BITS)
    predicted = training.predict(IMAGES, verbose=0)
    assert predicted.shape == (IMAGES.shape if width is None else (ITEMS, width))
    model = training if kind is Purifier else training.encoder
    np.testing.assert_allclose(predicted, model(IMAGES), atol=1e-5)

    config = training.get_config()
    for copy in (type(training).from_config(config), keras.models.clone_model(training)):
        assert copy.get_config() == config and type(copy) is type(training)
        assert [(path, v.shape) for path, v in state(copy)] == [(path, v.shape) for path, v in state(training)]
    training.save(tmp_path / "training.keras")
    loaded = keras.saving.load_model(tmp_path / "training.keras", safe_mode=True)
    assert loaded.get_config() == config
    assert_same(values(loaded), before)
    training.save_weights(tmp_path / "training.weights.h5")
    copy.load_weights(tmp_path / "training.weights.h5")
    assert_same(values(copy), before)
    again = loaded.evaluate(*data, batch_size=ITEMS, verbose=0, return_dict=True)
    assert again == {key: pytest.approx(value, rel=1e-4, abs=1e-5) for key, value in first.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hashing dch", "saat", "cgat", "atrdh", "free", "fgsm-prior", "classifier"])
def test_fit_without_an_index(name):
    training, data = make(name)
    pairs = tf.data.Dataset.from_tensor_slices(data).shuffle(ITEMS).batch(5)
    if name == "fgsm-prior":
        with pytest.raises(ValueError, match="needs arrays"):
            training.fit(pairs, verbose=0)
        return
    history = training.fit(pairs, verbose=0).history
    assert np.isfinite(history["loss"]).all() and training.optimizer.iterations == 3


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if name not in ("bounds", "purifier")])
def test_mixed_precision_learns_what_float32_does(name):
    """The losses of a step, untraced: within what 8 bits of mantissa leave of those in float32."""
    losses = {}
    for precision in ("float32", "mixed_bfloat16", "mixed_float16"):
        keras.utils.set_random_seed(1)
        training, labels = build(*MODELS[name], precision)
        if isinstance(training, CodeTraining):
            training.set_items(LABELS)  # codes of zero
        training.compile(optimizer=keras.optimizers.SGD(0.01), run_eagerly=True)
        before = [variable.numpy() for variable in training.encoder.trainable_variables]
        found = training.train_step((tf.constant(IMAGES), tf.constant(labels), tf.range(ITEMS, dtype=tf.int64)))
        assert training.encoder.precision == precision
        if precision != "mixed_float16":  # whose first steps may overflow, by which the scale of the loss is found
            after = training.encoder.trainable_variables
            assert all((old != new.numpy()).any() for old, new in zip(before, after, strict=True))
        losses[precision] = {key: float(value) for key, value in found.items()}
    for precision in ("mixed_bfloat16", "mixed_float16"):
        assert losses[precision] == {
            key: pytest.approx(value, rel=0.05, abs=0.05) for key, value in losses["float32"].items()
        }


def test_training_by_bounds_refuses_it_with_the_reason():
    with pytest.raises(ValueError, match=r"computes in bfloat16, rules are for float32\."):
        build(*MODELS["bounds"], "mixed_bfloat16")


@pytest.mark.parametrize("name", ["hashing dph", "saat", "classifier"])
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_returns_from_its_file(name, precision, tmp_path):
    training, data = make(name, precision)
    history = training.fit(*data, batch_size=ITEMS, validation_data=data, verbose=0).history
    assert np.isfinite([history["loss"], history["val_loss"]]).all()
    training.save(tmp_path / "training.keras")
    loaded = keras.saving.load_model(tmp_path / "training.keras")
    assert loaded.encoder.precision == precision
    assert_same(values(loaded), values(training))


def test_before_adapt_a_model_returns_from_its_config_too():
    for kind in (HashingTraining, SAAT, CgAT, ATRDH):
        training = kind(HashingModel("small_cnn", BITS, SIZE))
        copy = kind.from_config(training.get_config())
        assert copy.code_bank is None and copy.get_config() == training.get_config()
        assert isinstance(copy.hashing_loss, DPH)


@pytest.mark.parametrize("choice", ["always", 2, None])
def test_an_unknown_choice_of_xla_is_refused(choice):
    with pytest.raises(ValueError, match='`jit_compile` must be True, False or "auto"'):
        Purifier().compile(jit_compile=choice)
