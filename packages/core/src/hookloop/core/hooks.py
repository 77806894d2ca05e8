"""The hooks of a module, where Lightning's users look for them: three classes there, and one here."""

from hookloop.module.hooks import ModuleHooks as CheckpointHooks
from hookloop.module.hooks import ModuleHooks as DataHooks
from hookloop.module.hooks import ModuleHooks as ModelHooks

__all__ = ["CheckpointHooks", "DataHooks", "ModelHooks"]
