"""The five scripts on Lightning and on hookloop, side by side: `python dev.py bench migrated`."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .comparing import RECORDED, SCRIPTS, UNEVEN, UNEVEN_SCALED, differences, result_of, where


def main() -> int:
    parser = argparse.ArgumentParser(prog="migrated", description=__doc__)
    parser.add_argument(
        "--lightning-python",
        metavar="PATH",
        default=sys.executable,
        help="a Python that has Lightning, and the same torch (default: this one)",
    )
    parser.add_argument("--record", action="store_true", help=f"write Lightning's results to {RECORDED.name}")
    parser.add_argument("--quick", action="store_true", help="one script alone: a look, not a result")
    options = parser.parse_args()
    if options.quick and options.record:
        parser.error("--record writes the results of all scripts, and --quick runs one. Leave one of them out.")

    recorded, failed = {}, 0
    # On Lightning, the script makes up for the short window; hookloop does it by itself.
    pairs = [(script, script) for script in SCRIPTS] + [(UNEVEN_SCALED, UNEVEN)]
    for on_lightning, on_hookloop in pairs[:1] if options.quick else pairs:
        expected, slow = _timed(on_lightning, "lightning.pytorch", options.lightning_python)
        recorded[on_lightning] = expected
        try:
            given, fast = _timed(on_hookloop, "hookloop", sys.executable)
            found = list(differences(given, expected))
        except RuntimeError as error:
            fast, found = 0.0, str(error).splitlines()
        failed += bool(found)
        print(f"{'DIFFERS' if found else 'the same'}  {on_hookloop:<28}  Lightning {slow:.1f} s, hookloop {fast:.1f} s")
        print("".join(f"  {line}\n" for line in found[-20:]), end="", flush=True)
    if options.record:
        recorded[UNEVEN] = _timed(UNEVEN, "lightning.pytorch", options.lightning_python)[0]
        _record(recorded, options.lightning_python)
    return 1 if failed else 0


def _timed(script: str, root: str, python: str) -> tuple[dict[str, object], float]:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        return result_of(script, root, Path(folder), python), time.perf_counter() - started


def _record(results: dict[str, dict[str, object]], python: str) -> None:
    ask = "import lightning, torchmetrics; print(lightning.__version__, torchmetrics.__version__)"
    lightning, torchmetrics = subprocess.check_output([python, "-c", ask], text=True).split()
    document = {
        "made by": "python dev.py bench migrated -- --record",
        "with": {**where(), "lightning": lightning, "torchmetrics": torchmetrics},
        "results": results,
    }
    RECORDED.write_text(_lines(document) + "\n", encoding="utf-8")


def _lines(value: object, depth: int = 0) -> str:
    """JSON with a line for each value of a dict, so that a difference between two recordings can be read."""
    if not isinstance(value, dict) or depth > 2:
        return json.dumps(value)
    indent = "  " * depth
    inside = ",\n".join(f"{indent}  {json.dumps(key)}: {_lines(one, depth + 1)}" for key, one in value.items())
    return f"{{\n{inside}\n{indent}}}"


if __name__ == "__main__":
    sys.exit(main())
