from typing import Any

from hookloop_callbacks_progress import ProgressBar as ProgressBar
from hookloop_callbacks_progress import TQDMProgressBar as TQDMProgressBar

# Classes of packages that are not built yet.
def __getattr__(name: str) -> Any: ...
