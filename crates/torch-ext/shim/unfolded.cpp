// A convolution without bias as products of the filters, [out, taps], with what they see at each pixel of the output,
// [pixels, taps] (im2col), as a differentiable function. Filters are read as they lie, where libtorch's convolutions bring them
// into an order of their own in each pass. There is no second derivative: asking for one throws.
#include "shim.h"

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

namespace {

using at::MemoryFormat;
using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Windows {
  int64_t batch, channels, height, width, side, stride, padding;

  Windows(const Tensor& x, const Tensor& weight, int64_t stride, int64_t padding)
      : batch(x.size(0)), channels(x.size(1)), height(x.size(2)), width(x.size(3)), side(weight.size(2)), stride(stride),
        padding(padding) {}

  int64_t out_height() const { return (height + 2 * padding - side) / stride + 1; }
  int64_t out_width() const { return (width + 2 * padding - side) / stride + 1; }
  int64_t pixels() const { return batch * out_height() * out_width(); }
  int64_t taps() const { return side * side * channels; }
  // Windows of one pixel each, side by side: the image is what they see.
  bool are_the_image() const { return side == 1 && stride == 1 && padding == 0; }

  // [pixels, taps] of an image [batch, channels, height, width].
  Tensor unfold(const Tensor& x) const {
    const Tensor image = x.permute({0, 2, 3, 1});
    if (are_the_image()) return image.reshape({pixels(), taps()});
    const Tensor padded = at::constant_pad_nd(image, {0, 0, padding, padding, padding, padding}).contiguous();
    const int64_t row = padded.stride(1);
    return padded
        .as_strided({batch, out_height(), out_width(), side, side * channels},
                    {padded.stride(0), stride * row, stride * channels, row, 1})
        .reshape({pixels(), taps()});
  }

  // The adjoint of `unfold`: each pixel of the image is the sum over the windows that see it.
  Tensor fold(const Tensor& rows) const {
    if (are_the_image()) return rows.view({batch, height, width, channels}).permute({0, 3, 1, 2});
    const Tensor padded = at::zeros({batch, height + 2 * padding, width + 2 * padding, channels}, rows.options());
    const Tensor taps = rows.view({batch, out_height(), out_width(), side, side, channels});
    const auto seen = [&](const Tensor& image, int64_t axis, int64_t first, int64_t count) {
      return image.slice(axis, first, first + stride * (count - 1) + 1, stride);
    };
    for (int64_t row = 0; row < side; ++row) {
      const Tensor lines = seen(padded, 1, row, out_height());
      for (int64_t column = 0; column < side; ++column) {
        seen(lines, 2, column, out_width()).add_(taps.select(3, row).select(3, column));
      }
    }
    return padded.narrow(1, padding, height).narrow(2, padding, width).permute({0, 3, 1, 2});
  }
};

// [out, taps] of filters that lie channels-last.
Tensor matrix(const Tensor& weight) { return weight.permute({0, 2, 3, 1}).reshape({weight.size(0), -1}); }

struct Unfolded : torch::autograd::Function<Unfolded> {
  static Tensor forward(AutogradContext* ctx, const Tensor& input, const Tensor& filters, int64_t stride,
                        int64_t padding) {
    const Tensor x = input.contiguous(MemoryFormat::ChannelsLast);
    const Tensor weight = filters.contiguous(MemoryFormat::ChannelsLast);
    ctx->save_for_backward({x, weight});
    ctx->saved_data["stride"] = stride;
    ctx->saved_data["padding"] = padding;
    const Windows windows(x, weight, stride, padding);
    const Tensor y = at::empty({windows.batch, weight.size(0), windows.out_height(), windows.out_width()},
                               x.options().requires_grad(false), MemoryFormat::ChannelsLast);
    Tensor rows = y.permute({0, 2, 3, 1}).view({windows.pixels(), weight.size(0)});
    at::mm_out(rows, windows.unfold(x), matrix(weight).t());
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    flatmin::refuse_second_derivative("convolution");
    const auto variables = ctx->get_saved_variables();
    const Tensor &x = variables[0], &weight = variables[1];
    const Windows windows(x, weight, ctx->saved_data["stride"].toInt(), ctx->saved_data["padding"].toInt());
    const Tensor dy = gradients[0].permute({0, 2, 3, 1}).reshape({windows.pixels(), weight.size(0)});
    Tensor dx, dw;
    if (ctx->needs_input_grad(0)) dx = windows.fold(dy.mm(matrix(weight)));
    if (ctx->needs_input_grad(1)) {
      dw = dy.t()
               .mm(windows.unfold(x))
               .view({weight.size(0), windows.side, windows.side, windows.channels})
               .permute({0, 3, 1, 2});
    }
    return {dx, dw, Tensor(), Tensor()};
  }
};

}  // namespace

char* flatmin_unfolded_conv2d(const Tensor* x, const Tensor* weight, int64_t stride, int64_t padding, Tensor** out) {
  return flatmin::guarded([&] { *out = new Tensor(Unfolded::apply(*x, *weight, stride, padding)); });
}
