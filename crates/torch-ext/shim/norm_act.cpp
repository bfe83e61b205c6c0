// Training-time batch norm + ReLU, with or without an addition between them, as one differentiable function. Autograd's
// side is here; the passes over memory are the kernels handed in. There is no second derivative: asking for one throws.
#include "shim.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <optional>
#include <vector>

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

uint8_t number_of(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return 0;
    case at::kDouble:
      return 1;
    case at::kBFloat16:
      return 2;
    default:
      TORCH_CHECK(false, "fused batch norm takes float32, float64 or bfloat16, got ", type);
  }
}

struct Shape {
  uint8_t number;
  int64_t len;
  int64_t channels;
  double count;

  explicit Shape(const Tensor& x)
      : number(number_of(x.scalar_type())),
        len(x.numel()),
        channels(x.size(1)),
        count(static_cast<double>(x.numel() / x.size(1))) {}
};

// Per-channel doubles of any float tensor.
std::vector<double> doubles(const Tensor& tensor) {
  const Tensor wide = tensor.detach().to(at::kDouble).contiguous();
  const double* data = wide.const_data_ptr<double>();
  return {data, data + wide.numel()};
}

template <typename T>
void blend(const Tensor& running, const std::vector<double>& batch, double momentum, double factor) {
  T* values = running.mutable_data_ptr<T>();
  for (size_t channel = 0; channel < batch.size(); ++channel) {
    values[channel] = static_cast<T>((1 - momentum) * values[channel] + momentum * (batch[channel] * factor));
  }
}

// running = (1 - momentum) running + momentum batch, the variance unbiased, as torch's batch norm does.
void update_running(const Tensor& running, const std::vector<double>& batch, double momentum, double factor) {
  if (running.scalar_type() == at::kDouble) {
    blend<double>(running, batch, momentum, factor);
  } else {
    blend<float>(running, batch, momentum, factor);
  }
}

struct NormAct : torch::autograd::Function<NormAct> {
  static Tensor forward(AutogradContext* ctx, const Tensor& input, const std::optional<Tensor>& residual,
                        const Tensor& gamma, const Tensor& beta, const std::optional<Tensor>& running_mean,
                        const std::optional<Tensor>& running_variance, double momentum, double eps,
                        int64_t kernels_address) {
    const auto* kernels = reinterpret_cast<const flatmin_norm_act_kernels*>(kernels_address);
    const Tensor x = input.contiguous(at::MemoryFormat::ChannelsLast);
    const Shape shape(x);
    TORCH_CHECK(!residual.has_value() || residual->scalar_type() == x.scalar_type(), "the residual has dtype ",
                residual->scalar_type(), ", expected the input's, ", x.scalar_type());
    TORCH_CHECK(shape.count > 1, "batch norm needs more than one value per channel to train, got input size ", x.sizes());
    std::vector<double> mean(shape.channels), variance(shape.channels);
    kernels->moments(shape.number, x.const_data_ptr(), shape.len, shape.channels, mean.data(), variance.data());
    if (running_mean.has_value()) {
      update_running(*running_mean, mean, momentum, 1);
      update_running(*running_variance, variance, momentum, shape.count / (shape.count - 1));
    }
    const auto weight = doubles(gamma);
    const auto bias = doubles(beta);
    // Rows: mean, 1 / deviation, scale, shift.
    const Tensor saved = at::empty({4, shape.channels}, at::kDouble);
    double* rows = saved.mutable_data_ptr<double>();
    double *inverse = rows + shape.channels, *scale = inverse + shape.channels, *shift = scale + shape.channels;
    for (int64_t channel = 0; channel < shape.channels; ++channel) {
      rows[channel] = mean[channel];
      inverse[channel] = 1 / std::sqrt(variance[channel] + eps);
      scale[channel] = weight[channel] * inverse[channel];
      shift[channel] = bias[channel] - mean[channel] * scale[channel];
    }
    const Tensor added = residual.has_value() ? residual->contiguous(at::MemoryFormat::ChannelsLast) : Tensor();
    Tensor y = at::empty_like(x, x.options(), at::MemoryFormat::ChannelsLast);
    kernels->forward(shape.number, x.const_data_ptr(), added.defined() ? added.const_data_ptr() : nullptr,
                     y.mutable_data_ptr(), shape.len, shape.channels, scale, shift);
    ctx->save_for_backward({x, gamma, saved, added.defined() ? y : Tensor()});
    ctx->saved_data["kernels"] = kernels_address;
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    flatmin::refuse_second_derivative("batch norm");
    const auto* kernels = reinterpret_cast<const flatmin_norm_act_kernels*>(ctx->saved_data["kernels"].toInt());
    const auto variables = ctx->get_saved_variables();
    const Tensor &x = variables[0], &gamma = variables[1], &saved = variables[2], &y = variables[3];
    const Tensor dy = gradients[0].contiguous(at::MemoryFormat::ChannelsLast);
    const Shape shape(x);
    const double* mean = saved.const_data_ptr<double>();
    const double *inverse = mean + shape.channels, *scale = inverse + shape.channels, *shift = scale + shape.channels;
    const void* gate = y.defined() ? y.const_data_ptr() : nullptr;

    std::vector<double> sums(2 * shape.channels), coefficients(3 * shape.channels);
    kernels->sums(shape.number, x.const_data_ptr(), dy.const_data_ptr(), gate, shape.len, shape.channels, scale, shift,
                  mean, sums.data());
    const Tensor parameter_gradients = at::empty({2, shape.channels}, at::kDouble);
    double* dgamma = parameter_gradients.mutable_data_ptr<double>();
    double* dbeta = dgamma + shape.channels;
    for (int64_t channel = 0; channel < shape.channels; ++channel) {
      const double through = sums[2 * channel], along = sums[2 * channel + 1];
      const double b = -scale[channel] * inverse[channel] * inverse[channel] * along / shape.count;
      dbeta[channel] = through;
      dgamma[channel] = along * inverse[channel];
      coefficients[3 * channel] = scale[channel];
      coefficients[3 * channel + 1] = b;
      coefficients[3 * channel + 2] = -scale[channel] * through / shape.count - b * mean[channel];
    }
    Tensor dx = at::empty_like(x, x.options(), at::MemoryFormat::ChannelsLast);
    Tensor passed = y.defined() ? at::empty_like(x, x.options(), at::MemoryFormat::ChannelsLast) : Tensor();
    kernels->gradient(shape.number, x.const_data_ptr(), dy.const_data_ptr(), gate, dx.mutable_data_ptr(),
                      passed.defined() ? passed.mutable_data_ptr() : nullptr, shape.len, shape.channels, scale, shift,
                      coefficients.data());
    return {dx,       passed,   parameter_gradients[0].to(gamma.scalar_type()), parameter_gradients[1].to(gamma.scalar_type()),
            Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

char* flatmin_norm_act(const flatmin_norm_act_kernels* kernels, const Tensor* x, const Tensor* residual,
                       const Tensor* gamma, const Tensor* beta, const Tensor* running_mean,
                       const Tensor* running_variance, double momentum, double eps, Tensor** out) {
  return flatmin::guarded([&] {
    using flatmin::or_none;
    *out = new Tensor(NormAct::apply(*x, or_none(residual), *gamma, *beta, or_none(running_mean),
                                     or_none(running_variance), momentum, eps, reinterpret_cast<int64_t>(kernels)));
  });
}
