"""`CallbackList`: a sequence of callbacks that is in the order of their groups after every change, or not changed."""

import operator
from collections.abc import Callable, MutableSequence, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hookloop import Callback, LambdaCallback, LightningModule, Order, Trainer
from hookloop.callback_list import CallbackList, as_callbacks, merge_module_callbacks
from hookloop.errors import HookError, MisconfigurationError
from hookloop.view import TrainerView

from .recording import QuietModule, Trace, make_trainer


class Named(Callback):
    """Told apart by its name in what a failing test prints."""

    def __init__(self, name: str = "") -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"{type(self).__name__[0]}{self.name}"


class First(Named):
    order = Order.FIRST


class Normal(Named):
    pass


class Watching(Named):
    order = Order.MONITOR


class Last(Named):
    order = Order.LAST


KINDS: tuple[type[Named], ...] = (First, Normal, Watching, Last)
"""In the order in which they run."""


def in_groups(callbacks: Sequence[Callback]) -> list[Callback]:
    """By group, and in a group as they stood."""
    return [callback for kind in KINDS for callback in callbacks if isinstance(callback, kind)]


def names(callbacks: Sequence[Callback]) -> str:
    return " ".join(map(repr, callbacks))


@pytest.fixture
def four() -> CallbackList:
    return CallbackList([Last("1"), Normal("2"), First("3"), Normal("4")])


# ------------------------------------------------------------------------------------------------ reading


def test_callbacks_are_in_their_groups_and_inside_a_group_as_they_came_in(four: CallbackList) -> None:
    assert names(four) == "F3 N2 N4 L1"
    everybody = [kind(str(place)) for place in (1, 2) for kind in reversed(KINDS)]
    assert names(CallbackList(everybody)) == "F1 F2 N1 N2 W1 W2 L1 L2"


def test_it_reads_like_a_list(four: CallbackList) -> None:
    items = list(four)
    assert isinstance(four, MutableSequence)
    assert len(four) == 4
    assert four[0] is items[0]
    assert four[-1] is items[-1]
    assert four[1:3] == items[1:3]
    assert isinstance(four[1:3], list)
    assert list(reversed(four)) == items[::-1]
    assert items[2] in four
    assert Normal("2") not in four
    assert four.index(items[2]) == 2
    assert four.count(items[2]) == 1
    assert repr(four) == repr(items)
    with pytest.raises(IndexError):
        four[4]


def test_an_empty_one_is_false_and_a_full_one_true(four: CallbackList) -> None:
    assert not CallbackList()
    assert bool(four)


def test_it_equals_whatever_sequence_holds_the_same_callbacks(four: CallbackList) -> None:
    items = list(four)
    assert four == items
    assert four == tuple(items)
    assert four == CallbackList(items)
    assert four != items[:-1]
    assert four != [First("3"), Normal("2"), Normal("4"), Last("1")]
    assert four != set(items)
    with pytest.raises(TypeError, match="unhashable"):
        hash(four)


def test_what_it_is_made_of_is_copied() -> None:
    callbacks: list[Callback] = [Normal("1")]
    found = CallbackList(callbacks)
    callbacks.append(Normal("2"))
    found.append(Normal("3"))
    assert names(found) == "N1 N3"
    assert names(callbacks) == "N1 N2"


def test_a_generator_will_do() -> None:
    assert names(CallbackList(Normal(str(number)) for number in range(3))) == "N0 N1 N2"


# ------------------------------------------------------------------------------------------------ every change


def pool() -> list[Callback]:
    return [kind(str(number)) for number in range(3) for kind in KINDS]


INDEX = st.integers(-14, 14)
BOUND = st.none() | INDEX
STEP = st.sampled_from([None, 1, 2, -1])
PICKED = st.lists(st.integers(0, 11), max_size=4)

CHANGES = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 11)),
    st.tuples(st.just("insert"), INDEX, st.integers(0, 11)),
    st.tuples(st.just("extend"), PICKED),
    st.tuples(st.just("+="), PICKED),
    st.tuples(st.just("set"), INDEX, st.integers(0, 11)),
    st.tuples(st.just("set slice"), BOUND, BOUND, STEP, PICKED),
    st.tuples(st.just("del"), INDEX),
    st.tuples(st.just("del slice"), BOUND, BOUND, STEP),
    st.tuples(st.just("pop"), INDEX),
    st.tuples(st.just("remove"), st.integers(0, 11)),
    st.tuples(st.just("reverse")),
    st.tuples(st.just("clear")),
    st.tuples(st.just("replace"), PICKED),
)


