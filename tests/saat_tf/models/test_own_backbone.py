"""Networks of the caller as backbones: what a named one can do, they can."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from export.litert.conversion import LiteRTEncoder, convert
from export.saved_model import export_saved_model
from saat_tf.attacks import mainstay_attack
from saat_tf.backbones.fold import folded
from saat_tf.codes import pack_codes
from saat_tf.layers import CodeBank
from saat_tf.losses import DPH
from saat_tf.models import SAAT, HashingModel, PurifiedModel, Purifier
from saat_tf.models.inner import YOPO

BITS, HEIGHT, WIDTH = 8, 8, 12
MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
IMAGES = np.random.default_rng(0).random((3, HEIGHT, WIDTH, 3), np.float32)


def functional():
    """A map of features from images that are not square, behind a normalization of its own."""
    images = keras.Input((HEIGHT, WIDTH, 3))
    x = keras.layers.Rescaling(2.0, -1.0)(images)
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(x))
    return keras.Model(images, keras.layers.ReLU()(x))


def sequential():
    layers = [keras.layers.Conv2D(4, 3, use_bias=False), keras.layers.BatchNormalization(), keras.layers.ReLU()]
    return keras.Sequential([keras.Input((HEIGHT, WIDTH, 3)), *layers, keras.layers.Flatten()])


@keras.saving.register_keras_serializable(package="test_own_backbone")
class Subclassed(keras.Model):
    """A class of its own, which has no weights before it is called."""

    def __init__(self, width=4, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.convolution = keras.layers.Conv2D(width, 3)
        self.norm = keras.layers.BatchNormalization()

    def call(self, images, training=False):
        return tf.nn.relu(self.norm(self.convolution(images), training=training))

    def get_config(self):
        return {**super().get_config(), "width": self.width}


BACKBONES = {"functional": functional, "sequential": sequential, "subclassed": Subclassed}


@pytest.fixture(scope="module", params=BACKBONES)
def encoder(request):
    """An encoder whose batch statistics are those of a training."""
    keras.utils.set_random_seed(0)
    size = (HEIGHT, WIDTH) if request.param == "subclassed" else None
    model = HashingModel(BACKBONES[request.param](), code_length=BITS, image_size=size, mean=MEAN, std=STD)
    rng = np.random.default_rng(1)
    for variable in model.backbone.non_trainable_variables:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    return model


def test_logits_are_those_of_the_network_averaged_and_projected(encoder):
    features = encoder.backbone((IMAGES - np.float32(MEAN)) / np.float32(STD), training=False).numpy()
    pooled = features.mean((1, 2)) if features.ndim == 4 else features
    projection = encoder.hash_head.projection
    expected = pooled @ projection.kernel.numpy() + projection.bias.numpy()
    assert encoder.image_size == (HEIGHT, WIDTH) and expected.shape == (3, BITS)
    np.testing.assert_allclose(encoder.logits(IMAGES), expected, atol=1e-5)
    np.testing.assert_allclose(encoder(IMAGES, alpha=0.3), np.tanh(0.3 * expected), atol=1e-5)
    np.testing.assert_array_equal(encoder.encode(IMAGES)[:, 0], np.packbits(expected >= 0, axis=1)[:, 0])
    assert encoder.encode(IMAGES[:0]).shape == (0, 1) and encoder(IMAGES[:0]).shape == (0, BITS)


def test_a_saved_model_is_the_same_and_so_is_a_copy_of_its_configuration(encoder, tmp_path):
    encoder.save(tmp_path / "encoder.keras")
    loaded = keras.saving.load_model(tmp_path / "encoder.keras")
    assert type(loaded.backbone) is type(encoder.backbone) and loaded.image_size == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(loaded.logits(IMAGES), encoder.logits(IMAGES))
    copy = HashingModel.from_config(encoder.get_config())
    copy.set_weights(encoder.get_weights())
    np.testing.assert_array_equal(copy.logits(IMAGES), encoder.logits(IMAGES))
    assert copy.backbone is not encoder.backbone


def test_batch_norm_is_folded_where_keras_knows_the_layers(encoder):
    faster = encoder.for_inference()
    assert (faster is encoder) == isinstance(encoder.backbone, Subclassed)
    norms = [layer for layer in faster.backbone.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert bool(norms) == (faster is encoder)
    np.testing.assert_allclose(faster.logits(IMAGES), encoder.logits(IMAGES), atol=1e-5)


@pytest.mark.slow
def test_an_attack_stays_in_its_ball_and_turns_bits(encoder):
    bank = CodeBank.from_labels(np.eye(3), BITS)
    bank.update([0, 1, 2], encoder(IMAGES))
    attack = mainstay_attack(0.1, bank, num_steps=20)
    found = attack(encoder, IMAGES, np.eye(3), seed=0).numpy()
    attack.threat_model.verify(found, IMAGES)
    wanted = -attack.goal(encoder, IMAGES, tf.eye(3), (0, 0)).numpy()
    assert (encoder(found) * wanted).numpy().mean() < (encoder(IMAGES) * wanted).numpy().mean()


def images_of_files():
    return tf.stack([tf.io.encode_png(tf.cast(255 * image, tf.uint8)) for image in IMAGES])


@pytest.mark.slow
def test_an_export_and_its_conversion_give_the_same_codes(encoder, tmp_path):
    export_saved_model(encoder, tmp_path / "1", card={})
    signatures = tf.saved_model.load(str(tmp_path / "1")).signatures
    codes = encoder.encode(IMAGES).numpy()
    np.testing.assert_array_equal(signatures["serving_default"](images=tf.constant(IMAGES))["packed_codes"], codes)
    read = np.floor(255 * IMAGES) / np.float32(255)  # files of the encoder's own size are neither resized nor cut
    from_files = signatures["encode_bytes"](image_bytes=images_of_files())
    np.testing.assert_array_equal(from_files["packed_codes"], encoder.encode(np.float32(read)))
    (tmp_path / "encoder.tflite").write_bytes(convert(encoder, "float32", IMAGES))
    light = LiteRTEncoder(tmp_path / "encoder.tflite")
    assert light.image_size == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(light.encode(IMAGES), codes)


@pytest.mark.slow
def test_adversarial_training_moves_its_weights_and_a_purifier_stands_in_front(encoder):
    saat = SAAT(encoder, CodeBank.from_labels(np.eye(3), BITS), DPH(), num_steps=1)
    saat.compile("sgd")
    before = encoder.backbone.get_weights()
    saat.train_step((tf.constant(IMAGES), tf.eye(3), tf.range(3)))
    assert any((one != other).any() for one, other in zip(before, encoder.backbone.get_weights(), strict=True))
    if not isinstance(encoder.backbone, Subclassed):
        purifier = Purifier()
        purified = PurifiedModel.from_parts(purifier, encoder)
        np.testing.assert_allclose(purified.logits(IMAGES), encoder.logits(purifier(IMAGES)), atol=1e-5)
    encoder.backbone.set_weights(before)


BAD_BACKBONES = {
    "a number": (lambda: 3, None, "`backbone` must be a name or a Keras model. Received: a int"),
    "a name without a size": (lambda: "small_cnn", None, "Received: no `image_size`"),
    "any size": (lambda: keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 3)]), None,
                 r"takes images of any size.*\(height, width\)"),
    "another size": (functional, 16, "takes images of 8 x 12 pixels. Received: image_size=16. Leave"),
    "no size": (functional, (8, 12, 3), r"or \(height, width\). Received: \(8, 12, 3\)"),
    "gray images": (lambda: keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3)]), None,
                    r"which takes \(None, 8, 8, 1\)"),
    "a sequence": (lambda: keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Reshape((64, 3))]), None,
                   r"returns \(None, 64, 3\).*include_top=False"),
    "two outputs": (lambda: keras.Model(i := keras.Input((8, 8, 3)), [keras.layers.Flatten()(i), i]), None,
                    "must return features"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_BACKBONES)
def test_what_is_no_backbone_is_refused_with_the_remedy(name):
    make, size, message = BAD_BACKBONES[name]
    with pytest.raises(ValueError, match=message):
        HashingModel(make(), code_length=BITS, image_size=size)


def test_norm_that_computes_otherwise_is_not_folded():
    class Doubled(keras.layers.BatchNormalization):
        def call(self, x, training=False, mask=None):
            return 2.0 * super().call(x, training=training)

    for norm, options in ((Doubled(), {}), (keras.layers.BatchNormalization(), {"training": True}),
                          (keras.layers.BatchNormalization(axis=1), {})):  # fmt: skip
        images = keras.Input((HEIGHT, WIDTH, 3))
        assert folded(keras.Model(images, norm(keras.layers.Conv2D(4, 3)(images), **options))) is None


def test_mixed_precision_is_that_of_the_model():
    layers = [keras.layers.Conv2D(4, 3, dtype="mixed_bfloat16"), keras.layers.ReLU(dtype="mixed_bfloat16")]
    encoder = HashingModel(keras.Sequential([keras.Input((HEIGHT, WIDTH, 3)), *layers]), code_length=BITS)
    assert encoder.precision == "mixed_bfloat16" and encoder.for_inference() is encoder
    single = encoder.with_precision("float32")
    assert single.precision == "float32" and single.logits(IMAGES).dtype == encoder.logits(IMAGES).dtype == tf.float32
    np.testing.assert_allclose(single.logits(IMAGES), encoder.logits(IMAGES), atol=0.02)
    with pytest.raises(ValueError, match="keeps the precision that it was built in, mixed_bfloat16"):
        HashingModel(encoder.backbone, code_length=BITS, precision="float32")
    with pytest.raises(ValueError, match=r"can be copied in float32\. Received: 'mixed_float16'"):
        single.with_precision("mixed_float16")


def test_an_inner_attack_that_cuts_the_network_refuses_one_that_cannot_be_cut():
    encoder = HashingModel(Subclassed(), code_length=BITS, image_size=(HEIGHT, WIDTH))
    saat = SAAT(encoder, CodeBank.from_labels(np.eye(3), BITS), DPH(), inner=YOPO(step_size=0.01))
    saat.compile()
    with pytest.raises(ValueError, match=r"functional and sequential models. Received: a Subclassed"):
        saat.perturb(IMAGES, tf.ones((3, BITS)))


def test_named_backbones_take_images_that_are_not_square():
    encoder = HashingModel("small_cnn", BITS, (16, 24))
    assert encoder(np.zeros((2, 16, 24, 3), np.float32)).shape == (2, BITS)
    with pytest.raises(ValueError, match=r"shape \(batch, 16, 24, 3\). Received: float32 of shape \(2, 24, 16, 3\)"):
        encoder.encode(np.zeros((2, 24, 16, 3), np.float32))


@pytest.mark.slow
def test_a_network_of_keras_applications_trains_is_attacked_exported_and_served(tmp_path):
    keras.utils.set_random_seed(0)
    network = keras.applications.MobileNet(weights=None, include_top=False, input_shape=(32, 32, 3), alpha=0.25)
    encoder = HashingModel(network, code_length=BITS, mean=(0.5,) * 3, std=(0.5,) * 3)
    images, labels = np.random.default_rng(0).random((3, 32, 32, 3), np.float32), np.eye(3, dtype=np.float32)
    saat = SAAT(encoder, CodeBank.from_labels(labels, BITS), DPH(), num_steps=1)
    saat.compile("adam")
    saat.train_step((tf.constant(images), tf.constant(labels), tf.range(3)))
    attack = mainstay_attack(8 / 255, saat.code_bank, num_steps=2)
    attack.threat_model.verify(attack(encoder, images, labels, seed=0).numpy(), images)
    export_saved_model(encoder, tmp_path / "1", card={})
    served = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"](images=tf.constant(images))
    np.testing.assert_array_equal(served["packed_codes"], pack_codes(encoder.logits(images)))
