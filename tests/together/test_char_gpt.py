"""The example that trains a language model, shortened."""

import math
import re
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]


def unigram_entropy_of_every_tenth_module() -> float:
    """Nats a character, with every character but printable ASCII and the end of a line counted as one and the same."""
    counts: Counter[str] = Counter()
    for number, path in enumerate(sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")), start=1):
        if number % 10 == 0:
            text = path.read_text(encoding="utf-8")
            counts.update(letter if letter == "\n" or " " <= letter <= "~" else "other" for letter in text)
    total = counts.total()
    return -sum(count / total * math.log(count / total) for count in counts.values())


def number_after(label: str, printed: str) -> float:
    found = re.search(rf"^{label} +([0-9.]+) nats", printed, re.MULTILINE)
    assert found, printed
    return float(found[1])


def test_the_language_model_beats_the_frequencies_of_characters_and_writes_a_sample(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "char_gpt.py")]
    options = ["--steps", "120", "--context", "32", "--precision", "bf16-mixed", "--sample", "40"]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    entropy = unigram_entropy_of_every_tenth_module()
    assert number_after("unigram entropy", done.stdout) == round(entropy, 4)
    # It saw 123 thousand characters; a fifth of what the whole run gains is more than chance.
    assert number_after("validation loss", done.stdout) < entropy - 0.3
    sample = done.stdout.partition("A sample:\n\n")[2].partition("\n\ntext  ")[0]
    assert sample.startswith("        def ")
    assert len("".join(line.removeprefix("    ") for line in sample.splitlines())) >= 30
    [best] = re.findall(r"^best checkpoint +(\S+)$", done.stdout, re.MULTILINE)
    assert (tmp_path / best).is_file()


def test_the_language_model_says_which_argument_is_too_small(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "char_gpt.py"), "--steps", "0"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "argument --steps: 0 is given, and at least 1 is needed" in done.stderr
