"""The devices that a run trains on."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from saat_tf.devices import confine
from saat_tf.models.image_model import ImageModel
from trainers.distributed.cluster import Cluster
from trainers.recipes.inner_options import ON_ONE_DEVICE
from trainers.recipes.run_options import RunOptions


def build_strategy(devices: Sequence[str], cluster: Cluster | None = None) -> tf.distribute.Strategy:
    """Return how training is spread over `devices`, one replica on each; other GPUs are hidden from this process.

    Args:
        devices: names such as GPU:0 or CPU:1; none for all GPUs, or the CPU where there is no GPU. CPUs beyond the
            first are logical ones, which share the machine's cores: good to try what replicas do, not to save time.
        cluster: the workers of a run over several machines, each of which has all its GPUs.

    Raises:
        ValueError: there is no such device, one is named twice, or TensorFlow runs already with fewer CPUs; or
            devices are named under several workers.
    """
    if cluster is not None:
        return _strategy_over(cluster, devices)
    if len(set(devices)) < len(devices):
        raise ValueError(f"--devices must differ. Received: {' '.join(devices)}.")
    _split_cpu(sum(device.startswith("CPU:") for device in devices))
    devices = confine(devices)
    there = [f"{device.device_type}:{device.name.rpartition(':')[2]}" for device in tf.config.list_logical_devices()]
    unknown = [device for device in devices if device not in there]
    if unknown:
        raise ValueError(f"--devices must be of {', '.join(there)}. Received: {' '.join(unknown)}.")
    chosen = devices or [device for device in there if device.startswith("GPU:")]
    if len(chosen) > 1:
        return tf.distribute.MirroredStrategy(list(chosen))
    return tf.distribute.get_strategy()  # what is left is one GPU, or the CPU


def _strategy_over(cluster: Cluster, devices: Sequence[str]) -> tf.distribute.Strategy:
    if devices:
        raise ValueError(
            f"--devices is for one machine; each of several workers trains on all GPUs that it sees, or on its CPU. "
            f"Received: {' '.join(devices)}. Leave it out, and choose GPUs by CUDA_VISIBLE_DEVICES."
        )
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
        task_type="worker",
        task_id=cluster.index,
        num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
        rpc_layer="grpc",
    )
    return tf.distribute.MultiWorkerMirroredStrategy(resolver)


def check_replicas(recipe: RunOptions, strategy: tf.distribute.Strategy) -> None:
    """Check that what the recipe asks for can be spread over the replicas of the strategy.

    Raises:
        ValueError: it cannot.
    """
    count = strategy.num_replicas_in_sync
    if count == 1:
        return
    if recipe.batch_size < count:
        raise ValueError(
            f"--batch-size must be at least the number of devices, {count}. Received: {recipe.batch_size}."
        )
    if recipe.jit:
        raise ValueError("--jit trains on one device. On one machine, name one by --devices, or leave it out.")
    if recipe.on_collapse == "rollback" and strategy.cluster_resolver is not None:
        raise ValueError("--on-collapse rollback trains on one machine. Over several, use stop or ignore.")
    if (defense := getattr(recipe, "defense", None)) in ("atrdh", "ibp"):
        raise ValueError(f"--defense {defense} trains on one device. On one machine, name one by --devices.")
    if recipe.inner in ON_ONE_DEVICE:
        raise ValueError(
            f"--inner {recipe.inner} trains on one device. On one machine, name one by --devices, or choose n-fgsm."
        )
    if getattr(recipe, "weight_perturbation", 0):
        raise ValueError(
            "--weight-perturbation trains on one device. On one machine, name one by --devices, or leave it out."
        )


def synchronize_batch_norm(encoder: ImageModel) -> None:
    """Have batch norm count over the batches of all replicas, as it would in one."""
    if encoder.distribute_strategy.num_replicas_in_sync > 1:
        for layer in encoder._flatten_layers():
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True


def _split_cpu(count: int) -> None:
    """Make `count` logical CPUs, which must happen before TensorFlow begins to run."""
    if count > 1:
        cpu = tf.config.list_physical_devices("CPU")[0]
        try:
            tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
        except RuntimeError as error:
            raise ValueError(f"--devices: TensorFlow runs already and makes no more CPUs ({error}).") from error
