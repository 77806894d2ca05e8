"""Names of files: what a template may hold, and what comes of it."""

import pytest
import torch

from hookloop.errors import MisconfigurationError
from hookloop_callbacks_checkpoint.names import FileName


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
