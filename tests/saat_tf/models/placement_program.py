"""Train with variables placed as with a GPU; run by test_placement.py in a process of its own."""

import keras
import numpy as np
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from saat_tf.layers import CodeBank  # noqa: E402
from saat_tf.losses import HSWD  # noqa: E402
from saat_tf.models import SAAT, HashingModel  # noqa: E402
from tests.small_graphs import flat_backbone, tiny_encoders  # noqa: E402

GPU, HOST = "CPU:0", "CPU:1"
ON_HOST = (tf.int32, tf.string)  # no GPU has an assignment of these


def placed(create, **options):
    """Make a variable where TensorFlow would put it."""
    initial = options["initial_value"]
    options["initial_value"] = tf.convert_to_tensor(initial() if callable(initial) else initial, options.get("dtype"))
    with tf.device(HOST if options["initial_value"].dtype in ON_HOST else GPU):
        return create(**options)


rng = np.random.default_rng(0)
labels = (rng.random((8, 5)) < 0.4).astype(np.float32)
batch = tuple(map(tf.constant, (rng.random((8, 16, 16, 3), np.float32), labels, np.arange(8))))
losses = {}
with tf.variable_creator_scope(placed), tiny_encoders(build=flat_backbone):
    for jit_compile in (False, True):
        keras.utils.set_random_seed(0)
        saat = SAAT(HashingModel("small_cnn", 16, 16), CodeBank.from_labels(labels, 16), HSWD(), num_steps=2)
        saat.compile(keras.optimizers.SGD(0.05, momentum=0.9), jit_compile=jit_compile)
        saat.optimizer.build(saat.trainable_variables)
        with tf.device(GPU):
            saat.fit(tf.data.Dataset.from_tensors(batch), verbose=0)
        losses[jit_compile] = float(saat.get_metrics_result()["loss"])
        assert all(GPU in variable.value.device for variable in saat.variables)
    table = tf.Variable([1, 2, 3])
assert HOST in table.device
np.testing.assert_allclose(losses[True], losses[False], rtol=1e-5)

# The imitation is one: a step that reads an int32 variable fails under XLA.
with tf.device(GPU):
    read = tf.function(lambda: tf.gather(table, 1), jit_compile=True)
    try:
        read()
    except tf.errors.InvalidArgumentError as error:
        assert "located in device" in str(error) or "Trying to access resource" in str(error), error
    else:
        raise SystemExit("A variable on the host was read from a compiled function: the imitation proves nothing.")
