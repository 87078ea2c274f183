"""The digits of scikit-learn: small, embedded, and ready without a network."""

from dataclasses import dataclass

import torch

from sparring.data.dataset import Dataset, PublishedFile, Source, holdout

TEST_SIZE = 360
TEST_SEED = 1797  # constant, so that the test split is the same for everyone


@dataclass(frozen=True, kw_only=True)
class Digits(Source):
    """1,797 handwritten digits, 8x8 grey, embedded (Alpaydin and Kaynak 1998).

    The published 17 levels are spread over 0..255; the test split of 360 is fixed, `seed` draws the validation split.
    """

    name = "digits"
    validation: int = 180
    seed: int = 0

    def load(self) -> Dataset:
        from sklearn.datasets import load_digits  # slow to import, and needed here only

        images, labels = load_digits(return_X_y=True)
        x = torch.from_numpy(images).mul(255 / 16).round().to(torch.uint8).view(-1, 1, 8, 8)
        rest, test = holdout(x, torch.from_numpy(labels).long(), TEST_SIZE, TEST_SEED)
        train, validation = holdout(rest.x, rest.y, self.validation, self.seed, rest.ids)
        return Dataset(repr(self), tuple("0123456789"), train, validation, test)

    def whereabouts(self) -> tuple[str, str]:
        return "comes with scikit-learn", ""

    def files(self) -> tuple[PublishedFile, ...]:
        return ()
