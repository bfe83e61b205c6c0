"""SAM and ASAM in the structure of the code that the ASAM paper published: the peer that flatmin's update is timed against.

Written for this benchmark from the description of that code, not copied from it. What makes its cost is kept: a Python loop over the named parameters, one
small torch operation after another on each tensor, one saved perturbation tensor a parameter, a norm of stacked norms, weights restored by subtraction.
"""
import torch


class ASAM:
    """Adaptive SAM around `optimizer`: parameters with "weight" in their name are scaled by |w| + eta."""

    def __init__(self, optimizer, model, rho=0.5, eta=0.01):
        self.optimizer = optimizer
        self.model = model
        self.rho = rho
        self.eta = eta
        self.perturbations = {}

    def _perturbation(self, parameter):
        """The tensor kept for one parameter: first holds T_w, then eps."""
        kept = self.perturbations.get(parameter)
        if kept is None:
            kept = torch.zeros_like(parameter, requires_grad=False)
            self.perturbations[parameter] = kept
        return kept

    @torch.no_grad()
    def ascent_step(self):
        """w <- w + rho * T_w^2 g / norm2(T_w g), then clears the gradients."""
        norms = []
        for name, parameter in self.model.named_parameters():
            if parameter.grad is None:
                continue
            scale = self._perturbation(parameter)
            if "weight" in name:
                scale.copy_(parameter)
                scale.abs_().add_(self.eta)
                parameter.grad.mul_(scale)
            norms.append(torch.norm(parameter.grad, p=2))
        norm = torch.norm(torch.stack(norms), p=2) + 1e-16
        for name, parameter in self.model.named_parameters():
            if parameter.grad is None:
                continue
            eps = self._perturbation(parameter)
            if "weight" in name:
                parameter.grad.mul_(eps)
            eps.copy_(parameter.grad)
            eps.mul_(self.rho / norm)
            parameter.add_(eps)
        self.optimizer.zero_grad()

    @torch.no_grad()
    def descent_step(self):
        """w <- w - eps, then the base optimizer's step with the gradient at w + eps, then clears the gradients."""
        for _, parameter in self.model.named_parameters():
            if parameter.grad is None:
                continue
            parameter.sub_(self._perturbation(parameter))
        self.optimizer.step()
        self.optimizer.zero_grad()


class SAM(ASAM):
    """SAM in the same structure: T_w is the identity, so the scaling passes fall away."""

    def __init__(self, optimizer, model, rho=0.05):
        super().__init__(optimizer, model, rho=rho)

    @torch.no_grad()
    def ascent_step(self):
        """w <- w + rho * g / norm2(g), then clears the gradients."""
        norms = []
        for _, parameter in self.model.named_parameters():
            if parameter.grad is None:
                continue
            norms.append(torch.norm(parameter.grad, p=2))
        norm = torch.norm(torch.stack(norms), p=2) + 1e-16
        for _, parameter in self.model.named_parameters():
            if parameter.grad is None:
                continue
            eps = self._perturbation(parameter)
            eps.copy_(parameter.grad)
            eps.mul_(self.rho / norm)
            parameter.add_(eps)
        self.optimizer.zero_grad()


FORMS = {"sam": SAM, "asam": ASAM}


def minimizer(name, optimizer, model, rho=None, eta=0.01, forms=FORMS):
    """`sam` or `asam` around `optimizer`, with the published defaults (rho 0.05 and 0.5); `forms` are classes of the two."""
    if name == "sam":
        return forms["sam"](optimizer, model, rho=0.05 if rho is None else rho)
    if name == "asam":
        return forms["asam"](optimizer, model, rho=0.5 if rho is None else rho, eta=eta)
    raise ValueError(f"unknown minimizer '{name}': expected sam or asam")
