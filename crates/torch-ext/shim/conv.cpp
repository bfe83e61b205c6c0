// A convolution without bias as a differentiable function some of whose passes are kernels handed in; the others are
// libtorch's. There is no second derivative: asking for one throws.
#include "shim.h"

#include <array>
#include <vector>

#include <ATen/ops/conv2d.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

using at::MemoryFormat;
using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Geometry {
  int64_t stride, padding;

  int64_t output(int64_t size, int64_t kernel) const { return (size + 2 * padding - kernel) / stride + 1; }

  std::array<int64_t, 10> sizes(const Tensor& x, const Tensor& weight) const {
    return {x.size(0), x.size(2),      x.size(3), output(x.size(2), weight.size(2)), output(x.size(3), weight.size(3)),
            x.size(1), weight.size(0), weight.size(2), stride, padding};
  }
};

struct Convolution : torch::autograd::Function<Convolution> {
  static Tensor forward(AutogradContext* ctx, const Tensor& input, const Tensor& filters, int64_t stride,
                        int64_t padding, int64_t kernels_address) {
    const Tensor x = input.contiguous(MemoryFormat::ChannelsLast);
    const Tensor weight = filters.contiguous(MemoryFormat::ChannelsLast);
    ctx->save_for_backward({x, weight});
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["padding"] = padding;
    ctx->saved_data["kernels"] = kernels_address;
    const auto kernel = reinterpret_cast<const flatmin_conv_kernels*>(kernels_address)->forward;
    if (kernel == nullptr) return at::conv2d(x, weight, {}, {stride, stride}, {padding, padding});
    const auto sizes = Geometry{stride, padding}.sizes(x, weight);
    const Tensor y =
        at::empty({sizes[0], sizes[6], sizes[3], sizes[4]}, x.options().requires_grad(false), MemoryFormat::ChannelsLast);
    kernel(sizes.data(), x.const_data_ptr(), weight.const_data_ptr(), y.mutable_data_ptr());
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    flatmin::refuse_second_derivative("convolution");
    const auto variables = ctx->get_saved_variables();
    const Tensor &x = variables[0], &weight = variables[1];
    const Geometry geometry{ctx->saved_data["stride"].toInt(), ctx->saved_data["padding"].toInt()};
    const auto kernels = reinterpret_cast<const flatmin_conv_kernels*>(ctx->saved_data["kernels"].toInt());
    const auto sizes = geometry.sizes(x, weight);
    const Tensor dy = gradients[0].contiguous(MemoryFormat::ChannelsLast);
    // Of the gradients of input and weight, one by one, by a kernel or by libtorch.
    const auto gradient = [&](size_t index, flatmin_conv_kernel kernel, const Tensor& first, const Tensor& second) {
      if (!ctx->needs_input_grad(index)) return Tensor();
      if (kernel == nullptr) {
        std::array<bool, 3> wanted{};
        wanted[index] = true;
        const auto both = [](int64_t value) { return std::vector<int64_t>{value, value}; };
        const auto all =
            at::convolution_backward(dy, x, weight, at::OptionalIntArrayRef(), both(geometry.stride),
                                     both(geometry.padding), both(1), false, both(0), 1, wanted);
        return index == 0 ? std::get<0>(all) : std::get<1>(all);
      }
      const Tensor& like = variables[index];
      const Tensor out = at::empty_like(like, like.options().requires_grad(false), MemoryFormat::ChannelsLast);
      kernel(sizes.data(), first.const_data_ptr(), second.const_data_ptr(), out.mutable_data_ptr());
      return out;
    };
    return {gradient(0, kernels->input_gradient, dy, weight), gradient(1, kernels->weight_gradient, x, dy), Tensor(),
            Tensor(), Tensor()};
  }
};

}  // namespace

char* flatmin_conv2d(const flatmin_conv_kernels* kernels, const Tensor* x, const Tensor* weight, int64_t stride,
                     int64_t padding, Tensor** out) {
  return flatmin::guarded([&] {
    *out = new Tensor(Convolution::apply(*x, *weight, stride, padding, reinterpret_cast<int64_t>(kernels)));
  });
}
