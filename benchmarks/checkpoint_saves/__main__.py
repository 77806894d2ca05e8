"""`python benchmarks/checkpoint_saves`, and what `python dev.py bench checkpoint_saves` runs."""

import sys
from pathlib import Path

# Python puts the folder that it was given here; the package, and what benchmarks share, are beside it.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from checkpoint_saves.cli import main  # noqa: E402 - see above

sys.exit(main())
