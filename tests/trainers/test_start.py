"""The ways to start several workers that docs/scale.md gives: do they tell each worker its place?"""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from trainers.distributed.cluster import find_cluster
from trainers.recipes.defense_options import read_command_line
from trainers.recipes.published import CocoRecipe

DOCS = Path(__file__).parents[2] / "docs"
MODULE = "python -m trainers.coco "


def shell(script, **environment):
    return subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("line", re.findall(r"W='.*'", (DOCS / "scale.md").read_text()))
def test_the_line_for_each_machine_tells_its_place(line):
    for index in range(2):
        cluster = find_cluster({"TF_CONFIG": shell(f'{line}; printf "$W" {index}')})
        assert cluster.index == index and len(cluster.addresses) == 2


@pytest.mark.parametrize("index", [0, 1])
def test_the_manifest_gives_each_pod_its_address_and_place(index):
    service, job = yaml.safe_load_all((DOCS / "train-kubernetes.yaml").read_text())
    name, pod = job["metadata"]["name"], job["spec"]["template"]["spec"]
    assert job["spec"]["completionMode"] == "Indexed"
    assert service["metadata"]["name"] == pod["subdomain"] and service["spec"]["selector"] == {"job-name": name}
    (container,) = pod["containers"]
    assert container["command"] == ["sh", "-c"]
    start, command = container["args"][0].split("exec ")
    cluster = find_cluster({"TF_CONFIG": shell(f'{start}printf %s "$TF_CONFIG"', JOB_COMPLETION_INDEX=str(index))})
    assert cluster.index == index
    port = container["ports"][0]["containerPort"]
    assert list(cluster.addresses) == [f"{name}-{i}.{pod['subdomain']}:{port}" for i in range(2)]
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 2
    assert {m["name"] for m in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert read_command_line(CocoRecipe, shlex.split(command.removeprefix(MODULE))).resume


def test_the_batch_script_starts_a_worker_a_task():
    script = (DOCS / "train.sbatch").read_text()
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    (command,) = re.findall(rf"^srun {MODULE}(.*)$", script, re.MULTILINE)
    assert read_command_line(CocoRecipe, shlex.split(command)).resume
    assert "--ntasks-per-node=1" in script and "TERM" in script
