"""Names of files: what a template may hold, and what comes of it."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hookloop.errors import MisconfigurationError
from hookloop_callbacks_checkpoint import ModelCheckpoint
from hookloop_callbacks_checkpoint.names import FileName, what_is_wrong


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{epoch}-{step}", "epoch=3-step=12"),
        ("{epoch:02d}", "epoch=03"),
        ("{step:.1f}", "step=12.0"),
        ("{epoch}-{val_loss:.2f}", "epoch=3-val_loss=0.12"),
        ("{val_loss}", "val_loss=0.125"),
        ("{val/accuracy:.0%}", "val_accuracy=50%"),
        ("sub/run {epoch}", "sub/run epoch=3"),
        ("{{kept}} {epoch}", "{kept} epoch=3"),
        ("best", "best"),
        ("best.ckpt", "best"),
    ],
)
def test_fields_stand_for_their_name_and_value(template: str, expected: str) -> None:
    metrics = {"val_loss": torch.tensor(0.125), "val/accuracy": torch.tensor(0.5)}

    assert FileName(template).fill_in(epoch=3, step=12, metrics=metrics) == expected


def test_a_metric_that_was_never_logged_is_an_error_that_lists_what_was() -> None:
    name = FileName("{epoch}-{val_los:.2f}")
    metrics = {"val_loss": torch.tensor(0.5), "acc": torch.tensor(0.5)}

    with pytest.raises(
        MisconfigurationError, match=r"names 'val_los', which was not logged; .*: 'acc', 'val_loss'\. Log"
    ):
        name.fill_in(0, 0, metrics)
    with pytest.raises(MisconfigurationError, match="logged until now: nothing at all"):
        name.fill_in(0, 0, {})


@pytest.mark.parametrize("template", ["{epoch", "epoch}"])
def test_braces_that_do_not_match_are_an_error(template: str) -> None:
    with pytest.raises(MisconfigurationError, match=r"filename='.*' has braces that do not match: .*\. For example"):
        FileName(template)


@pytest.mark.parametrize("template", ["{}", "{:.2f}", "{epoch!r}"])
def test_a_field_that_names_nothing_is_an_error(template: str) -> None:
    with pytest.raises(MisconfigurationError, match="neither epoch, step nor the name of a metric"):
        FileName(template)


@pytest.mark.parametrize("template", ["{epoch:.2q}", "{val_loss:02d}", "{step:{epoch}}"])
def test_a_format_that_numbers_do_not_know_is_an_error(template: str) -> None:
    with pytest.raises(MisconfigurationError, match="does not fit a number"):
        FileName(template)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{epoch}-{step}", "3-12"),
        ("epoch={epoch:02d}-loss={val_loss:.2f}", "epoch=03-loss=0.12"),
        ("{val/accuracy:.1f}", "0.5"),
    ],
)
def test_values_alone_stand_there_if_names_are_not_inserted(template: str, expected: str) -> None:
    metrics = {"val_loss": torch.tensor(0.125), "val/accuracy": torch.tensor(0.5)}

    assert FileName(template, insert_names=False).fill_in(epoch=3, step=12, metrics=metrics) == expected


def test_another_sign_between_name_and_value() -> None:
    assert FileName("{epoch}-{step:03d}", equals="_").fill_in(3, 12, {}) == "epoch_3-step_012"


@pytest.mark.parametrize("name", ["a/b", "a\\b", "a:b", "a*b", "a?b", 'a"b', "a<b", "a>b", "a|b", "a\nb"])
def test_what_a_file_system_refuses_in_a_metric_s_name_becomes_an_underscore(name: str) -> None:
    # A colon ends a field's name in a template.
    if ":" not in name:
        assert FileName(f"{{{name}}}").fill_in(0, 0, {name: 0.5}) == "a_b=0.5"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("/tmp/{epoch}", "it is absolute, and the folder is what dirpath says"),
        ("../{epoch}", 'leads out of the folder by "\\.\\."'),
        ("sub/../../{epoch}", "leads out of the folder"),
        ("sub//{epoch}", "a part of it is empty"),
        ("sub/", "a part of it is empty"),
        (".ckpt", "a part of it is empty"),
        ("a\0b", "it holds a control character"),
        ("{epoch}\n", "it holds a control character"),
        ("x" * 256, "it may have 266 bytes, and file systems allow 255"),
        ("ä" * 125, "it may have 260 bytes, and file systems allow 255"),
        ("\udc80", "it holds a character that has no UTF-8"),
    ],
)
def test_a_name_that_no_file_system_takes_is_an_error_at_once(template: str, reason: str) -> None:
    with pytest.raises(MisconfigurationError, match=f"gives the name .*{reason}"):
        FileName(template)


@pytest.mark.parametrize("template", ["{epoch:/>4}", "{val_loss:/<9}"])
def test_a_format_that_fills_up_with_separators_is_an_error(template: str) -> None:
    with pytest.raises(MisconfigurationError, match="a separator of folders has no place in a number"):
        FileName(template)


def test_a_name_that_grows_too_long_with_its_values_is_an_error() -> None:
    name = FileName("x" * 235 + "{val_loss}", insert_names=False)

    with pytest.raises(MisconfigurationError, match="file systems allow 255"):
        name.fill_in(0, 0, {"val_loss": 0.1234567890123})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ab:c", "allows no ':'"),
        ("sub/what?", r"allows no '\?'"),
        ("con", "does not take 'con'"),
        ("LPT1.x", "does not take 'LPT1.x'"),
        ("sub./x", "does not take 'sub.'"),
        ("C:/x", "it is absolute"),
    ],
)
def test_windows_refuses_more(name: str, reason: str) -> None:
    wrong = what_is_wrong(name, windows=True)

    assert wrong is not None
    assert re.search(reason, wrong)
    assert what_is_wrong(name, windows=False) is None


@given(
    st.text(st.characters(exclude_characters="{}:!\0", exclude_categories=["Cs"]), max_size=80),
    st.integers(0, 10**9),
    st.integers(0, 10**12),
    st.floats(),
)
def test_whatever_is_accepted_is_a_file_right_where_it_should_be(
    text: str, epoch: int, step: int, score: float
) -> None:
    try:
        name = FileName(f"{text}{{epoch}}-{{step}}-{{a/b:.3g}}").fill_in(epoch, step, {"a/b": score})
    except MisconfigurationError:
        return
    with TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.ckpt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

        assert path.resolve().is_relative_to(Path(folder).resolve())
        assert f"epoch={epoch}-step={step}-a_b={score:.3g}.ckpt" in path.name


def test_a_callback_formats_names_as_its_files_are_called(tmp_path: Path) -> None:
    metrics = {"epoch": 2, "step": 9, "val_loss": 0.123456}

    assert ModelCheckpoint().format_checkpoint_name(metrics) == "epoch=2-step=9.ckpt"
    assert ModelCheckpoint(tmp_path).format_checkpoint_name(metrics) == str(tmp_path / "epoch=2-step=9.ckpt")
    named = ModelCheckpoint(filename="{epoch}-{val_loss:.2f}")
    assert named.format_checkpoint_name(metrics) == "epoch=2-val_loss=0.12.ckpt"
    assert named.format_checkpoint_name(metrics, filename="{step:04d}") == "step=0009.ckpt"
    assert named.format_checkpoint_name(metrics, ver=3, prefix="run") == "run-epoch=2-val_loss=0.12-v3.ckpt"
    with pytest.raises(MisconfigurationError, match=r"names 'val_loss', which was not logged.*: 'epoch'"):
        named.format_checkpoint_name({"epoch": 2})
