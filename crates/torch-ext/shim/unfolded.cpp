// The passes of a float32 convolution as products of the filters, [filters, taps], with what they see at each pixel of the output,
// [pixels, taps] (im2col). Filters are read as they lie, where libtorch's convolutions bring them into an order of their own in
// each pass.
#include "shim.h"

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

namespace {

using at::Tensor;

// An array of the kernel's caller.
Tensor array(const void* data, at::IntArrayRef shape) { return at::from_blob(const_cast<void*>(data), shape, at::kFloat); }

// What the filters see. The fields are a kernel's sizes, in their order.
struct Windows {
  int64_t batch, height, width, out_height, out_width, channels, filters, side, stride, padding;

  static Windows of(const int64_t* s) { return {s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7], s[8], s[9]}; }

  int64_t taps() const { return side * side * channels; }
  Tensor image(const void* data) const { return array(data, {batch, height, width, channels}); }
  Tensor weight(const void* data) const { return array(data, {filters, taps()}); }
  Tensor output(const void* data) const { return array(data, {batch * out_height * out_width, filters}); }
  // Windows of one pixel each, side by side.
  bool are_the_image() const { return side == 1 && stride == 1 && padding == 0; }

  // [pixels, taps] of an image.
  Tensor unfold(const Tensor& image) const {
    if (are_the_image()) return image.view({-1, channels});
    const Tensor padded = at::constant_pad_nd(image, {0, 0, padding, padding, padding, padding});
    const int64_t row = padded.stride(1);
    return padded
        .as_strided({batch, out_height, out_width, side, side * channels},
                    {padded.stride(0), stride * row, stride * channels, row, 1})
        .reshape({-1, taps()});
  }

  // The adjoint of `unfold`: each pixel of the image is the sum over the windows that see it.
  Tensor fold(const Tensor& rows) const {
    if (are_the_image()) return rows.view({batch, height, width, channels});
    const Tensor padded = at::zeros({batch, height + 2 * padding, width + 2 * padding, channels}, rows.options());
    const Tensor seen = rows.view({batch, out_height, out_width, side, side, channels});
    const auto part = [&](const Tensor& image, int64_t axis, int64_t first, int64_t count) {
      return image.slice(axis, first, first + stride * (count - 1) + 1, stride);
    };
    for (int64_t row = 0; row < side; ++row) {
      const Tensor lines = part(padded, 1, row, out_height);
      for (int64_t column = 0; column < side; ++column) {
        part(lines, 2, column, out_width).add_(seen.select(3, row).select(3, column));
      }
    }
    return padded.narrow(1, padding, height).narrow(2, padding, width);
  }
};

void forward(const int64_t* sizes, const void* x, const void* weight, void* y) {
  const Windows windows = Windows::of(sizes);
  Tensor rows = windows.output(y);
  at::mm_out(rows, windows.unfold(windows.image(x)), windows.weight(weight).t());
}

void input_gradient(const int64_t* sizes, const void* dy, const void* weight, void* dx) {
  const Windows windows = Windows::of(sizes);
  windows.image(dx).copy_(windows.fold(windows.output(dy).mm(windows.weight(weight))));
}

void weight_gradient(const int64_t* sizes, const void* x, const void* dy, void* dw) {
  const Windows windows = Windows::of(sizes);
  Tensor gradient = windows.weight(dw);
  at::mm_out(gradient, windows.output(dy).t(), windows.unfold(windows.image(x)));
}

}  // namespace

const flatmin_conv_kernels flatmin_unfolded = {forward, input_gradient, weight_gradient};
