"""Train and attack on FLICKR-25K: `python -m trainers.flickr25k --data-dir DIR`."""

import sys

from trainers.runs.start import start

if __name__ == "__main__":
    sys.exit(start("flickr25k"))
