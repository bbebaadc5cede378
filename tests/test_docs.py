"""The pages agree with the code: paths that they name exist, and the picture of the rooms is that of the imports."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import saat_tf
from tests.tools.draw_rooms import PAGE, picture, room_imports, room_of, with_picture, without_detours

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# Folders that a page may leave out of a path; docs/paper_to_code.md says so.
BASES = [ROOT, ROOT / "docs", ROOT / "saat_tf", ROOT / "tests/saat_tf", ROOT / "tests"]
CODE = re.compile(r"`([^`\n]+)`")
# A source file, or a file or folder of a package; what a run or an index writes (card.json, runs/demo) is none.
NAMED = re.compile(r"(?:[\w-]+/)*\w+\.py|(?:saat_tf|trainers|export|benchmarks|tests|docs)/[\w./-]*")
MODULE = re.compile(r"(?:saat_tf|trainers|export|benchmarks|tests)(?:\.[a-z_]\w*)+")


def named_paths(text):
    """Yield (path, paths named before it on its line) for each path in backticks."""
    for line in text.splitlines():
        before = []
        for code in CODE.findall(line):
            if NAMED.fullmatch(code):
                yield code, tuple(before)
                before.append(code)


def exists(path, before):
    """A bare name may also stand in the folder of a path that its line named before it."""
    folders = [base / Path(other).parent for other in before for base in BASES] if "/" not in path else []
    return any((folder / path).exists() for folder in [*BASES, *folders])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_paths_exist(page):
    assert [path for path, before in named_paths(page.read_text(encoding="utf-8")) if not exists(path, before)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_programs_exist(page):
    started = set(re.findall(r"python -m ([\w.]+)", page.read_text(encoding="utf-8")))
    ours = {module for module in started if MODULE.fullmatch(module)}
    files = {module: ROOT / module.replace(".", "/") for module in ours}
    assert {
        m for m, f in files.items() if not (f.with_suffix(".py").is_file() or (f / "__main__.py").is_file())
    } == set()


def test_paths_are_found_and_a_missing_one_is_reported():
    text = (
        "`losses/csq.py`, `dph.py` and `nothing.py`; `card.json`, `runs/demo`\n`saat_tf/data/` and `trainers/none.py`"
    )
    paths = list(named_paths(text))
    assert [path for path, _ in paths] == ["losses/csq.py", "dph.py", "nothing.py", "saat_tf/data/", "trainers/none.py"]
    assert [path for path, before in paths if not exists(path, before)] == ["nothing.py", "trainers/none.py"]


def test_the_picture_of_the_rooms_is_that_of_the_code():
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_picture(page), "run python -m tests.tools.draw_rooms"


def test_rooms_and_imports_are_those_of_the_sources():
    """Compare a few edges with what the files say, read by a pattern instead of a parser."""
    imports = room_imports()
    for room in ("saat_tf/losses", "export/search", "trainers/callbacks"):
        text = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / room).rglob("*.py"))
        modules = re.findall(r"^\s*from ((?:saat_tf|trainers|export)[\w.]*) import", text, flags=re.MULTILINE)
        assert {room_of(module) for module in modules} - {room} == imports[room]


def test_detours_are_left_out_and_mutual_imports_are_kept():
    assert without_detours({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == {"a": {"b"}, "b": {"c"}, "c": set()}
    mutual = {"a": {"b", "c"}, "b": {"a", "c"}, "c": set()}
    assert without_detours(mutual) == mutual


def test_a_room_is_a_node_in_the_box_of_its_package():
    drawn = picture({"saat_tf": set(), "saat_tf/data": {"saat_tf"}, "trainers": {"saat_tf/data"}})
    trainers, library = drawn.split("  end\n")[1:3]
    assert trainers == "  subgraph box_trainers[trainers]\n    trainers[programs]\n"
    assert library == "  subgraph box_saat_tf[saat_tf]\n    saat_tf[modules]\n    saat_tf_data[data]\n"
    assert drawn.endswith("  saat_tf_data --> saat_tf\n  trainers --> saat_tf_data\n```")


@pytest.mark.parametrize("text", ["none", "<!-- rooms:end -->\n<!-- rooms:begin -->"])
def test_a_page_without_its_marks_is_refused(text):
    with pytest.raises(ValueError, match="Expected <!-- rooms:begin"):
        with_picture(text)


def test_versions_stated_in_several_files_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == saat_tf.__version__ and citation["license"] == project["license"]
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1]
    assert saat_tf.__version__.partition(".dev")[0] == newest

    pinned = re.search(r"^ruff==(.*)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), flags=re.MULTILINE)[1]
    hook, _ = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert hook["rev"] == f"v{pinned}"


def test_the_workflow_runs_on_the_oldest_python_and_on_all_that_readme_names():
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    matrices = [job["strategy"]["matrix"]["python-version"] for job in jobs.values() if "strategy" in job]
    assert matrices == [["3.11", "3.12", "3.13"]] * 2
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={matrices[0][0]}"
    assert "Python 3.11 to 3.13" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_each_section_of_the_changelog_to_come_has_a_standard_name():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("\n## ")[1]
    names = re.findall(r"^### (.*)$", text, flags=re.MULTILINE)
    assert names == [
        name for name in ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security") if name in names
    ]
