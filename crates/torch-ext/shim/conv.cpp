// A convolution without bias as a differentiable function whose weight gradient is a kernel handed in; all else is
// libtorch's. There is no second derivative: asking for one throws.
#include "shim.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Convolution : torch::autograd::Function<Convolution> {
  static Tensor forward(AutogradContext* ctx, const Tensor& input, const Tensor& weight, int64_t stride, int64_t padding,
                        int64_t kernel_address) {
    const Tensor x = input.contiguous(at::MemoryFormat::ChannelsLast);
    ctx->save_for_backward({x, weight});
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["padding"] = padding;
    ctx->saved_data["kernel"] = kernel_address;
    return at::conv2d(x, weight, {}, {stride, stride}, {padding, padding});
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    TORCH_CHECK(!at::GradMode::is_enabled(),
                "fused convolution has no second derivative; run the model with composite layers for create_graph");
    const auto variables = ctx->get_saved_variables();
    const Tensor &x = variables[0], &weight = variables[1];
    const int64_t stride = ctx->saved_data["stride"].toInt(), padding = ctx->saved_data["padding"].toInt();
    const auto kernel = reinterpret_cast<flatmin_weight_gradient>(ctx->saved_data["kernel"].toInt());
    const Tensor dy = gradients[0].contiguous(at::MemoryFormat::ChannelsLast);
    Tensor dx, dw;
    if (ctx->needs_input_grad(0)) {
      const std::array<bool, 3> only_input{true, false, false};
      const auto both = [](int64_t value) { return std::vector<int64_t>{value, value}; };
      dx = std::get<0>(at::convolution_backward(dy, x, weight, at::OptionalIntArrayRef(), both(stride), both(padding),
                                                both(1), false, both(0), 1, only_input));
    }
    if (ctx->needs_input_grad(1)) {
      dw = at::empty_like(weight, weight.options(), at::MemoryFormat::ChannelsLast);
      const int64_t sizes[] = {x.size(0),  x.size(2),  x.size(3),  dy.size(2), dy.size(3),
                               x.size(1), dy.size(1), stride,     padding};
      kernel(sizes, x.const_data_ptr(), dy.const_data_ptr(), dw.mutable_data_ptr());
    }
    return {dx, dw, Tensor(), Tensor(), Tensor()};
  }
};

}  // namespace

char* flatmin_conv2d(flatmin_weight_gradient kernel, const Tensor* x, const Tensor* weight, int64_t stride,
                     int64_t padding, Tensor** out) {
  return flatmin::guarded([&] {
    *out = new Tensor(Convolution::apply(*x, *weight, stride, padding, reinterpret_cast<int64_t>(kernel)));
  });
}
