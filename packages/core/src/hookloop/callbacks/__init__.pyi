from typing import Any

from hookloop.callback import Callback as Callback
from hookloop.callback import LambdaCallback as LambdaCallback
from hookloop.callback import Order as Order
from hookloop_callbacks_checkpoint import ModelCheckpoint as ModelCheckpoint
from hookloop_callbacks_checkpoint import OnExceptionCheckpoint as OnExceptionCheckpoint
from hookloop_callbacks_checkpoint import RequeueOnSignal as RequeueOnSignal
from hookloop_callbacks_monitoring import EarlyStopping as EarlyStopping
from hookloop_callbacks_monitoring import LearningRateMonitor as LearningRateMonitor
from hookloop_callbacks_prediction import BasePredictionWriter as BasePredictionWriter
from hookloop_callbacks_prediction import PredictionWriter as PredictionWriter
from hookloop_callbacks_progress import ProgressBar as ProgressBar
from hookloop_callbacks_progress import TQDMProgressBar as TQDMProgressBar
from hookloop_callbacks_tuning import BatchSizeFinder as BatchSizeFinder
from hookloop_callbacks_tuning import GradientAccumulationScheduler as GradientAccumulationScheduler
from hookloop_callbacks_tuning import LearningRateFinder as LearningRateFinder

# Classes of other packages, which a type checker cannot know.
def __getattr__(name: str) -> Any: ...
