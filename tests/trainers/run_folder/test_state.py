"""What a run remembers: damage is named, and never a traceback."""

import hashlib
import json

import numpy as np
import pytest

from saat_tf.data import DataError
from saat_tf.evaluation import RetrievalReport
from trainers.callbacks.catastrophic_overfitting import read_history
from trainers.run_folder.state import RunFolder, RunPosition

DATA = {"data": "here"}
POSITION = RunPosition(phase="saat", epoch=1, step=2, steps=8)
CODES = np.arange(4, dtype=np.uint8).reshape(2, 2)
REPORT = RetrievalReport(0.5, 0.25, 0.125, 0.1, CODES, CODES, CODES, np.zeros((1, 2, 2, 3), np.float32))


def rewrite(run_dir, change):
    """Change the facts of the newest checkpoint, with a manifest that vouches for them."""
    (folder,) = (run_dir / "checkpoints").iterdir()
    facts = json.loads((folder / "facts.json").read_text())
    text = json.dumps(change(facts))
    (folder / "facts.json").write_text(text)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(
        json.dumps({**manifest, "facts.json": hashlib.sha256(text.encode()).hexdigest()})
    )
    return folder / "facts.json"


FACTS = {
    "no seconds": (lambda facts: {name: x for name, x in facts.items() if name != "seconds"}, "seconds missing"),
    "a list for a position": (lambda facts: {**facts, "position": [1]}, "position missing or of another type"),
    "a text for an epoch": (lambda facts: {**facts, "position": {**facts["position"], "epoch": "1"}}, "position.epoch"),
    "more in a position": (lambda facts: {**facts, "position": {**facts["position"], "x": 1}}, "position or identity"),
    "no data": (lambda facts: {**facts, "identity": {}}, "position or identity missing"),
    "a text for seconds": (lambda facts: {**facts, "seconds": {"evaluate": "1"}}, "seconds missing or of another type"),
}


@pytest.mark.parametrize("change, message", FACTS.values(), ids=FACTS)
def test_a_checkpoint_that_says_something_else_is_named(tmp_path, change, message):
    RunFolder(tmp_path, DATA).save(POSITION, [np.zeros(3)])
    assert RunFolder(tmp_path, DATA).position == POSITION
    file = rewrite(tmp_path, change)
    with pytest.raises(DataError) as caught:
        RunFolder(tmp_path, DATA)
    assert str(caught.value).startswith(f"{file}: ") and message in str(caught.value)
    assert "Remove the folder" in str(caught.value)


def test_an_evaluation_is_kept_with_its_seconds(tmp_path):
    run_folder = RunFolder(tmp_path, DATA)
    run_folder.seconds["evaluate"] = 3.5
    run_folder.save_report("saat", REPORT)
    again = RunFolder(tmp_path, DATA)
    kept = again.load_report("saat")
    assert (kept.clean_map, kept.attacked_map, kept.chance_map) == (0.5, 0.25, 0.1)
    np.testing.assert_array_equal(kept.query_codes, CODES)
    assert again.seconds == {"evaluate": 3.5} and again.load_report("hashing") is None


def savez(file, **fields):
    np.savez(file, **{**{name: getattr(REPORT, name) for name in REPORT.__dataclass_fields__}, **fields})


DAMAGE = {
    "cut": lambda file: file.write_bytes(file.read_bytes()[:300]),
    "empty": lambda file: file.write_bytes(b""),
    "no archive": lambda file: file.write_bytes(b"x" * 1000),
    "nested seconds": lambda file: savez(file, seconds="[" * 100_000),
    "seconds of another type": lambda file: savez(file, seconds='{"evaluate": "long"}'),
    "no seconds": savez,
    "a field too many": lambda file: savez(file, seconds="{}", other=1),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_evaluation_is_named_and_done_again(tmp_path, capsys, damage):
    RunFolder(tmp_path, DATA).save_report("saat", REPORT)
    file = tmp_path / "evaluations" / "saat.npz"
    damage(file)
    run_folder = RunFolder(tmp_path, DATA)
    assert run_folder.load_report("saat") is None and run_folder.seconds == {}
    told = " ".join(capsys.readouterr().err.split())
    assert f"warning: {file}: not a whole evaluation (" in told and "The model is evaluated again." in told


HISTORIES = [
    "[" * 100_000,
    '{"robust": 1}',
    "[5]",
    '[{"robust": 1, "clean": 1, "rolled_back": 0}]',
    '[{"robust": NaN}]',
]


@pytest.mark.parametrize("text", HISTORIES, ids=range(len(HISTORIES)))
def test_a_damaged_history_is_named(tmp_path, text):
    file = tmp_path / "probe.json"
    assert read_history(file) == []
    file.write_text('[{"robust": 0.5, "clean": 1, "flipped": 0.1, "rolled_back": false}]')
    assert read_history(file) == [{"robust": 0.5, "clean": 1, "flipped": 0.1, "rolled_back": False}]
    file.write_text(text)
    with pytest.raises(DataError, match=r"probe\.json: .*Restore it, or begin a new run\."):
        read_history(file)