def change(items: Any, change: tuple[Any, ...], callbacks: list[Callback]) -> None:
    """Make one change to a list or a CallbackList."""
    name, *arguments = change
    if name in ("append", "remove"):
        getattr(items, name)(callbacks[arguments[0]])
    elif name == "insert":
        items.insert(arguments[0], callbacks[arguments[1]])
    elif name == "extend":
        items.extend(callbacks[index] for index in arguments[0])
    elif name == "+=":
        items += [callbacks[index] for index in arguments[0]]
    elif name == "set":
        items[arguments[0]] = callbacks[arguments[1]]
    elif name == "set slice":
        items[slice(*arguments[:3])] = [callbacks[index] for index in arguments[3]]
    elif name == "del":
        del items[arguments[0]]
    elif name == "del slice":
        del items[slice(*arguments)]
    elif name == "replace" and isinstance(items, list):
        items[:] = [callbacks[index] for index in arguments[0]]
    elif name == "replace":
        items.replace([callbacks[index] for index in arguments[0]])
    else:
        getattr(items, name)(*arguments)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(CHANGES, min_size=1, max_size=12))
def test_every_change_is_that_of_a_list_put_in_groups_or_is_refused_as_a_whole(changes: list[tuple[Any, ...]]) -> None:
    callbacks = pool()
    expected: list[Callback] = []
    found = CallbackList()
    heard: list[list[Callback]] = []
    found.listen(lambda changed: heard.append(list(changed)))
    for each in changes:
        wanted = list(expected)
        try:
            change(wanted, each, callbacks)
            wanted = in_groups(wanted)
        except (IndexError, ValueError) as error:
            with pytest.raises(type(error)):
                change(found, each, callbacks)
        else:
            if len(set(map(id, wanted))) < len(wanted):
                with pytest.raises(MisconfigurationError, match="twice"):
                    change(found, each, callbacks)
            else:
                heard.clear()
                change(found, each, callbacks)
                # Once a change: a run compiles its hooks anew each time. What changes nothing need not be heard.
                assert heard == [wanted] or (heard == [] and wanted == expected)
                expected = wanted
        assert list(found) == expected
        assert len(found) == len(expected)


def test_a_callback_comes_in_at_its_place_inside_its_group(four: CallbackList) -> None:
    four.insert(0, Last("5"))
    four.insert(0, Normal("6"))
    four.append(First("7"))
    assert names(four) == "F3 F7 N6 N2 N4 L5 L1"


def test_turning_the_list_round_turns_each_group_round() -> None:
    callbacks = CallbackList([First("1"), First("2"), Normal("1"), Normal("2"), Normal("3")])
    callbacks.reverse()
    assert names(callbacks) == "F2 F1 N3 N2 N1"


# ------------------------------------------------------------------------------------------------ what is refused


class Stateful(Named):
    state_key = "mine"

    def state_dict(self) -> dict[str, Any]:
        return {"n": 1}


NO_CALLBACKS: list[tuple[Any, str]] = [
    (Normal, r"holds the class Normal where an instance is needed: write Normal\(\.\.\.\)"),
    (Callback, r"holds the class Callback where an instance is needed: write Callback\(\.\.\.\)"),
    (None, r"holds None \(NoneType\), which is no Callback"),
    ("early_stopping", r"holds 'early_stopping' \(str\), which is no Callback"),
    (print, r"holds <built-in function print> .*LambdaCallback\(on_train_end=\.\.\.\)"),
    (object, r"holds <class 'object'> \(type\), which is no Callback"),
    ([Normal("9")], r"holds \[N9\] \(list\), which is no Callback"),
]

Way = Callable[[CallbackList, Any], Any]

ADDING: dict[str, Way] = {
    "append": lambda callbacks, value: callbacks.append(value),
    "insert": lambda callbacks, value: callbacks.insert(1, value),
    "extend": lambda callbacks, value: callbacks.extend([Normal("8"), value]),
    "+=": lambda callbacks, value: callbacks.__iadd__([value, Normal("8")]),
}

