"""Train and attack on MS-COCO: `python -m trainers.coco --data-dir DIR`."""

import sys

from trainers.runs.start import start

if __name__ == "__main__":
    sys.exit(start("coco"))
