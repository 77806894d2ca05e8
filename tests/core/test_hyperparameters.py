"""save_hyperparameters: which arguments it finds, what hparams are, and what is refused."""

import copy
import dataclasses
import inspect
import pickle
import threading
import warnings
from argparse import Namespace
from collections.abc import MutableMapping
from typing import Any

import pytest
import torch
from torch import nn

from hookloop import LightningDataModule, LightningModule
from hookloop.errors import MisconfigurationError, MisconfigurationTypeError
from hookloop.hyperparameters import AttributeDict, HyperparametersMixin


class Net(LightningModule):
    def __init__(self, width: int, depth: int = 2, *rest: Any, lr: float = 0.1, **more: Any) -> None:
        super().__init__()
        self.save_hyperparameters()


class Data(LightningDataModule):
    def __init__(self, folder: str, batch_size: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()


# all arguments, by the frame


def test_all_arguments_are_saved_with_their_defaults() -> None:
    assert Net(3).hparams == {"width": 3, "depth": 2, "lr": 0.1}
    assert Data("x").hparams == {"folder": "x", "batch_size": 4}


def test_args_are_left_out_and_kwargs_count_one_by_one() -> None:
    assert Net(3, 4, 5, 6, lr=0.5, momentum=0.9).hparams == {"width": 3, "depth": 4, "lr": 0.5, "momentum": 0.9}


def test_a_base_class_saves_the_arguments_of_its_subclasses_too() -> None:
    class Wide(Net):
        def __init__(self, factor: int, **more: Any) -> None:
            super().__init__(10 * factor, lr=0.5, **more)

    class Wider(Wide):
        def __init__(self, name: str, factor: int = 2) -> None:
            super().__init__(factor, tag="t")

    # A dict in the order of the constructors, from the base class outwards.
    wider = Wider("n")
    assert wider.hparams == {"width": 20, "depth": 2, "lr": 0.5, "tag": "t", "factor": 2, "name": "n"}
    assert list(wider.hparams) == ["width", "depth", "lr", "tag", "factor", "name"]


def test_what_a_subclass_got_goes_before_what_it_passed_on() -> None:
    class Doubled(Net):
        def __init__(self, width: int) -> None:
            super().__init__(2 * width)

    assert Doubled(3).hparams.width == 3


def test_a_constructor_that_does_not_use_super_is_found_too() -> None:
    class Old(Net):
        def __init__(self, size: int) -> None:
            Net.__init__(self, size)

    assert Old(5).hparams == {"width": 5, "depth": 2, "lr": 0.1, "size": 5}


def test_a_constructor_behind_a_decorator_is_found_too() -> None:
    def decorated(init: Any) -> Any:
        def wrapper(self: Any, *args: Any, **kwargs: Any) -> None:
            init(self, *args, **kwargs)

        return wrapper

    class Outer(Net):
        @decorated
        def __init__(self, size: int) -> None:
            super().__init__(1)

    assert Outer(7).hparams == {"width": 1, "depth": 2, "lr": 0.1, "size": 7}


def test_a_module_that_is_made_in_anothers_constructor_has_its_own_arguments_alone() -> None:
    class Parent(LightningModule):
        def __init__(self, heads: int) -> None:
            super().__init__()
            self.child = Net(3)
            self.save_hyperparameters()

    parent = Parent(8)
    assert parent.hparams == {"heads": 8}
    assert parent.child.hparams == {"width": 3, "depth": 2, "lr": 0.1}


def test_a_helper_of_the_constructor_may_save() -> None:
    class Helped(LightningModule):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.prepare()

        def prepare(self) -> None:
            self.save_hyperparameters()

    assert Helped(3).hparams == {"width": 3}


def test_a_function_of_ones_own_may_save_with_the_frame_of_the_constructor() -> None:
    def save(module: LightningModule, frame: Any) -> None:
        module.save_hyperparameters(frame=frame)

    class Framed(LightningModule):
        def __init__(self, width: int) -> None:
            super().__init__()
            save(self, inspect.currentframe())

    assert Framed(3).hparams == {"width": 3}


def test_an_argument_that_was_assigned_to_has_its_new_value() -> None:
    class Rounded(LightningModule):
        def __init__(self, width: int | None = None) -> None:
            super().__init__()
            width = width or 16
            self.save_hyperparameters()

    assert Rounded().hparams == {"width": 16}


def test_arguments_can_be_saved_before_the_base_class_is_constructed() -> None:
    class Early(LightningModule):
        def __init__(self, width: int) -> None:
            self.save_hyperparameters()
            super().__init__()
            self.layer = nn.Linear(self.hparams.width, 1)

    assert Early(3).hparams == {"width": 3}


def test_self_may_have_another_name_and_stand_in_a_closure() -> None:
    class Odd(LightningModule):
        def __init__(this, width: int) -> None:  # noqa: N805
            super().__init__()
            this.doubled: Any = lambda: 2 * this.hparams.width
            this.save_hyperparameters()

    odd = Odd(3)
    assert odd.hparams == {"width": 3}
    assert odd.doubled() == 6


def test_of_a_dataclass_the_fields_are_saved() -> None:
    @dataclasses.dataclass(eq=False)
    class Model(LightningModule):
        width: int
        sizes: list[int] = dataclasses.field(default_factory=lambda: [1, 2])
        factor: dataclasses.InitVar[int] = 3
        hidden: int = dataclasses.field(init=False, default=0)

        def __post_init__(self, factor: int) -> None:
            super().__init__()
            self.save_hyperparameters()

    assert Model(4).hparams == {"width": 4, "sizes": [1, 2], "factor": 3}


def test_without_arguments_there_are_no_settings() -> None:
    class Plain(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.save_hyperparameters()

    assert Plain().hparams == {}
    assert LightningModule().hparams == {}
    assert LightningModule().hparams_initial == {}


def test_the_mixin_works_for_any_class() -> None:
    class Thing(HyperparametersMixin):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.save_hyperparameters()

    assert Thing(2).hparams.size == 2


# names, objects, ignore


class Chosen(LightningModule):
    def __init__(self, width: int, depth: int, lr: float, *names: str, ignore: Any = None) -> None:
        super().__init__()
        self.save_hyperparameters(*names, ignore=ignore)


def test_names_choose_arguments() -> None:
    assert Chosen(1, 2, 0.1, "lr", "width").hparams == {"lr": 0.1, "width": 1}


@pytest.mark.parametrize(
    ("ignore", "kept"),
    [
        ("ignore", ["width", "depth", "lr"]),
        (["ignore", "lr"], ["width", "depth"]),
        (("ignore", "no such"), ["width", "depth", "lr"]),
    ],
)
def test_ignored_names_are_left_out(ignore: Any, kept: list[str]) -> None:
    assert list(Chosen(1, 2, 0.1, ignore=ignore).hparams) == kept


def test_a_subclass_may_ignore_what_its_base_class_saved() -> None:
    class Less(Net):
        def __init__(self, width: int) -> None:
            super().__init__(width)
            self.save_hyperparameters(ignore="lr")

    assert Less(3).hparams == {"width": 3, "depth": 2}
    assert Less(3).hparams_initial == {"width": 3, "depth": 2}


@dataclasses.dataclass
class Config:
    width: int = 3
    inner: dict[str, int] = dataclasses.field(default_factory=lambda: {"a": 1})


class Whole(LightningModule):
    def __init__(self, config: Any) -> None:
        super().__init__()
        self.save_hyperparameters(config)


@pytest.mark.parametrize(
    "config",
    [
        {"width": 3, "inner": {"a": 1}},
        Namespace(width=3, inner={"a": 1}),
        Config(),
        AttributeDict(width=3, inner={"a": 1}),
    ],
    ids=["dict", "Namespace", "dataclass", "AttributeDict"],
)
def test_the_items_of_one_object_are_saved(config: Any) -> None:
    module = Whole(config)
    assert type(module.hparams) is AttributeDict
    assert module.hparams == {"width": 3, "inner": {"a": 1}}
    assert module.hparams.width == 3


def test_a_mutable_mapping_of_another_kind_stays_what_it_is() -> None:
    class Tree(MutableMapping[str, Any]):
        def __init__(self, **items: Any) -> None:
            self.items_ = items

        def __getitem__(self, key: str) -> Any:
            return self.items_[key]

        def __setitem__(self, key: str, value: Any) -> None:
            self.items_[key] = value

        def __delitem__(self, key: str) -> None:
            del self.items_[key]

        def __iter__(self) -> Any:
            return iter(self.items_)

        def __len__(self) -> int:
            return len(self.items_)

    tree = Tree(width=3)
    module = Whole(tree)
    assert module.hparams is tree
    assert module.hparams_initial is not tree
    assert dict(module.hparams_initial) == {"width": 3}


@pytest.mark.parametrize("empty", [{}, Namespace(), None], ids=["dict", "Namespace", "None"])
def test_an_empty_object_adds_nothing(empty: Any) -> None:
    assert Whole(empty).hparams == {}


def test_a_second_call_adds_to_the_first() -> None:
    module = Net(3)
    module.save_hyperparameters({"lr": 0.5, "seed": 1})
    assert module.hparams == {"width": 3, "depth": 2, "lr": 0.5, "seed": 1}
    assert module.hparams_initial == module.hparams


# hparams and hparams_initial


def test_hparams_may_be_changed_and_hparams_initial_stay() -> None:
    module = Whole({"lr": 0.1, "betas": [0.9, 0.99]})
    module.hparams.lr = 0.5
    module.hparams.betas.append(1.0)
    assert module.hparams == {"lr": 0.5, "betas": [0.9, 0.99, 1.0]}
    assert module.hparams_initial == {"lr": 0.1, "betas": [0.9, 0.99]}
    module.hparams_initial.betas.append(2.0)
    assert module.hparams_initial == {"lr": 0.1, "betas": [0.9, 0.99]}


def test_what_cannot_be_copied_is_kept_as_it_is() -> None:
    lock = threading.Lock()
    part_of_a_graph = torch.ones(1, requires_grad=True) * 2
    module = Whole({"lock": lock, "tensor": part_of_a_graph, "lr": 0.1})
    assert module.hparams_initial.lock is lock
    assert module.hparams_initial.tensor is part_of_a_graph


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_of_a_module_has_settings_of_its_own(copied: Any) -> None:
    module = Net(3)
    other = copied(module)
    other.hparams.width = 4
    assert (module.hparams.width, other.hparams.width) == (3, 4)
    assert other.hparams_initial == {"width": 3, "depth": 2, "lr": 0.1}


def test_settings_are_no_part_of_the_weights() -> None:
    with pytest.warns(UserWarning, match="is a module"):
        module = Whole({"layer": nn.Linear(2, 2)})
    assert list(module.state_dict()) == []
    assert list(module.children()) == []


def test_an_attribute_dict_has_its_items_as_attributes() -> None:
    settings = AttributeDict(lr=0.1, width=3)
    settings.depth = 2
    del settings.width
    assert settings == {"lr": 0.1, "depth": 2}
    assert isinstance(settings, dict)
    assert repr(settings) == '"depth": 2\n"lr":    0.1'
    assert repr(AttributeDict()) == ""
    assert type(copy.deepcopy(settings)) is AttributeDict
    assert pickle.loads(pickle.dumps(settings)) == settings
    with pytest.raises(AttributeError, match=r"AttributeDict has no 'width'; it has lr, depth"):
        _ = settings.width
    with pytest.raises(AttributeError, match=r"AttributeDict has no 'width'; it has lr, depth"):
        del settings.width


# what is refused, and what is warned of


def test_a_module_among_the_settings_is_warned_of() -> None:
    class Trained(LightningModule):
        def __init__(self, criterion: nn.Module, ignore: Any = ()) -> None:
            super().__init__()
            self.save_hyperparameters(ignore=[*ignore, "ignore"])

    criterion = nn.MSELoss()
    with pytest.warns(UserWarning, match=r"(?s)hparams\['criterion'\] is a module \(MSELoss\).*ignore=\['criterion'\]"):
        module = Trained(criterion)
    assert module.hparams.criterion is criterion
    assert module.hparams_initial.criterion is criterion
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Trained(criterion, ignore=["criterion"])


def test_outside_of_a_constructor_there_are_no_arguments_to_save() -> None:
    message = r"Net\.save_hyperparameters\(\) was called while no __init__ of this object runs.*Call it in __init__"
    with pytest.raises(MisconfigurationError, match=message):
        Net(3).save_hyperparameters()


def test_a_name_that_is_no_argument_is_refused() -> None:
    message = (
        r"save_hyperparameters\('widht'\): Chosen\.__init__ has no argument of that name; "
        r"it has width, depth, lr, ignore\."
    )
    with pytest.raises(MisconfigurationError, match=message):
        Chosen(1, 2, 0.1, "lr", "widht")


def test_an_argument_that_was_deleted_is_refused() -> None:
    class Deleting(LightningModule):
        def __init__(self, width: int) -> None:
            super().__init__()
            del width
            self.save_hyperparameters()

    with pytest.raises(MisconfigurationError, match=r"Deleting\.__init__ has deleted its argument width before"):
        Deleting(3)


@pytest.mark.parametrize("given", [3, 0.5, True, [1], {1}, Config, object()])
def test_an_object_that_has_no_named_items_is_refused(given: Any) -> None:
    with pytest.raises(
        MisconfigurationTypeError, match=rf"got a {type(given).__name__}\. Give names of arguments, or one"
    ):
        LightningModule().save_hyperparameters(given)


@pytest.mark.parametrize("given", [({"a": 1}, {"b": 2}), ("a", {"b": 2})])
def test_several_objects_are_refused(given: Any) -> None:
    with pytest.raises(MisconfigurationTypeError, match=r"got 2 things that are not all names \(\w+, dict\)"):
        LightningModule().save_hyperparameters(*given)


@pytest.mark.parametrize("ignore", [3, ["a", 1], {"a": 1}])
def test_ignore_wants_names(ignore: Any) -> None:
    with pytest.raises(MisconfigurationTypeError, match=r"ignore=.* is neither a name nor a sequence of names"):
        LightningModule().save_hyperparameters({"a": 1}, ignore=ignore)


def test_a_call_that_is_refused_changes_nothing() -> None:
    module = Net(3)
    with pytest.raises(MisconfigurationTypeError):
        module.save_hyperparameters(7, logger=False)
    assert module.hparams == {"width": 3, "depth": 2, "lr": 0.1}
    assert module._log_hyperparams is True


def test_hparams_cannot_be_assigned_to() -> None:
    module = Net(3)
    with pytest.raises(
        MisconfigurationError, match=r"Net\.hparams was assigned to.*self\.save_hyperparameters\(settings\)"
    ):
        module.hparams = {"width": 4}
    assert module.hparams.width == 3


def test_settings_can_be_dropped_by_name_later() -> None:
    class Sized(LightningModule):
        def __init__(self, width: int, depth: int) -> None:
            super().__init__()
            self.save_hyperparameters()

    module = Sized(3, depth=2)
    module.remove_ignored_hparams(["depth", "never there"])
    assert dict(module.hparams) == {"width": 3}
    data = LightningDataModule()
    data.remove_ignored_hparams(["never there"])
    assert dict(data.hparams) == {}
