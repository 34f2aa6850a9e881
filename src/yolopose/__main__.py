"""`python -m yolopose` is the command `yolo`."""

import sys

from yolopose.cli import main

if __name__ == "__main__":
    sys.exit(main())
