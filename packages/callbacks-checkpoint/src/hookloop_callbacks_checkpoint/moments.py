"""`Moments`: whether an exception came at a moment from which training can go on."""

from hookloop.view import TrainerView


class Moments:
    """Keeps watch over one fit.

    Between two batches, and in a batch until its optimizer begins to step, the weights are those of the counters: a
    checkpoint then means the end of the former batch, or of the former accumulation window. From there until the batch
    is counted, the weights may be those of the next step, or, after an error inside the optimizer, neither.

    Attributes:
        stepping_in: epoch and batches that were done when an optimizer last began to step. To be set at each step: a
            method for it would be a call more.
    """

    def __init__(self) -> None:
        self._training = False
        self.stepping_in: tuple[int, int] | None = None

    def begin(self) -> None:
        """Training begins: everything is restored."""
        self._training, self.stepping_in = True, None

    def end(self) -> None:
        """Training is over, or has not begun."""
        self._training = False

    def why_not_now(self, trainer: TrainerView) -> str | None:
        """Why a file that is written now would not be a place to go on from; None if it would."""
        if not self._training:
            return "training had not begun"
        if self.stepping_in == (trainer.current_epoch, trainer.batch_idx):
            return "the optimizer was stepping, and its weights may be those of half a step"
        return None
