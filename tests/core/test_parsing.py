"""Constructor arguments and attributes, found where users keep them."""

import inspect
import threading
from types import FrameType, SimpleNamespace
from typing import Any

import pytest

from hookloop import LightningDataModule, LightningModule
from hookloop.parsing import (
    clean_namespace,
    collect_init_args,
    get_init_args,
    is_picklable,
    lightning_getattr,
    lightning_hasattr,
    lightning_setattr,
    parse_class_init_keys,
)

# Pickling


class Refuses:
    def __reduce__(self) -> str:
        raise OSError("not today")


UNPICKLABLE = {"lambda": lambda: None, "lock": threading.Lock(), "refuses": Refuses()}


@pytest.mark.parametrize("value", [1, "a", [1.0, {"b": None}], LightningModule, len], ids=repr)
def test_plain_values_classes_and_functions_can_be_pickled(value: Any) -> None:
    assert is_picklable(value)


@pytest.mark.parametrize("name", UNPICKLABLE)
def test_what_cannot_be_pickled_is_told_and_not_raised(name: str) -> None:
    assert not is_picklable(UNPICKLABLE[name])


def test_what_cannot_be_pickled_is_taken_out_with_a_warning_that_names_it() -> None:
    settings = {"lr": 0.1, **UNPICKLABLE, "layers": [1, 2]}
    with pytest.warns(UserWarning, match="cannot be pickled and is left out") as caught:
        clean_namespace(settings)
    assert settings == {"lr": 0.1, "layers": [1, 2]}
    assert [str(one.message).split("'")[1] for one in caught] == list(UNPICKLABLE)
    assert {one.filename for one in caught} == {__file__}


# Constructors


class Plain:
    def __init__(self) -> None: ...


class Everything:
    def __init__(this, one: int, *rest: int, two: int = 2, **more: int) -> None:  # noqa: N805
        ...


class Keywords:
    def __init__(self, *, one: int, **options: int) -> None: ...


@pytest.mark.parametrize(
    ("cls", "names"),
    [(Plain, ("self", None, None)), (Everything, ("this", "rest", "more")), (Keywords, ("self", None, "options"))],
)
def test_a_constructor_may_call_its_stars_what_it_likes(cls: type, names: tuple[str, str | None, str | None]) -> None:
    assert parse_class_init_keys(cls) == names


def own_frame() -> FrameType:
    """The frame of the function that calls this."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back


class Base:
    def __init__(self, size: int, name: str = "base", **more: Any) -> None:
        super().__init__()
        self.of_base = get_init_args(own_frame())
        self.collected = collect_init_args(own_frame(), [])
        self.collected_of_base = collect_init_args(own_frame(), [], classes=(Base,))
        self.collected_of_others = collect_init_args(own_frame(), [], classes=(Plain,))


class Child(Base):
    def __init__(self, width: int, *rest: int, depth: int = 3, **options: Any) -> None:
        super().__init__(width * depth, extra=rest)
        self.of_child = get_init_args(own_frame())


def make() -> Child:
    return Child(2, 7, 8, depth=5, colour="red")


def test_the_arguments_of_a_constructor_are_read_in_it_without_self_and_with_its_options_unpacked() -> None:
    made = make()
    assert made.of_base == {"size": 10, "name": "base", "extra": (7, 8)}
    assert made.of_child == {"width": 2, "depth": 5, "colour": "red"}


def test_elsewhere_there_are_no_arguments_of_a_constructor() -> None:
    unrelated = 3
    assert get_init_args(own_frame()) == {}
    assert unrelated == 3


def test_the_arguments_of_all_constructors_of_an_object_are_collected_outwards() -> None:
    made = make()
    expected = [
        {"size": 10, "name": "base", "extra": (7, 8)},
        {"width": 2, "depth": 5, "colour": "red"},
    ]
    assert made.collected == expected
    assert made.collected_of_base == expected
    assert made.collected_of_others == []


def test_constructors_of_others_further_out_are_not_mixed_in() -> None:
    class Owner:
        def __init__(self, secret: str) -> None:
            super().__init__()
            self.child = make()

    assert Owner("x").child.collected == make().collected


# Attributes


class Model(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.width = 1


class Data(LightningDataModule):
    batch_size = 4


def test_an_attribute_of_the_module_is_found_and_set() -> None:
    model = Model()
    assert lightning_hasattr(model, "width")
    assert lightning_getattr(model, "width") == 1
    lightning_setattr(model, "width", 2)
    assert model.width == 2


def holder(**attributes: Any) -> Any:
    """What stands for a module with settings, and perhaps a trainer."""
    return SimpleNamespace(**{"_trainer": None, **attributes})


@pytest.mark.parametrize("hparams", [{"lr": 0.1}], ids=["dict"])
def test_an_attribute_among_the_hyperparameters_is_found_and_set(hparams: dict[str, float]) -> None:
    model = holder(hparams=hparams)
    assert lightning_hasattr(model, "lr")
    assert lightning_getattr(model, "lr") == 0.1
    lightning_setattr(model, "lr", 0.2)
    assert hparams == {"lr": 0.2}
    assert not hasattr(model, "lr")


def test_the_datamodule_comes_after_the_module_and_all_that_have_it_are_set() -> None:
    data = Data()
    model = holder(batch_size=1, hparams={"batch_size": 2}, _trainer=SimpleNamespace(datamodule=data))
    assert lightning_getattr(model, "batch_size") == 4
    lightning_setattr(model, "batch_size", 8)
    assert (model.batch_size, model.hparams, data.batch_size) == (8, {"batch_size": 8}, 8)


def test_the_hyperparameters_of_the_datamodule_come_last() -> None:
    data = SimpleNamespace(workers=1, hparams={"workers": 2})
    model = holder(_trainer=SimpleNamespace(datamodule=data))
    assert lightning_getattr(model, "workers") == 2
    lightning_setattr(model, "workers", 3)
    assert (data.workers, data.hparams) == (3, {"workers": 3})


@pytest.mark.parametrize("name", ["missing", "batch_size"])
def test_an_attribute_that_nobody_has_is_an_error_that_says_where_it_was_looked_for(name: str) -> None:
    model = Model()
    assert not lightning_hasattr(model, name)
    expected = f"Model has no '{name}': it is no attribute of the module, no entry of its hparams"
    with pytest.raises(AttributeError, match=expected):
        lightning_getattr(model, name)
    with pytest.raises(AttributeError, match=expected):
        lightning_setattr(model, name, 1)
    assert not hasattr(model, name)
