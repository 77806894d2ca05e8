"""hparams_file: settings from YAML and CSV in place of the checkpoint's."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hookloop import LightningModule
from hookloop.errors import MisconfigurationError
from hookloop.hyperparameters.files import read_hparams_file
from hookloop.hyperparameters.yaml_reader import YamlError, read_yaml
from hookloop.loggers.hparams import to_yaml

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text() | st.integers(), inside, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), VALUES, min_size=1, max_size=4))
def test_what_the_loggers_write_is_read_back_as_the_same(settings: Any) -> None:
    assert read_yaml(to_yaml(settings)) == settings


BY_HAND = """\
---
# by hand
lr: 1e-3   # a number, though YAML 1.1 takes it for text
name: it's#1 # not it's #1
url: http://host:80/a#b
empty:
none: ~
on: yes
hex: 0x1f
many: 1_000
none_of_it: .nan
least: -.inf
sizes: [1, 2.5, 'a, b', [], {x: 1, "y z": [true, null]}]
nested:
    deep: {a: b: c, d: }
    list:
    - 1
    - key: 2
      other: 3
    - - 4
      - 5
    -
      last: 6
"quoted: key": "tab\\t \\u00e9 \\"x\\""
'it''s': 'that''s'
folded: one
  two

  three
"""


def test_settings_by_hand_are_read_as_yaml_1_2_has_them() -> None:
    read = read_yaml(BY_HAND)
    assert math.isnan(read.pop("none_of_it"))
    assert read == {
        "lr": 0.001,
        "name": "it's#1",
        "url": "http://host:80/a#b",
        "empty": None,
        "none": None,
        "on": "yes",
        "hex": 31,
        "many": 1000,
        "least": -math.inf,
        "sizes": [1, 2.5, "a, b", [], {"x": 1, "y z": [True, None]}],
        "nested": {"deep": {"a": "b: c", "d": None}, "list": [1, {"key": 2, "other": 3}, [4, 5], {"last": 6}]},
        "quoted: key": 'tab\t é "x"',
        "it's": "that's",
        "folded": "one two\nthree",
    }


def test_tuples_as_pyyaml_writes_them_are_tuples() -> None:
    # yaml.dump({"betas": (0.9, 0.999), "text": 80 letters, "wide": [(1,)]}) of PyYAML 6.0.3
    text = (
        "betas: !!python/tuple\n- 0.9\n- 0.999\ntext: aaaaaaaaaaaaaaaaaaaa aaaaaaaaaaaaaaaaaaaa aaaaaaaaaaaaaaaaaaaa\n"
        "  aaaaaaaaaaaaaaaaaaaa\nwide:\n- !!python/tuple\n  - 1\n"
    )
    assert read_yaml(text) == {"betas": (0.9, 0.999), "text": " ".join(["a" * 20] * 4), "wide": [(1,)]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", r"line 2: 'a' is there twice"),
        ("a: 1\n  b: 2", r"line 2: 'b: 2' is indented unlike what is above"),
        ("a:\n  b: 1\n c: 2", r"line 3: 'c: 2' is indented unlike what is above"),
        ("a: [1, 2", r"line 1: a ',' or a '\]' is missing"),
        ("a: {x: 1", r"line 1: a ',' or a '\}' is missing"),
        ("a: [1, ", r"line 1: a '\]' is missing"),
        ("a: [1] 2", r"line 1: '2' is left over"),
        ('a: "x', r'line 1: a " is missing'),
        ("a: 'x", r"line 1: a ' is missing"),
        (r'a: "\q"', r"line 1: \\q is no escape"),
        (r'a: "\xzz"', r"line 1: \\xzz is no character"),
        ("\ta: 1", r"line 1: it is indented by a tab"),
        ("a: &x 1", r"line 1: '&x 1' begins with '&': an anchor, a tag or block text"),
        ("a: !!python/object:os.system x", r"begins with '!'"),
        ("a: |\n  text", r"begins with '\|'"),
        ("a: !!python/tuple 3", r"line 1: !!python/tuple stands before a list"),
        ("{[1]: 2}", r"line 1: a list is no key"),
    ],
)
def test_what_is_no_yaml_of_settings_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(YamlError, match=message):
        read_yaml(text)


class Net(LightningModule):
    def __init__(self, width: int, lr: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = nn.Linear(width, 1)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "file.ckpt"
    torch.save(
        {"state_dict": Net(3).state_dict(), "hparams_name": "kwargs", "hyper_parameters": {"width": 5, "lr": 7}}, path
    )
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("h.yaml", "width: 3\nlr: 1e-2\nunknown: 1\n"),
        ("h.YML", "{width: 3, lr: 0.01}"),
        ("h.csv", "key,value\nwidth,3\nlr,0.01\n"),
    ],
)
def test_a_file_takes_the_place_of_the_checkpoints_settings(name: str, text: str, checkpoint: Path) -> None:
    file = checkpoint.with_name(name)
    file.write_text(text)
    assert Net.load_from_checkpoint(checkpoint, hparams_file=file).hparams == {"width": 3, "lr": 0.01}
    assert Net.load_from_checkpoint(checkpoint, hparams_file=str(file), lr=0.5).hparams == {"width": 3, "lr": 0.5}


def test_a_missing_argument_names_the_file(checkpoint: Path) -> None:
    file = checkpoint.with_name("h.yaml")
    file.write_text("lr: 1\n")
    with pytest.raises(RuntimeError, match=r"Net\.__init__ needs width, and .*h\.yaml has lr\."):
        Net.load_from_checkpoint(checkpoint, hparams_file=file)


def test_csv_values_are_pythons_literals_or_text(tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_text('key,value\na,"(1, 2)"\nb,some text\nc,None\nd,1e-3\ne,"{""x"": True}"\n')
    assert read_hparams_file(tmp_path / "h.csv") == {
        "a": (1, 2),
        "b": "some text",
        "c": None,
        "d": 0.001,
        "e": {"x": True},
    }


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}\n"])
def test_an_empty_file_has_no_settings(text: str, tmp_path: Path) -> None:
    (tmp_path / "h.yaml").write_text(text)
    assert read_hparams_file(tmp_path / "h.yaml") == {}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("h.json", "{}", r"settings are read from \.yaml, \.yml and \.csv files"),
        ("none.yaml", None, r"cannot be read \(FileNotFoundError.*CSVLogger writes such a file into its log_dir"),
        ("h.yaml", "- 1\n", r"holds a list, and a mapping of settings is expected, as `lr: 0\.1`"),
        ("h.yaml", "a: &x 1\n", r"h\.yaml', line 1: .*yaml\.safe_load"),
        ("h.csv", "key,value\na,1,2\n", r"row 2 has 3 cell\(s\), and two are expected in each row"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(name: str, text: str | None, message: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(MisconfigurationError, match=message):
        read_hparams_file(tmp_path / name)
