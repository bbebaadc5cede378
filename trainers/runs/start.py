"""Start of a trainer: from the name of its data set and the command line to a run."""

from trainers.recipes.data_sets import DATA_SETS
from trainers.recipes.defense_options import read_command_line
from trainers.runs.run import main


def start(name: str) -> int:
    """Train on a data set of `DATA_SETS` by the options of the command line; return the exit code."""
    kind, load = DATA_SETS[name]
    recipe = read_command_line(kind)
    return main(recipe, name, lambda: load(recipe))
