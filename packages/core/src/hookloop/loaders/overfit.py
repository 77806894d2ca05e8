"""The same batches in every epoch: `Trainer(overfit_batches=...)`."""

import math
import warnings
from copy import copy
from itertools import islice
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler

from hookloop.limits import Limits
from hookloop.loaders.iterate import length


def fix_order(loaders: list[Any], stage: str, limits: Limits) -> list[Any]:
    """The loaders, with every DataLoader that shuffles replaced by a copy that goes through its dataset in order.

    A batch sampler of the user's own is asked once for as many batches as are used, and these are repeated. Iterable
    datasets and loaders that are no DataLoader come as they are: nothing is known of their order.

    Args:
        loaders: of one stage.
        stage: "train" or "val", for the warning.
        limits: how many batches are used.
    """
    fixed = [_in_order(loader, stage, limits) for loader in loaders]
    if any(one is not other for one, other in zip(fixed, loaders, strict=True)):
        warnings.warn(
            f"overfit_batches={limits.overfit_batches!r} uses the same batches in every epoch, and the {stage} "
            "dataloader has a sampler that may shuffle. It is replaced by one that does not.",
            stacklevel=2,
        )
    return fixed


def _in_order(loader: Any, stage: str, limits: Limits) -> Any:
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return loader
    batch_sampler: Any = loader.batch_sampler
    if batch_sampler is not None and type(batch_sampler) is not BatchSampler:
        count = limits.batches(stage, length(loader))
        return loader if count == math.inf else _copied(loader, batch_sampler=[*islice(batch_sampler, int(count))])
    sampler = loader.sampler if batch_sampler is None else batch_sampler.sampler
    if isinstance(sampler, SequentialSampler):
        return loader
    in_order = SequentialSampler(loader.dataset)  # type: ignore[arg-type]
    if batch_sampler is None:
        return _copied(loader, sampler=in_order)
    batches = BatchSampler(in_order, batch_sampler.batch_size, batch_sampler.drop_last)
    return _copied(loader, sampler=in_order, batch_sampler=batches)


def _copied(loader: DataLoader[Any], **changed: Any) -> DataLoader[Any]:
    # A copy, and not a new one: a class of the user's may be made from other arguments. Its own attributes stay, and
    # DataLoader's refusal to change a sampler is for loaders that are in use.
    copied = copy(loader)
    copied.__dict__.update(changed, _iterator=None)
    return copied
