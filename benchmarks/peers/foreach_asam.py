"""SAM and ASAM with the fewest launches that PyTorch offers: each operation over all tensors at once, by torch._foreach_*, and nothing read back.

The mathematics is that of published_asam.py, tensor by tensor. The strongest peer on a GPU uses it, eager or captured.
"""
import torch


class ForeachASAM:
    """Adaptive SAM around `optimizer`: parameters with "weight" in their name are scaled by |w| + eta; with `eta` None nothing is."""

    def __init__(self, optimizer, model, rho, eta):
        self.optimizer = optimizer
        self.rho = rho
        self.eta = eta
        named = list(model.named_parameters())
        adaptive = [parameter for name, parameter in named if eta is not None and "weight" in name]
        self._adaptive = len(adaptive)
        # Adaptive ones first, so that they are a slice of every list below.
        kept = set(map(id, adaptive))
        self._parameters = adaptive + [parameter for _, parameter in named if id(parameter) not in kept]
        self._eps = []

    @torch.no_grad()
    def ascent_step(self):
        """w <- w + rho * T_w^2 g / norm2(T_w g), then clears the gradients. Every parameter must have one."""
        eps = [parameter.grad for parameter in self._parameters]
        if self._adaptive:
            scales = torch._foreach_abs(self._parameters[: self._adaptive])
            torch._foreach_add_(scales, self.eta)
            torch._foreach_mul_(eps[: self._adaptive], scales)
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(eps))) + 1e-16
        if self._adaptive:
            torch._foreach_mul_(eps[: self._adaptive], scales)
        torch._foreach_mul_(eps, self.rho / norm)
        torch._foreach_add_(self._parameters, eps)
        self._eps = eps
        self.optimizer.zero_grad()

    @torch.no_grad()
    def descent_step(self):
        """w <- w - eps, then the base optimizer's step with the gradient at w + eps, then clears the gradients."""
        torch._foreach_sub_(self._parameters, self._eps)
        self._eps = []
        self.optimizer.step()
        self.optimizer.zero_grad()


class ForeachSAM(ForeachASAM):
    """SAM in the same structure: nothing is scaled."""

    def __init__(self, optimizer, model, rho):
        super().__init__(optimizer, model, rho=rho, eta=None)


FORMS = {"sam": ForeachSAM, "asam": ForeachASAM}
