"""Processes that train one run together, as TF_CONFIG or SLURM says."""

import dataclasses
import json
import re
from collections.abc import Mapping

import tensorflow as tf

from saat_tf.strict_json import parse_json

# SLURM names no port. Jobs that share a node get ports of their own, below those that Linux gives to clients.
FIRST_PORT, JOBS, PORTS_A_JOB = 10_000, 1_000, 20
JOB_TYPES = ("chief", "worker")
# Characters of a wrong TF_CONFIG that a message repeats.
SHOWN = 200
EXAMPLE = '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}'


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The workers of a run, at least two.

    Args:
        addresses: host:port of each; the first is the chief.
        index: which of them this process is.
    """

    addresses: tuple[str, ...]
    index: int

    @property
    def others(self) -> list[int]:
        """The indices of the other workers."""
        return [i for i in range(len(self.addresses)) if i != self.index]

    def name(self, index: int) -> str:
        """Name a worker for a message."""
        return f"worker {index}{' (the chief)' * (index == 0)} at {self.addresses[index]}"


def find_cluster(environment: Mapping[str, str]) -> Cluster | None:
    """Return the cluster that the environment describes: TF_CONFIG where it is set, else the step of SLURM.

    Args:
        environment: os.environ.

    Returns:
        None where this process is to train alone: nothing is said, or one worker only.

    Raises:
        ValueError: what is said cannot be; the message names it.
    """
    if environment.get("TF_CONFIG"):
        cluster = _from_tf_config(environment["TF_CONFIG"])
    elif int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        cluster = _from_slurm(environment)
    else:
        return None
    return cluster if len(cluster.addresses) > 1 else None


def _from_tf_config(text: str) -> Cluster:
    def remedy(received: object) -> str:
        return f"Received: {received!s:.{SHOWN}}. An example: TF_CONFIG='{EXAMPLE}'"

    def fault(expected: str, received: object) -> ValueError:
        return ValueError(f"TF_CONFIG {expected}. {remedy(received)}")

    config = parse_json(text, "TF_CONFIG", remedy=remedy(text))
    jobs, task = (config.get("cluster", {}), config.get("task", {})) if isinstance(config, dict) else (None, None)
    if not isinstance(jobs, dict) or not isinstance(task, dict):
        raise fault("must be an object with the objects `cluster` and `task`", text)
    if not jobs:
        return Cluster(("",), 0)
    if not set(jobs) <= set(JOB_TYPES):
        raise fault(f"must have jobs of {', '.join(JOB_TYPES)} alone", ", ".join(jobs))
    for job, addresses in jobs.items():
        if not isinstance(addresses, list):
            raise fault(f"must have a list of addresses for `{job}`", addresses)
    for address in [address for addresses in jobs.values() for address in addresses]:
        host, _, port = address.rpartition(":") if isinstance(address, str) else ("", "", "")
        if not host or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 1 << 16:
            raise fault("must have addresses of the form host:port", address)
    addresses = tuple(address for job in JOB_TYPES for address in jobs.get(job, ()))
    if len(set(addresses)) < len(addresses):
        raise fault("must have an address of its own for each worker", ", ".join(addresses))
    kind, index = task.get("type"), task.get("index")
    known = isinstance(kind, str) and kind in jobs
    # True is an int to Python.
    if not known or type(index) is not int or not 0 <= index < len(jobs[kind]):
        raise fault("must have a `task` with the `type` and the `index` of one of its workers", json.dumps(task))
    before = len(jobs.get("chief", ())) if kind == "worker" else 0
    return Cluster(addresses, before + index)


def _from_slurm(environment: Mapping[str, str]) -> Cluster:
    base = FIRST_PORT + int(environment.get("SLURM_JOB_ID", 0)) % JOBS * PORTS_A_JOB
    try:
        # It counts GPUs to share them out; here SLURM does that, and each task counts as one.
        per_node = tf.distribute.cluster_resolver.SlurmClusterResolver(
            port_base=base, gpus_per_node=1 << 16, gpus_per_task=1, auto_set_gpu=False
        )
        addresses = tuple(per_node.cluster_spec().job_tasks("worker"))
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"SLURM's variables do not tell the workers: {error} Start one by srun a task.") from error
    # The resolver sorts nodes by letters (n10 before n9) and SLURM does not, so the rank is no guide.
    mine = f"{environment.get('SLURMD_NODENAME')}:{base + int(environment.get('SLURM_LOCALID', 0))}"
    if mine not in addresses:
        raise ValueError(
            f"SLURMD_NODENAME and SLURM_LOCALID must be those of a task of this step. Received: {mine}, expected one "
            f"of {', '.join(addresses)}. Start one by srun a task."
        )
    return Cluster(addresses, addresses.index(mine))
