"""The learning rate of RealMNet's recipe."""

import math
from typing import Any

import keras
from keras import ops

__all__ = ["WarmupCosine"]


@keras.saving.register_keras_serializable("keras_realmnet")
class WarmupCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate per step: linear from `warmup_start`·peak to peak, then half a cosine down to `final`.

    At step t of T with w warm-up steps: peak·(s + (1 − s)·t/w) for t < w, else
    final + (peak − final)·(1 + cos(π·(t − w)/(T − w)))/2. With peak 1e-4, s .01, w 10, final 1e-6, T 110:
    1e-6 at step 0, 1e-4 at 10, 5.05e-5 at 60, 1e-6 from 110 on.
    """

    def __init__(self, peak: float, total_steps: int, warmup_steps: int, warmup_start: float, final: float):
        self.peak, self.total_steps, self.warmup_steps = float(peak), int(total_steps), int(warmup_steps)
        self.warmup_start, self.final = float(warmup_start), float(final)

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rising = self.peak * (self.warmup_start + (1 - self.warmup_start) * step / max(1, self.warmup_steps))
        done = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        falling = self.final + (self.peak - self.final) * 0.5 * (1 + ops.cos(math.pi * ops.clip(done, 0.0, 1.0)))
        return ops.where(step < self.warmup_steps, rising, falling)

    def get_config(self) -> dict[str, Any]:
        return dict(vars(self))
