"""Batch norm as it is in training, each prediction depending on its batch-mates: to compare with papers only."""

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class BatchStatistics(nn.Module):
    """What a batch norm layer does in training: it normalises by the batch's own mean and variance, in any mode."""

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__()
        self.eps, self.affine, self.weight, self.bias = norm.eps, norm.affine, norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, C, ...) normalised over all but C; of a single image nothing is left but the bias."""
        over = [0, *range(2, x.ndim)]
        x = (x - x.mean(over, keepdim=True)) * torch.rsqrt(x.var(over, correction=0, keepdim=True) + self.eps)
        if not self.affine:
            return x
        shape = (1, -1, *[1] * (x.ndim - 2))
        return x * self.weight.view(shape) + self.bias.view(shape)


def with_batch_statistics(model: nn.Module) -> nn.Module:
    """Return a copy of `model`, which stays as it is, whose batch norm layers use the statistics of each batch.

    Those that do not in training either, such as a mask's, do not here.
    """
    model = copy.deepcopy(model)
    if isinstance(model, _BatchNorm):
        return BatchStatistics(model)
    normalising = _in_training(model)
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm) and child in normalising:
                setattr(module, name, BatchStatistics(child))
    return model


def _in_training(model: nn.Module) -> set[_BatchNorm]:
    """Return the batch norm layers that are in training mode when the model is; every mode is as it was afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.train()
    found = {module for module in model.modules() if isinstance(module, _BatchNorm) and module.training}
    for module, training in modes:
        module.training = training
    return found


def depends_on_batch_mates(model: nn.Module) -> bool:
    """Say whether the model was made so by `with_batch_statistics`."""
    return any(isinstance(module, BatchStatistics) for module in model.modules())
