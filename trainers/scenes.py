"""Train and attack on pictures that the code draws: `python -m trainers.scenes`."""

import sys

from trainers.runs.start import start

if __name__ == "__main__":
    sys.exit(start("scenes"))
