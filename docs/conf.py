"""Sphinx reads this. Pages are Markdown; every warning is an error (`python dev.py docs`)."""

import tomllib
from pathlib import Path

_CORE = Path(__file__).parents[1] / "packages" / "core" / "pyproject.toml"

project = "hookloop"
author = "The hookloop authors"
project_copyright = author
release = tomllib.loads(_CORE.read_text(encoding="utf-8"))["project"]["version"]

extensions = ["myst_parser"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
# Headings can be linked to: page.md#a-heading
myst_heading_anchors = 3
nitpicky = True

html_theme = "furo"
html_title = f"hookloop {release}"
