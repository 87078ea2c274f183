"""The ways in which Sparring says no."""


class InputError(ValueError):
    """Something handed to Sparring cannot be used; the message is one line that names it and the fix."""


class TrainingError(RuntimeError):
    """Training cannot go on (it diverged, it was interrupted); the message says what is kept and what to try."""


class StoppedError(TrainingError):
    """Someone stopped the training; it can go on where it was."""
