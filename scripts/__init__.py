"""The commands: `python -m scripts.NAME`."""

import sys
from importlib.util import find_spec

if find_spec("msgspec") is None:
    sys.exit("error: this Python lacks what abiding needs. Run `make setup`, then `. .venv/bin/activate`.")
