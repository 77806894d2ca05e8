"""Numbers as they stand in a bar or a line: short, and of a width that changes little."""

from collections.abc import Mapping


def format_value(value: int | float | str) -> str:
    """A metric's value: three decimals, or three digits and an exponent where that would show nothing.

    >>> format_value(0.97132), format_value(3e-4), format_value(7)
    ('0.971', '3.00e-04', '7')
    """
    if not isinstance(value, float):
        return str(value)
    return f"{value:.3f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.2e}"


def format_metrics(metrics: Mapping[str, int | float | str]) -> str:
    """All of them, in their order: "loss=0.123, v_num=0"."""
    return ", ".join(f"{name}={format_value(value)}" for name, value in metrics.items())


def format_rate(rate: float) -> str:
    """A rate per second, turned around where it is below one.

    >>> format_rate(1234.2), format_rate(38.23), format_rate(0.25)
    ('1234 it/s', '38.2 it/s', '4.0 s/it')
    """
    if rate < 1:
        return f"{1 / rate:.1f} s/it"
    return f"{rate:.0f} it/s" if rate >= 100 else f"{rate:.1f} it/s"
