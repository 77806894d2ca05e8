"""`class_only`: a classmethod that refuses to be called on an instance."""

from collections.abc import Callable
from functools import wraps
from types import MethodType
from typing import TYPE_CHECKING, Any

from hookloop.errors import MisconfigurationTypeError

if TYPE_CHECKING:
    class_only = classmethod  # for type checkers it is one
else:

    class class_only:  # noqa: N801 - it is used like classmethod
        """A method of the class alone.

        `module.load_from_checkpoint(path)` makes a new module, which the caller most often throws away, believing that
        `module` has been loaded. On an instance the method can be looked at, and not called.
        """

        def __init__(self, method: Callable[..., Any]) -> None:
            self.method = method
            self.__doc__ = method.__doc__

        def __get__(self, instance: object, owner: type) -> Callable[..., Any]:
            bound = MethodType(self.method, owner)
            if instance is None:
                return bound

            @wraps(self.method)
            def refuse(*args: Any, **kwargs: Any) -> Any:
                name = f"{owner.__name__}.{self.method.__name__}"
                raise MisconfigurationTypeError(
                    f"{name} was called on an instance, and it makes a new one: the instance would stay as it is. "
                    f"Call it on the class, and use what it returns: new = {name}(...)."
                )

            return refuse
