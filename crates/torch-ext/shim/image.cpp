// Layers on channels-last images that libtorch's operations compute by way of other layouts: composed, each of these passes takes several
// copies of the image. There is no second derivative: asking for one throws.
#include "shim.h"

#include <ATen/ops/div.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/zero.h>
#include <torch/csrc/autograd/custom_function.h>

#include <vector>

namespace {

using at::MemoryFormat;
using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Every `stride`-th row and column, among channels of zeros.
struct PaddedSubsample : torch::autograd::Function<PaddedSubsample> {
  static Tensor every(const Tensor& image, int64_t stride) {
    return image.slice(2, std::nullopt, std::nullopt, stride).slice(3, std::nullopt, std::nullopt, stride);
  }

  static Tensor zeros(at::IntArrayRef sizes, const Tensor& like) {
    return at::empty(sizes, like.options().requires_grad(false), MemoryFormat::ChannelsLast).zero_();
  }

  static Tensor forward(AutogradContext* ctx, const Tensor& x, int64_t stride, int64_t before, int64_t after) {
    ctx->saved_data["sizes"] = x.sizes();
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["before"] = before;
    const Tensor seen = every(x, stride);
    const int64_t channels = x.size(1);
    const Tensor y = zeros({x.size(0), before + channels + after, seen.size(2), seen.size(3)}, x);
    y.narrow(1, before, channels).copy_(seen);
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    flatmin::refuse_second_derivative("a shortcut of option A");
    const Tensor& dy = gradients[0];
    const std::vector<int64_t> sizes = ctx->saved_data["sizes"].toIntVector();
    const Tensor dx = zeros(sizes, dy);
    every(dx, ctx->saved_data["stride"].toInt())
        .copy_(dy.narrow(1, ctx->saved_data["before"].toInt(), sizes[1]));
    return {dx, Tensor(), Tensor(), Tensor()};
  }
};

// The mean of each channel of an image of 16 bits, in float32.
struct ImageMean : torch::autograd::Function<ImageMean> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x) {
    ctx->saved_data["sizes"] = x.sizes();
    ctx->saved_data["kind"] = x.scalar_type();
    return at::mean(x, {2, 3}, true, at::kFloat);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    flatmin::refuse_second_derivative("the mean of an image");
    const std::vector<int64_t> sizes = ctx->saved_data["sizes"].toIntVector();
    const auto options = gradients[0].options().dtype(ctx->saved_data["kind"].toScalarType());
    Tensor dx = at::empty(sizes, options.memory_format(MemoryFormat::ChannelsLast));
    dx.copy_(gradients[0].div(sizes[2] * sizes[3]).expand(sizes));
    return {dx};
  }
};

}  // namespace

char* flatmin_padded_subsample(const Tensor* x, int64_t stride, int64_t before, int64_t after, Tensor** out) {
  return flatmin::guarded([&] { *out = new Tensor(PaddedSubsample::apply(*x, stride, before, after)); });
}

char* flatmin_image_mean(const Tensor* x, Tensor** out) {
  return flatmin::guarded([&] { *out = new Tensor(ImageMean::apply(*x)); });
}
