"""The table that validate and test print."""

from collections.abc import Mapping, Sequence


def metrics_table(title: str, metrics: Sequence[Mapping[str, float]]) -> str:
    """A row for each metric, a column for each loader.

    Args:
        title: heads the column of names.
        metrics: epoch values by name, one mapping for each loader.
    """
    names = list(dict.fromkeys(name for values in metrics for name in values))
    if not names:
        return f"{title}: no metric was logged"
    heads = [title, *(["value"] if len(metrics) == 1 else [f"loader {index}" for index in range(len(metrics))])]
    rows = [[name, *(f"{values[name]:.6g}" if name in values else "" for values in metrics)] for name in names]
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [heads, *rows]]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)
