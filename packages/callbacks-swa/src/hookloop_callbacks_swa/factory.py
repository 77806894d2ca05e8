"""What the entry point names: the callbacks that a Trainer gets by default."""

import os

from hookloop import Callback, TrainerOptions
from hookloop.errors import MisconfigurationError
from hookloop_callbacks_swa.ema import EMAWeightAveraging
from hookloop_callbacks_swa.stochastic import StochasticWeightAveraging

SWA_LRS = "HOOKLOOP_SWA_LRS"
EMA_DECAY = "HOOKLOOP_EMA_DECAY"


def factory(options: TrainerOptions) -> list[Callback]:
    """None, unless the environment asks for one.

    Args:
        options: what the user passed to the Trainer.

    HOOKLOOP_EMA_DECAY=0.999 is `EMAWeightAveraging(decay=0.999)`. HOOKLOOP_SWA_LRS=0.05 is
    `StochasticWeightAveraging(swa_lrs=0.05)`; 0.05,0.01 are rates of two parameter groups.

    Raises:
        MisconfigurationError: a value that is not allowed, or both of them.
    """
    rates, decay = os.environ.get(SWA_LRS, "").strip(), os.environ.get(EMA_DECAY, "").strip()
    if rates and decay:
        raise MisconfigurationError(
            f"{SWA_LRS}={rates} and {EMA_DECAY}={decay} are set, and a run has one average. Unset one of them."
        )
    if decay:
        return [_checked(EMA_DECAY, decay, lambda: EMAWeightAveraging(decay=float(decay)), "a number from 0 to 1")]
    if rates:
        return [
            _checked(
                SWA_LRS,
                rates,
                lambda: StochasticWeightAveraging(_rates(rates)),
                "a learning rate above 0, or several with commas between",
            )
        ]
    return []


def _rates(text: str) -> float | list[float]:
    rates = [float(one) for one in text.split(",")]
    return rates[0] if len(rates) == 1 else rates


def _checked(name: str, value: str, make: object, allowed: str) -> Callback:
    try:
        made: Callback = make()  # type: ignore[operator]
    except ValueError as error:  # MisconfigurationError is one
        raise MisconfigurationError(f"{name}={value} is not {allowed}. Correct it, or unset it.") from error
    return made
