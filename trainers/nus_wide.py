"""Train and attack on NUS-WIDE: `python -m trainers.nus_wide --data-dir DIR`."""

import sys

from trainers.runs.start import start

if __name__ == "__main__":
    sys.exit(start("nus_wide"))
