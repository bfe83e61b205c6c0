"""What flatmin's random layers draw (crates/nn/src/layers/draws.rs), so that a reference can draw the same."""
import torch

MASK_SEED = 1
"""Of the golden passes."""


def splitmix64(value):
    """Steele 2014."""
    mask = 2**64 - 1
    value = (value + 0x9E3779B97F4A7C15) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return value ^ (value >> 31)


def generator(index):
    """The stream of the layer of that index, counted among those of the model that draw."""
    return torch.Generator().manual_seed(splitmix64(splitmix64(MASK_SEED) ^ index))


def per_image(batch, fill):
    """One number for each image, drawn in float32: [batch, 1, 1, 1] in float64."""
    return fill(torch.empty(batch, 1, 1, 1)).double()


class Scaled(torch.autograd.Function):
    """x times one factor in the forward pass, its gradient times another."""

    @staticmethod
    def forward(ctx, x, forward, backward):
        ctx.save_for_backward(backward)
        return x * forward

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0], None, None


class ShakeDrop(torch.nn.Module):
    """Yamada 2018 (arXiv 1802.02375)."""

    def __init__(self, index, p):
        super().__init__()
        self.index, self.keep = index, 1 - p

    def forward(self, x):
        if not self.training:
            return x * self.keep
        stream = generator(self.index)
        b = per_image(len(x), lambda empty: empty.bernoulli_(self.keep, generator=stream))
        alpha = per_image(len(x), lambda empty: empty.uniform_(-1, 1, generator=stream))
        beta = per_image(len(x), lambda empty: empty.uniform_(0, 1, generator=stream))
        return Scaled.apply(x, b + alpha - b * alpha, b + beta - b * beta)


class ShakeShake(torch.nn.Module):
    """Gastaldi 2017 (arXiv 1705.07485)."""

    def __init__(self, index):
        super().__init__()
        self.index = index

    def forward(self, first, second):
        if not self.training:
            return 0.5 * (first + second)
        stream = generator(self.index)
        alpha, beta = (per_image(len(first), lambda empty: empty.uniform_(0, 1, generator=stream)) for _ in range(2))
        return Scaled.apply(first, alpha, beta) + Scaled.apply(second, 1 - alpha, 1 - beta)
