"""What flatmin's random layers draw (crates/nn/src/layers/draws.rs), so that a reference can draw the same."""
import torch

MASK_SEED = 1
"""Of the golden passes."""


def split_mix(seed, index):
    """Steele 2014."""
    mask = 2**64 - 1
    value = (seed + (index + 1) * 0x9E3779B97F4A7C15) & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return value ^ (value >> 31)


def uniforms(layer, numbers, batch):
    """So many float32 numbers for each image from U(0, 1), each [batch, 1, 1, 1]. Layers are counted among those of the model that
    draw."""
    seed = split_mix(MASK_SEED, layer)
    drawn = [(split_mix(seed, place) >> 11) / 2**53 for place in range(numbers * batch)]
    return torch.tensor(drawn, dtype=torch.float32).view(numbers, batch, 1, 1, 1)


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
        kept, alpha, beta = uniforms(self.index, 3, len(x))
        b, alpha, beta = (factor.double() for factor in (kept < self.keep, 2 * alpha - 1, beta))
        return Scaled.apply(x, b + alpha - b * alpha, b + beta - b * beta)


class ShakeShake(torch.nn.Module):
    """Gastaldi 2017 (arXiv 1705.07485)."""

    def __init__(self, index):
        super().__init__()
        self.index = index

    def forward(self, first, second):
        if not self.training:
            return 0.5 * (first + second)
        alpha, beta = uniforms(self.index, 2, len(first)).double()
        return Scaled.apply(first, alpha, beta) + Scaled.apply(second, 1 - alpha, 1 - beta)
