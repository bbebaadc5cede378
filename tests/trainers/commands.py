"""Commands as a user gives them."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SMALL = ["--pretrain-epochs", "2", "--epochs", "1", "--num-steps", "2", "--attack-steps", "3", "--bits", "16"]


def run(module, *options):
    """Run a module by its command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, options)], cwd=ROOT, capture_output=True, text=True, check=False
    )
