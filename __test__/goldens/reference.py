"""The sharpness-aware wrappers that golden values are made with, one tensor after another and nothing fused.

Three ways, each from the description of one source: the papers' equations, the code published with ASAM, and the widely used davda54 package.
`ascent` moves the parameters to w + eps and gives the norm that it divided by; `restore` moves them back to w.
"""
import torch


def no_scale(name, parameter):
    """SAM: T_w is the identity."""
    return torch.ones_like(parameter)


def element_scale(eta):
    """ASAM, element-wise: |w| + eta on weights (batch norm's gain included), 1 on biases."""

    def scale(name, parameter):
        return torch.ones_like(parameter) if name.endswith("bias") else parameter.abs() + eta

    return scale


def filter_scale(eta):
    """ASAM, filter-wise: norm2(filter) + eta on each convolution filter, element-wise elsewhere."""

    def scale(name, parameter):
        if parameter.dim() != 4:
            return element_scale(eta)(name, parameter)
        norms = torch.stack([torch.sqrt((one * one).sum()) for one in parameter])
        return (norms + eta).view(-1, 1, 1, 1).expand_as(parameter)

    return scale


def invariant_scale(name, parameter):
    """|w| on every parameter: exactly invariant under rescaling."""
    return parameter.abs()


def invariant_filter_scale(name, parameter):
    """The filter's norm on convolutions, |w| on every other parameter."""
    return filter_scale(0.0)(name, parameter) if parameter.dim() == 4 else parameter.abs()


class FromEquations:
    """eps = rho * T_w^2 g / (norm2(T_w g) + guard), the norm over all parameters jointly; w comes back from a copy."""

    both_passes_update_statistics = False

    def __init__(self, parameters, rho, scale, guard=1e-16):
        self.parameters, self.rho, self.scale, self.guard = parameters, rho, scale, guard
        self.saved = {}

    @torch.no_grad()
    def ascent(self):
        scales = {name: self.scale(name, parameter) for name, parameter in self.parameters.items()}
        squares = [((scales[name] * parameter.grad) ** 2).sum() for name, parameter in self.parameters.items()]
        norm = torch.sqrt(torch.stack(squares).sum())
        for name, parameter in self.parameters.items():
            self.saved[name] = parameter.clone()
            parameter.add_(self.rho * scales[name] ** 2 * parameter.grad / (norm + self.guard))
        return norm.item()

    @torch.no_grad()
    def restore(self):
        for name, parameter in self.parameters.items():
            parameter.copy_(self.saved[name])


class Samsung:
    """As the ASAM paper's code: scaled by "weight" in the name, eps subtracted again, batch norm updated in both passes."""

    both_passes_update_statistics = True

    def __init__(self, parameters, rho, eta, adaptive=True):
        self.parameters, self.rho, self.eta, self.adaptive = parameters, rho, eta, adaptive
        self.eps = {}

    @torch.no_grad()
    def ascent(self):
        scales, norms = {}, []
        for name, parameter in self.parameters.items():
            gradient = parameter.grad.clone()
            if self.adaptive and "weight" in name:
                scales[name] = parameter.abs() + self.eta
                gradient.mul_(scales[name])
            self.eps[name] = gradient
            norms.append(torch.linalg.vector_norm(gradient))
        norm = torch.linalg.vector_norm(torch.stack(norms))
        for name, parameter in self.parameters.items():
            if name in scales:
                self.eps[name].mul_(scales[name])
            self.eps[name].mul_(self.rho / (norm + 1e-16))
            parameter.add_(self.eps[name])
        return norm.item()

    @torch.no_grad()
    def restore(self):
        for name, parameter in self.parameters.items():
            parameter.sub_(self.eps[name])


class Davda54:
    """As the davda54 package: |w| for every parameter when adaptive, guard 1e-12, w comes back from a copy, second pass bypasses batch norm."""

    both_passes_update_statistics = False

    def __init__(self, parameters, rho, adaptive):
        self.parameters, self.rho, self.adaptive = parameters, rho, adaptive
        self.saved = {}

    @torch.no_grad()
    def ascent(self):
        norms = []
        for parameter in self.parameters.values():
            scaled = parameter.abs() * parameter.grad if self.adaptive else parameter.grad
            norms.append(torch.linalg.vector_norm(scaled))
        norm = torch.linalg.vector_norm(torch.stack(norms))
        for name, parameter in self.parameters.items():
            self.saved[name] = parameter.clone()
            direction = parameter**2 * parameter.grad if self.adaptive else parameter.grad
            parameter.add_(direction * (self.rho / (norm + 1e-12)))
        return norm.item()

    @torch.no_grad()
    def restore(self):
        for name, parameter in self.parameters.items():
            parameter.copy_(self.saved[name])


WRAPPERS = {
    ("SAM", "paper", "none"): lambda parameters, rho: FromEquations(parameters, rho, no_scale),
    ("SAM", "samsung", "none"): lambda parameters, rho: Samsung(parameters, rho, eta=0.0, adaptive=False),
    ("SAM", "davda54", "none"): lambda parameters, rho: Davda54(parameters, rho, adaptive=False),
    ("ASAM", "paper", "element"): lambda parameters, rho: FromEquations(parameters, rho, element_scale(0.01)),
    ("ASAM", "paper", "filter"): lambda parameters, rho: FromEquations(parameters, rho, filter_scale(0.01)),
    ("ASAM", "invariant", "element"): lambda parameters, rho: FromEquations(parameters, rho, invariant_scale, guard=0.0),
    ("ASAM", "invariant", "filter"): lambda parameters, rho: FromEquations(parameters, rho, invariant_filter_scale, guard=0.0),
    ("ASAM", "samsung", "element"): lambda parameters, rho: Samsung(parameters, rho, eta=0.01),
    ("ASAM", "samsung-example", "element"): lambda parameters, rho: Samsung(parameters, rho, eta=0.0),
    ("ASAM", "davda54", "element"): lambda parameters, rho: Davda54(parameters, rho, adaptive=True),
}


def wrapper(method, preset, scale, parameters, rho):
    """The reference for `new SAM(...)` or `new ASAM(...)` with these options."""
    return WRAPPERS[method, preset, scale](parameters, rho)