WAYS: dict[str, Way] = ADDING | {
    "set": lambda callbacks, value: callbacks.__setitem__(1, value),
    "set slice": lambda callbacks, value: callbacks.__setitem__(slice(0, 2), [Normal("8"), value]),
    "replace": lambda callbacks, value: callbacks.replace([value]),
    "make": lambda callbacks, value: CallbackList([Normal("8"), value]),
}


def refuses_all_of_it(callbacks: CallbackList, way: Way, value: Any, message: str) -> None:
    def never(changed: CallbackList) -> None:
        raise AssertionError

    before = list(callbacks)
    callbacks.listen(never)
    with pytest.raises(MisconfigurationError, match=message):
        way(callbacks, value)
    assert list(callbacks) == before


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("value", "message"), NO_CALLBACKS)
def test_what_is_no_callback_is_refused_with_what_to_write(
    value: Any, message: str, way: str, four: CallbackList
) -> None:
    refuses_all_of_it(four, WAYS[way], value, message)


@pytest.mark.parametrize("way", ADDING)
def test_the_same_object_twice_is_refused(way: str, four: CallbackList) -> None:
    refuses_all_of_it(four, WAYS[way], four[3], r"The same Last object is in the callbacks twice.*Pass it once, or two")


def test_the_same_object_may_be_put_where_it_is(four: CallbackList) -> None:
    before = list(four)
    four[1] = four[1]
    assert list(four) == before


def test_equal_objects_are_not_the_same_object() -> None:
    class Equal(Normal):
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Equal)

        __hash__ = None  # type: ignore[assignment]

    assert len(CallbackList([Equal(), Equal()])) == 2


@pytest.mark.parametrize("way", ADDING)
def test_a_second_state_under_the_same_key_is_refused(way: str) -> None:
    callbacks = CallbackList([Normal("1"), Stateful("2")])
    refuses_all_of_it(callbacks, WAYS[way], Stateful("3"), r'Stateful .* and Stateful .*both have the state_key "mine"')


def test_a_state_may_take_the_place_of_another_of_the_same_key() -> None:
    callbacks = CallbackList([Normal("1"), Stateful("2")])
    callbacks[1] = Stateful("3")
    assert names(callbacks) == "N1 S3"


def test_a_listener_that_refuses_has_the_last_word(four: CallbackList) -> None:
    before = list(four)

    def refuse(changed: CallbackList) -> None:
        assert len(changed) == 5
        raise KeyboardInterrupt

    four.listen(refuse)
    with pytest.raises(KeyboardInterrupt):
        four.append(Normal("5"))
    assert list(four) == before


def test_who_stopped_listening_hears_nothing(four: CallbackList) -> None:
    heard: list[CallbackList] = []
    four.listen(heard.append)
    del four[0]
    four.stop_listening()
    del four[0]
    assert len(heard) == 1


# ------------------------------------------------------------------------------------------------ the trainer's


def test_the_trainer_s_callbacks_can_be_set() -> None:
    trainer = Trainer(callbacks=[Normal("1")], registered_callbacks=False)
    given: list[Callback] = [Last("2"), First("3")]
    trainer.callbacks = given
    assert names(trainer.callbacks) == "F3 L2"
    assert isinstance(trainer.callbacks, CallbackList)
    assert names(given) == "L2 F3"


def test_the_trainer_s_callbacks_can_be_extended_in_place() -> None:
    trainer: Any = Trainer(callbacks=[Normal("1")], registered_callbacks=False)
    trainer.callbacks += [First("2")]
    assert names(trainer.callbacks) == "F2 N1"


