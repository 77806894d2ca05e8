"""Checkpoints that Lightning writes, and fits that go on from them: what `python dev.py bench lightning_files` runs.

It measures nothing. It lets Lightning write the files of tests/core/lightning_files anew, says where they differ from
those that are kept there, resumes each of them in hookloop, and compares the ends bit for bit.
"""

import argparse
import importlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

# Python puts this folder here, which has a module of the same name: this one.
sys.path[0] = str(Path(__file__).resolve().parents[1] / "tests" / "core")

resume = importlib.import_module("lightning_files.resume")
FOLDER, NEWEST = resume.FOLDER, resume.NEWEST
differences, end_in_lightning, resumed = resume.differences, resume.end_in_lightning, resume.resumed


def main() -> int:
    parser = argparse.ArgumentParser(prog="lightning_files", description=__doc__)
    parser.add_argument(
        "--lightning-python",
        metavar="PATH",
        default=sys.executable,
        help="a Python that has Lightning, and the same torch (default: this one)",
    )
    parser.add_argument("--record", action="store_true", help=f"keep the files in {NEWEST.name}")
    parser.add_argument("--quick", action="store_true", help="resume two of the files: a look, not a result")
    options = parser.parse_args()
    failed = 0
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        subprocess.run(
            [options.lightning_python, str(FOLDER / "write.py"), temporary], check=True, stdout=subprocess.DEVNULL
        )
        files = sorted(folder.glob("*.ckpt"))
        for file in files:
            kept = NEWEST / file.name
            found = ["it is new"]
            if kept.exists():
                new, old = (torch.load(path, weights_only=False) for path in (file, kept))
                found = differences(new, old, tolerance=1e-5)
            _say("is written as it was", "IS WRITTEN IN ANOTHER WAY", file.stem, found)
            failed += bool(found)
        names = [file.stem for file in files if file.stem not in ("settings", "weights_only", "one_object")]
        for name in names[:2] if options.quick else names:
            trainer, module, _ = resumed(name, folder)
            end = end_in_lightning(name, folder)
            weights = {key: value.flatten().tolist() for key, value in module.state_dict().items()}
            rates = [group["lr"] for one in trainer.optimizers for group in one.param_groups]
            given = {"steps": trainer.global_step, "rates": rates, "weights": weights}
            found = differences(given, end, tolerance=0.0, place="end")
            _say("ends as in Lightning", "ENDS IN ANOTHER WAY", name, found)
            failed += bool(found)
        if options.record:
            shutil.rmtree(NEWEST, ignore_errors=True)
            shutil.copytree(folder, NEWEST)
    return 1 if failed and not options.record else 0


def _say(good: str, bad: str, name: str, found: list[str]) -> None:
    print(f"{bad if found else good}  {name}")
    print("".join(f"  {line}\n" for line in found[:20]), end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
