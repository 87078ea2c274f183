"""The number formats that training may use."""

from typing import Literal

Precision = Literal["32-true", "bf16-mixed"]  # bf16 needs no loss scaling, so one `backward` serves both
