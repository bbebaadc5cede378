"""A SAAT step on the device that there is, in a process of its own that `benchmarks.gpu` starts: a step a line."""

import dataclasses

import tensorflow as tf
import tyro

from benchmarks.flops import peak_flops_per_second, step_flops
from benchmarks.step_worker import Case, build, data_of, dump, step_of
from benchmarks.workers import serve
from saat_tf.devices import device_names
from saat_tf.evaluation import peak_rss_mb


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPUCase(Case):
    """A SAAT step to be timed on the device that TensorFlow chooses."""

    tf32: bool = False
    """Let products and convolutions of float32 round their factors to TF32, where the GPU can."""


def main(case: GPUCase) -> None:
    """Build, and do a step for each line that comes in."""
    tf.config.experimental.enable_tensor_float_32_execution(case.tf32)
    gpus = tf.config.list_logical_devices("GPU")
    data = data_of(case)
    saat = build(case, data)
    facts = {
        "devices": device_names(),
        "has_gpu": bool(gpus),
        "flops": step_flops(saat.encoder, case.batch_size, case.num_steps),
        "peak": peak_flops_per_second(repeats=3),
    }
    if case.dump:
        dump(saat, case, data, case.dump)
    do_step = step_of(saat, case, data)

    def step() -> dict:
        # A loss that is read ends when the device has done the step.
        losses = {name: float(value) for name, value in do_step().items()}
        if gpus:
            peak_mb = tf.config.experimental.get_memory_info("GPU:0")["peak"] / 2**20
        else:
            peak_mb = peak_rss_mb()
        return {**losses, "peak_mb": peak_mb}

    serve(step, facts)


if __name__ == "__main__":
    main(tyro.cli(GPUCase))