@pytest.mark.parametrize(("value", "message"), NO_CALLBACKS)
def test_the_trainer_takes_callbacks_alone(value: Any, message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        Trainer(callbacks=[Normal("1"), value], registered_callbacks=False)
    trainer = Trainer(callbacks=[Normal("1")], registered_callbacks=False)
    with pytest.raises(MisconfigurationError, match=message):
        trainer.callbacks = [Normal("2"), value]
    assert names(trainer.callbacks) == "N1"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Normal, r"holds the class Normal where an instance"),
        (3, r"holds 3 \(int\), which is no Callback"),
        (len, r"holds <built-in function len>"),
        ("tqdm", r"holds 't' \(str\)"),
    ],
)
def test_what_stands_alone_must_be_a_callback_too(value: Any, message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        Trainer(callbacks=value, registered_callbacks=False)


@pytest.mark.parametrize(("given", "found"), [(None, ""), (Normal("1"), "N1"), ((Normal("1"), Last("2")), "N1 L2")])
def test_none_one_or_several_may_be_passed(given: Any, found: str) -> None:
    assert names(as_callbacks(given)) == found
    trainer = Trainer(callbacks=given, registered_callbacks=False)
    assert names(trainer.callbacks) == found
    # What may be passed may be set.
    trainer.callbacks = given
    assert names(trainer.callbacks) == found


def test_a_change_inside_a_run_that_is_refused_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    class Misspelt(Callback):
        def on_train_batch_ends(self, *args: Any) -> None: ...

    ended: list[str] = []

    class Joins(Callback):
        def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            with pytest.raises(HookError, match="on_train_batch_ends"):
                trainer.callbacks.append(Misspelt())
            with pytest.raises(MisconfigurationError, match="twice"):
                trainer.callbacks.append(self)
            with pytest.raises(MisconfigurationError, match="no Callback"):
                trainer.callbacks[:] = [3]

        def on_train_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            ended.append("joins")

    other = LambdaCallback(on_train_end=lambda *args: ended.append("other"))
    callbacks: list[Callback] = [Joins(), other]
    trainer = make_trainer(tmp_path, callbacks, max_epochs=1, num_sanity_val_steps=0)
    trainer.fit(QuietModule(train_batches=1))
    assert ended == ["joins", "other"]
    assert list(trainer.callbacks) == callbacks


def test_a_change_after_a_run_is_for_the_next_one(tmp_path: Path) -> None:
    trace = Trace()
    trainer = make_trainer(tmp_path, [], max_epochs=1, num_sanity_val_steps=0)
    trainer.fit(QuietModule(train_batches=1))
    trainer.callbacks.append(LambdaCallback(setup=lambda *args: trace.add("late", "setup")))
    assert trace.names == []
    trainer.validate(QuietModule(), verbose=False)
    assert trace.names == ["late.setup"]


# ------------------------------------------------------------------------------------------- with those of a module


class Derived(Normal):
    pass


@pytest.mark.parametrize(
    ("of_trainer", "of_module", "merged"),
    [
        ([], [], ""),
        ([Normal("1"), Last("2")], [], "N1 L2"),
        ([Normal("1"), Last("2")], [First("3")], "N1 L2 F3"),
        ([Normal("1"), Last("2")], [Normal("3")], "L2 N3"),
        ([Normal("1"), Normal("2")], [Normal("3")], "N3"),
        ([Normal("1")], [Derived("2")], "D2"),
        ([Derived("1")], [Normal("2")], "D1 N2"),
        ([Normal("1")], [Normal("2"), Normal("3")], "N2 N3"),
    ],
)
def test_a_module_s_callback_takes_the_place_of_those_of_its_class_or_a_base(
    of_trainer: list[Callback], of_module: list[Callback], merged: str
) -> None:
    assert names(merge_module_callbacks(of_trainer, of_module)) == merged


def test_after_a_run_of_a_module_with_callbacks_the_trainer_has_its_own_in_their_order(tmp_path: Path) -> None:
    class Brings(QuietModule):
        def configure_callbacks(self) -> Any:
            return [First("0"), Derived("0")]

    own: list[Callback] = [Normal("1"), LambdaCallback(), Last("2"), LambdaCallback()]
    trainer = make_trainer(tmp_path, own, max_epochs=1, num_sanity_val_steps=0)
    trainer.fit(Brings(train_batches=1))
    assert [type(callback) for callback in trainer.callbacks] == [First, LambdaCallback, LambdaCallback, Derived, Last]
    trainer.validate(QuietModule(), verbose=False)
    assert list(trainer.callbacks) == [own[0], own[1], own[3], own[2]]


def test_adding_to_the_list_gives_a_list_and_leaves_it_as_it_was() -> None:
    callbacks = CallbackList([Normal("1")])
    two, three = Normal("2"), Normal("3")

    assert operator.add(callbacks, [two]) == [*callbacks, two]
    assert operator.add([two, three], callbacks) == [two, three, *callbacks]
    assert len(callbacks) == 1
