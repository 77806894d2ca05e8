"""The settings of a module or a datamodule: kept with it, saved in checkpoints, and what it is made of again.

`HyperparametersMixin` is what modules and datamodules have of it, `AttributeDict` is what `hparams` is.
"""

from hookloop.hyperparameters.attribute_dict import AttributeDict
from hookloop.hyperparameters.mixin import HyperparametersMixin

__all__ = ["AttributeDict", "HyperparametersMixin"]
