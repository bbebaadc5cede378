"""Train and attack on Corel-5K: `python -m trainers.corel5k --data-dir DIR`."""

import sys

from trainers.runs.start import start

if __name__ == "__main__":
    sys.exit(start("corel5k"))
