"""SAM as Keras runs it (`SharpnessAwareMinimization` of tf_keras), on the plain net rebuilt in TensorFlow.

The net has no batch norm: this wrapper runs the first pass in inference mode and the second in training mode, which nobody else does
(`check_batch_norm` shows it).
"""
import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tf_keras  # noqa: E402
import torch  # noqa: E402

from make_goldens import STEPS, backward  # noqa: E402

layers = tf_keras.layers


def build(model):
    """The plain or the small net with a torch model's weights; images [batch, height, width, channels]."""
    tf_keras.backend.set_floatx("float64")
    modules = dict(model.named_children())
    rebuilt = [layers.Input((8, 8, 3))]
    for name, module in modules.items():
        if isinstance(module, torch.nn.Conv2d):
            settings = {"strides": module.stride, "use_bias": module.bias is not None}
            rebuilt += [layers.ZeroPadding2D(1), layers.Conv2D(module.out_channels, 3, name=name, **settings)]
        elif isinstance(module, torch.nn.BatchNorm2d):
            rebuilt.append(layers.BatchNormalization(momentum=1 - module.momentum, epsilon=module.eps, name=name))
        elif isinstance(module, torch.nn.ReLU):
            rebuilt.append(layers.ReLU())
    net = tf_keras.Sequential([*rebuilt, layers.GlobalAveragePooling2D(), layers.Dense(5, name="linear")])
    for name, module in modules.items():
        # Weight, bias and running statistics, in the order that Keras has them, too.
        values = [x.detach().numpy() for key, x in module.state_dict().items() if key != "num_batches_tracked"]
        if values:
            net.get_layer(name).set_weights([from_torch(x) for x in values])
    return net


def from_torch(values):
    """A weight in Keras's order of dimensions."""
    return values.transpose(2, 3, 1, 0) if values.ndim == 4 else values.T


def to_torch(name, values):
    """A weight in torch's order of dimensions."""
    values = np.array(values)
    return torch.from_numpy(values.transpose(3, 2, 0, 1).copy() if values.ndim == 4 else values.T.copy())


def batch_of(net, t):
    images, labels = net.batch(t)
    return tf.constant(images.numpy().transpose(0, 2, 3, 1)), tf.constant(labels.numpy())


cross_entropy = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def check_against_torch(net):
    """The rebuilt net has torch's loss and gradients."""
    model = net.model()
    twin = build(model)
    loss, _ = backward(model, net.batch(0))
    images, labels = batch_of(net, 0)
    with tf.GradientTape() as tape:
        twin_loss = cross_entropy(labels, twin(images))
    assert abs(float(twin_loss) - loss) < 1e-12
    gradients = tape.gradient(twin_loss, twin.trainable_variables)
    for (name, parameter), gradient in zip(model.named_parameters(), gradients):
        assert (to_torch(name, gradient) - parameter.grad).abs().max() < 1e-12, name


def check_batch_norm(net):
    """One step on a net with batch norm: g is that of inference mode, gs and the running statistics those of training mode at w + eps."""
    rho, lr = 0.125, 0.125
    model = net.model()
    twin = build(model)
    wrapper = tf_keras.models.experimental.SharpnessAwareMinimization(twin, rho=rho)
    wrapper.compile(optimizer=tf_keras.optimizers.SGD(lr, jit_compile=False), loss=cross_entropy)
    wrapper.train_on_batch(*batch_of(net, 0))
    images, labels = net.batch(0)
    w = list(model.parameters())
    g = torch.autograd.grad(torch.nn.functional.cross_entropy(model.eval()(images), labels), w)
    eps = [rho * x / torch.sqrt(sum((y**2).sum() for y in g)) for x in g]
    with torch.no_grad():
        for x, move in zip(w, eps):
            x.add_(move)
    gs = torch.autograd.grad(torch.nn.functional.cross_entropy(model.train()(images), labels), w)
    weights = [x.detach() - move - lr * gradient for x, move, gradient in zip(w, eps, gs)]
    for (name, _), expected, actual in zip(model.named_parameters(), weights, twin.trainable_variables):
        assert (to_torch(name, actual) - expected).abs().max() < 1e-12, name
    # Keras's own momentum of running statistics passes through float32.
    moving = twin.get_layer("bn2").moving_mean.numpy()
    assert np.abs(moving - model.bn2.running_mean.numpy()).max() < 1e-7


def with_keras(net, base, rho, splits):
    """`train_on_batch` of the wrapper around a compiled model, three times; weight decay is Keras's decoupled one."""
    check_against_torch(net)
    model = net.model()
    twin = build(model)
    wrapper = tf_keras.models.experimental.SharpnessAwareMinimization(twin, rho=rho, num_batch_splits=splits)
    settings = {"momentum": base["momentum"], "weight_decay": base["weightDecay"]}
    # XLA would fuse sums in another order; eager execution keeps float64's last digits the same on every machine.
    wrapper.compile(optimizer=tf_keras.optimizers.SGD(base["lr"], jit_compile=False, **settings), loss=cross_entropy, run_eagerly=True)
    steps = []
    for t in range(STEPS):
        images, labels = batch_of(net, t)
        steps.append({"loss": float(cross_entropy(labels, twin(images)))})
        wrapper.train_on_batch(images, labels)
    with torch.no_grad():
        for (name, parameter), variable in zip(model.named_parameters(), twin.trainable_variables):
            parameter.copy_(to_torch(name, variable))
    return steps, model
