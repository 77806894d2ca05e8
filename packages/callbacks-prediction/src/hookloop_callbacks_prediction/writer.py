"""`PredictionWriter`: writes predictions to a folder, part by part, and goes on there if it was interrupted."""

from collections.abc import Sequence
from os import PathLike
from typing import Any, Literal

from hookloop import LightningModule
from hookloop.batches import map_batch
from hookloop.errors import MisconfigurationError
from hookloop.view import TrainerView
from hookloop_callbacks_prediction.base import BasePredictionWriter
from hookloop_callbacks_prediction.digest import digest_of
from hookloop_callbacks_prediction.folder import Folder, Part, Plan, checked_folder, prefix
from hookloop_callbacks_prediction.formats import FORMATS, checked_format
from hookloop_callbacks_prediction.rows import Batch


class PredictionWriter(BasePredictionWriter):
    """Writes what predict_step returns to files, of so many batches each, in a folder.

    Memory holds one part. A file of a part's name is whole and on disk, so a prediction that was killed goes on behind
    the last one: run the same program again. With `trainer.predict(..., return_predictions=False)` what is done is not
    computed again; otherwise it is, to be returned, and not written twice. Whether the interrupted prediction and this
    one are the same is checked: format, numbers of batches and processes, weights, and the samples of each batch that
    is left out. A changed dataset of the same size cannot be noticed.

    `read_predictions(folder)` reads them, in the order of the dataset.

    Args:
        folder: on this machine; one for each prediction. Other files in it are left alone.
        format: "pt" (what predict_step returns, as it is), "csv", "npz" (needs NumPy) or "parquet" (needs pyarrow); the
            last three have a row for each sample and a column for each tensor, and "csv" one for each of its numbers.
        batches_per_part: batches in a file, and the most that are lost when the process is killed.
        rerun: what to do about a complete prediction in the folder, and about an interrupted one that this one cannot
            go on with: "refuse" is an error; "replace" removes it first.
        check_weights: digest the module's weights when a prediction begins (about a second for a gigabyte).

    Raises:
        MisconfigurationError: an argument is none of these; when a prediction begins, the folder has one already, or
            the samples come in another order than in the part that was written.
        HookloopError: a file could not be written or read.
    """

    def __init__(
        self,
        folder: str | PathLike[str],
        format: Literal["pt", "csv", "npz", "parquet"] = "pt",
        *,
        batches_per_part: int = 100,
        rerun: Literal["refuse", "replace"] = "refuse",
        check_weights: bool = True,
    ) -> None:
        super().__init__("batch")
        self.folder = checked_folder(folder)
        self.format = checked_format(format)
        if isinstance(batches_per_part, bool) or not isinstance(batches_per_part, int) or batches_per_part < 1:
            raise MisconfigurationError(
                f"PredictionWriter(batches_per_part={batches_per_part!r}) must be a whole number of at least 1."
            )
        if rerun not in ("refuse", "replace"):
            raise MisconfigurationError(f'PredictionWriter(rerun={rerun!r}) must be "refuse" or "replace".')
        if not isinstance(check_weights, bool):
            raise MisconfigurationError(f"PredictionWriter(check_weights={check_weights!r}) must be True or False.")
        self.batches_per_part = batches_per_part
        self.rerun = rerun
        self.check_weights = check_weights
        self._files = Folder(self.folder)
        self._plan: Plan | None = None
        self._kept: dict[int, list[Part]] = {}
        self._done: list[int] = []
        self._waiting: list[Batch] = []
        self._loader = self._rank = 0
        self._read: tuple[Part, dict[int, list[int] | None]] | None = None

    @property
    def state_key(self) -> str:
        """Two writers of a run differ in their folders."""
        return f"PredictionWriter[{self.folder}]"

    def on_predict_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Look what is in the folder, and decide where to begin."""
        self._waiting, self._read, self._plan = [], None, None
        if trainer.fast_dev_run:
            return  # leaves no files
        batches = [None if count == float("inf") else int(count) for count in trainer.num_predict_batches]
        weights = digest_of(pl_module) if self.check_weights else ""
        plan = Plan(self.format, batches, trainer.world_size, weights)
        goes_on = self._goes_on(plan)
        trainer.strategy.barrier("PredictionWriter: every process has looked, and nothing has changed yet")
        if trainer.is_global_zero:
            self._files.remove_unfinished()
            if not goes_on:
                self._files.clear()
                self._files.write_plan(plan, complete=False)
        trainer.strategy.barrier("PredictionWriter: the folder is ready")
        self._plan = plan
        self._take_over(trainer.global_rank, len(batches))
        trainer.follow_samples(self._done, self._check_left_out)

    def _goes_on(self, plan: Plan) -> bool:
        """Whether what is in the folder is the beginning of this prediction.

        Raises:
            MisconfigurationError: it is not, and is not to be replaced.
        """
        found = self._files.plan()
        if found is None:
            if self.rerun == "refuse" and (parts := self._files.parts()):
                raise MisconfigurationError(
                    f"{self.folder} has {len(parts)} parts, such as {parts[0].name}, and no predictions.json that says "
                    'of what. Choose another folder, or replace them: PredictionWriter(rerun="replace").'
                )
            return False
        there, complete = found
        differences = there.differences(plan)
        if not complete and not differences:
            return True
        if self.rerun == "replace":
            return False
        if complete:
            raise MisconfigurationError(
                f"{self.folder} holds a complete prediction. Read it with read_predictions, choose another folder, or "
                'replace it: PredictionWriter(rerun="replace").'
            )
        raise MisconfigurationError(
            f"{self.folder} holds an interrupted prediction that this one cannot go on with ({'; '.join(differences)})."
            ' Predict as before, choose another folder, or replace it: PredictionWriter(rerun="replace").'
        )

    def _take_over(self, rank: int, loaders: int) -> None:
        """What this process has written before."""
        self._rank = rank
        own = [part for part in self._files.parts() if part.rank == rank]
        self._done = []
        for loader in range(loaders):
            parts = [part for part in own if part.loader == loader]
            kept, done = prefix(parts)
            self._files.remove([part for part in parts if part not in kept])
            self._kept[loader] = kept
            self._done.append(done)

    def write_on_batch_end(
        self,
        trainer: TrainerView,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Keep a prediction for the next part, and write that if it is full."""
        if self._plan is None:
            return
        samples = None if batch_indices is None else list(batch_indices)
        if batch_idx < self._done[dataloader_idx]:
            self._check_left_out(dataloader_idx, batch_idx, samples)
            return
        if dataloader_idx != self._loader:
            self._write_part()
            self._loader = dataloader_idx
        # A copy: torch.save writes all of what a view is a view of, and somebody may change it after this hook.
        copied = map_batch(lambda tensor: tensor.detach().to("cpu", copy=True), prediction)
        self._waiting.append(Batch(batch_idx, samples, copied))
        if len(self._waiting) >= self.batches_per_part:
            self._write_part()

    def on_predict_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Write the rest. When all processes have, the prediction is complete."""
        if self._plan is None:
            return
        self._write_part()
        trainer.strategy.barrier("PredictionWriter: every part is written")
        if trainer.is_global_zero:
            self._files.write_plan(self._plan, complete=True)
        self._plan = None

    def teardown(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """Of a prediction that was interrupted, what was computed is written."""
        super().teardown(trainer, pl_module, stage)
        try:
            self._write_part()
        finally:
            self._plan = self._read = None

    def _write_part(self) -> None:
        batches, self._waiting = self._waiting, []  # what could not be written is not tried again
        if not batches:
            return
        part = Part(self._loader, self._rank, batches[0].index, batches[-1].index + 1, self.format)
        self._files.write(part.name, lambda file: FORMATS[self.format].write(batches, file))

    def _check_left_out(self, loader: int, batch: int, samples: list[int] | None) -> None:
        """Is a batch that is done, and is not written again, of the samples that it was of?"""
        if batch >= self._done[loader]:
            return
        if self._read is None or not (self._read[0].loader == loader and batch in self._read[1]):
            part = next(one for one in self._kept[loader] if one.begin <= batch < one.end)
            self._read = part, FORMATS[self.format].samples(self._files.path_of(part))
        part, written = self._read
        if written.get(batch) != samples:
            raise MisconfigurationError(
                f"{self._files.path_of(part)} holds the samples {_short(written.get(batch))} as batch {batch}, and now "
                f"that batch is of {_short(samples)}: an interrupted prediction can be gone on with if its loader "
                "gives the same batches again. Leave out shuffle=True, or delete the folder and begin anew."
            )


def _short(samples: Sequence[int] | None) -> str:
    if samples is None:
        return "nobody knows which"
    return f"[{', '.join(map(str, samples[:4]))}{', ...' if len(samples) > 4 else ''}]"
