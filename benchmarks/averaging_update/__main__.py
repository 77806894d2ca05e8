"""`python benchmarks/averaging_update`, and what `python dev.py bench averaging_update` runs."""

import sys
from pathlib import Path

# Python puts the folder that it was given here; the package, and what benchmarks share, are beside it.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from averaging_update.cli import main  # noqa: E402 - see above

sys.exit(main())
