"""Train and attack on a folder of class folders: `python -m trainers.folders --data-dir DIR`."""

import sys

from trainers.runs.start import start

if __name__ == "__main__":
    sys.exit(start("folders"))
