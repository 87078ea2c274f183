"""A discriminator, which tells the features of clean images from others."""

from torch import Tensor, nn


class Discriminator(nn.Module):
    """A hidden layer with ReLU and dropout on flattened features (B, ...), giving one logit each, (B,)."""

    def __init__(self, features: int, *, hidden: int = 128, dropout: float = 0.5) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B,): positive means clean."""
        logits: Tensor = self.layers(features)
        return logits.squeeze(1)
