"""What TF_CONFIG and SLURM's variables say about the workers of a run."""

import json

import pytest

from trainers.distributed.cluster import Cluster, find_cluster

TWO = ("10.0.0.1:2222", "10.0.0.2:2222")


def tf_config(cluster, task):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, None),
        ({"TF_CONFIG": ""}, None),
        ({"TF_CONFIG": "{}"}, None),
        (tf_config({"worker": TWO[:1]}, {"type": "worker", "index": 0}), None),
        (tf_config({"worker": TWO}, {"type": "worker", "index": 1}), Cluster(TWO, 1)),
        (tf_config({"worker": TWO[1:], "chief": TWO[:1]}, {"type": "worker", "index": 0}), Cluster(TWO, 1)),
        (tf_config({"worker": TWO[1:], "chief": TWO[:1]}, {"type": "chief", "index": 0}), Cluster(TWO, 0)),
    ],
)
def test_tf_config_tells_the_workers_the_chief_first(environment, expected):
    assert find_cluster(environment) == expected


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "{cluster: worker}",
            r"^TF_CONFIG:1: not whole JSON .*column 2\)\. Received: \{cluster: worker\}\. An ex",
        ),
        ("[" * 100_000, r"^TF_CONFIG: .* nested in more than 100 levels\)\. Received: \[{200}\. An example"),
        ('{"cluster": {"worker": 5}}', "must have a list of addresses for `worker`. Received: 5"),
        ('{"cluster": {"worker": "a:1"}}', "must have a list of addresses for `worker`. Received: a:1"),
        ('{"cluster": {"worker": [5, ["b:1"]]}}', "host:port. Received: 5"),
        ('{"cluster": {"worker": ["a:1", "b:\u00b2"]}}', "host:port. Received: b:"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": ["worker"], "index": 0}}', "`task` with the"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": true}}', "`task` with the"),
        ("[1]", "must be an object"),
        ('{"cluster": ["a:1"]}', "must be an object"),
        (tf_config({"ps": TWO}, {})["TF_CONFIG"], "jobs of chief, worker alone. Received: ps"),
        (tf_config({"worker": ["10.0.0.1", "b:1"]}, {})["TF_CONFIG"], "host:port. Received: 10.0.0.1"),
        (tf_config({"worker": ["a:1", "b:65536"]}, {})["TF_CONFIG"], "host:port. Received: b:65536"),
        (tf_config({"worker": ["a:1", "a:1"]}, {})["TF_CONFIG"], "of its own for each worker. Received: a:1, a:1"),
        (tf_config({"worker": TWO}, {"type": "worker", "index": 2})["TF_CONFIG"], '`task`.*"index": 2'),
        (tf_config({"worker": TWO}, {})["TF_CONFIG"], "`task` with the `type` and the `index`"),
    ],
)
def test_a_tf_config_that_cannot_be_is_refused_with_an_example(text, message):
    with pytest.raises(ValueError, match=message):
        find_cluster({"TF_CONFIG": text})


STEP = {
    "SLURM_JOB_ID": "123457",
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_STEP_NODELIST": "n[9-10]",
    "SLURM_STEP_TASKS_PER_NODE": "1,2",
}


@pytest.mark.parametrize("node, local, rank, index", [("n10", 0, 1, 0), ("n10", 1, 2, 1), ("n9", 0, 0, 2)])
def test_slurm_tells_the_workers_by_node_and_place_on_it(monkeypatch, node, local, rank, index):
    # TensorFlow sorts n10 before n9, SLURM counts n9 first; each still gets the address of its own node.
    environment = {**STEP, "SLURM_PROCID": str(rank), "SLURMD_NODENAME": node, "SLURM_LOCALID": str(local)}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    base = 10_000 + 457 * 20
    assert find_cluster(environment) == Cluster((f"n10:{base}", f"n10:{base + 1}", f"n9:{base}"), index)


def test_a_step_of_one_task_trains_alone_and_a_half_known_one_is_refused(monkeypatch):
    assert find_cluster({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}) is None
    for name, value in {**STEP, "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"SLURMD_NODENAME.*Start one by srun"):
        find_cluster(STEP)
    monkeypatch.delenv("SLURM_STEP_NODELIST")
    with pytest.raises(ValueError, match="SLURM_STEP_NODELIST not found"):
        find_cluster(STEP)
