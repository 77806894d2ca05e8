from hookloop_callbacks_tuning import Tuner as Tuner
