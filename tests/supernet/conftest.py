"""Lets the tests here import the training they share."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
