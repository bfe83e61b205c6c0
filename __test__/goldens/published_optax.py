"""SAM as optax runs it (`optax.contrib.sam`), on the small net rebuilt in JAX."""
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from make_goldens import STEPS, backward

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")
MOMENTUM, EPS = 0.1, 1e-5


def normalise(parameters, statistics, name, x):
    """Batch norm in training mode, x [batch, channels, height, width], and the running statistics after it."""
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3))
    count = x.size // x.shape[1]
    shape = (1, -1, 1, 1)
    y = (x - mean.reshape(shape)) / jnp.sqrt(variance.reshape(shape) + EPS)
    y = y * parameters[f"{name}.weight"].reshape(shape) + parameters[f"{name}.bias"].reshape(shape)
    now = {f"{name}.running_mean": mean, f"{name}.running_var": variance * count / (count - 1)}
    return y, {key: (1 - MOMENTUM) * statistics[key] + MOMENTUM * value for key, value in now.items()}


def convolve(x, weight, stride):
    return jax.lax.conv_general_dilated(x, weight, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NCHW", "OIHW", "NCHW"))


def loss_of(parameters, statistics, images, labels):
    x, first = normalise(parameters, statistics, "bn1", convolve(images, parameters["conv1.weight"], 1))
    x = convolve(jax.nn.relu(x), parameters["conv2.weight"], 2) + parameters["conv2.bias"].reshape(1, -1, 1, 1)
    x, second = normalise(parameters, statistics, "bn2", x)
    logits = jax.nn.relu(x).mean((2, 3)) @ parameters["linear.weight"].T + parameters["linear.bias"]
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    return loss, first | second


gradient_of = jax.jit(jax.value_and_grad(loss_of, has_aux=True))


def arrays(tensors):
    return {name: jnp.asarray(values.detach().numpy()) for name, values in tensors}


def check_against_torch(net):
    """The rebuilt net has torch's loss, gradients and running statistics."""
    model = net.model()
    parameters, statistics = arrays(model.named_parameters()), arrays((n, v) for n, v in model.named_buffers() if "running" in n)
    images, labels = net.batch(0)
    loss, _ = backward(model, (images, labels))
    (jax_loss, jax_statistics), gradient = gradient_of(parameters, statistics, images.numpy(), labels.numpy())
    assert abs(jax_loss - loss) < 1e-12
    for name, parameter in model.named_parameters():
        assert np.abs(gradient[name] - parameter.grad.numpy()).max() < 1e-12, name
    for name, values in jax_statistics.items():
        assert np.abs(values - model.state_dict()[name].numpy()).max() < 1e-12, name


def with_optax(net, base, rho, sync_period):
    """`sync_period` - 1 ascent steps on the same batch, then SGD's; running statistics of the gradient at w, as its documentation advises."""
    check_against_torch(net)
    model = net.model()
    parameters, statistics = arrays(model.named_parameters()), arrays((n, v) for n, v in model.named_buffers() if "running" in n)
    descent = optax.chain(optax.add_decayed_weights(base["weightDecay"]), optax.sgd(base["lr"], momentum=base["momentum"]))
    optimizer = optax.contrib.sam(descent, optax.chain(optax.contrib.normalize(), optax.sgd(rho)), sync_period=sync_period)
    state = optimizer.init(parameters)
    steps = []
    for t in range(STEPS):
        images, labels = (values.numpy() for values in net.batch(t))
        losses = []
        for pass_number in range(sync_period):
            (loss, updated), gradient = gradient_of(parameters, statistics, images, labels)
            if pass_number == 0:
                after = updated
            losses.append(float(loss))
            updates, state = optimizer.update(gradient, state, parameters)
            parameters = optax.apply_updates(parameters, updates)
        statistics = after
        steps.append({"loss": losses[0], "perturbedLoss": losses[-1]})
    # Back into the torch model, which tells the rest.
    model.load_state_dict({name: torch.from_numpy(np.array(values)) for name, values in (parameters | statistics).items()}, strict=False)
    return steps, model
