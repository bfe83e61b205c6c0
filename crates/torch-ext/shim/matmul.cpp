// A linear layer and self-attention in float32 as differentiable functions whose passes are kernels handed in. There is no
// second derivative: asking for one throws.
#include "shim.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <array>
#include <optional>

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Linear : torch::autograd::Function<Linear> {
  static std::array<int64_t, 3> sizes(const Tensor& x, const Tensor& weight) {
    return {x.numel() / weight.size(1), weight.size(1), weight.size(0)};
  }

  static Tensor forward(AutogradContext* ctx, const Tensor& input, const Tensor& matrix, const std::optional<Tensor>& bias,
                        int64_t kernels_address) {
    const auto* kernels = reinterpret_cast<const flatmin_linear_kernels*>(kernels_address);
    const Tensor x = input.contiguous(), weight = matrix.contiguous();
    const Tensor offset = bias.has_value() ? bias->contiguous() : Tensor();
    auto shape = x.sizes().vec();
    shape.back() = weight.size(0);
    Tensor y = at::empty(shape, x.options().requires_grad(false));
    kernels->forward(sizes(x, weight).data(), x.const_data_ptr(), weight.const_data_ptr(),
                     offset.defined() ? offset.const_data_ptr() : nullptr, y.mutable_data_ptr());
    ctx->save_for_backward({x, weight});
    ctx->saved_data["kernels"] = kernels_address;
    ctx->saved_data["has_bias"] = bias.has_value();
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    flatmin::refuse_second_derivative("linear layer");
    const auto* kernels = reinterpret_cast<const flatmin_linear_kernels*>(ctx->saved_data["kernels"].toInt());
    const auto variables = ctx->get_saved_variables();
    const Tensor &x = variables[0], &weight = variables[1];
    const Tensor dy = gradients[0].contiguous();
    const auto lengths = sizes(x, weight);
    const Tensor rows = dy.view({lengths[0], lengths[2]});
    Tensor dx, dw, dbias;
    if (ctx->needs_input_grad(0)) {
      dx = at::empty_like(x, x.options().requires_grad(false));
      kernels->input_gradient(lengths.data(), dy.const_data_ptr(), weight.const_data_ptr(), dx.mutable_data_ptr());
    }
    if (ctx->needs_input_grad(1)) dw = rows.t().mm(x.view({lengths[0], lengths[1]}));
    // A bias that is not there is no input.
    if (ctx->saved_data["has_bias"].toBool() && ctx->needs_input_grad(2)) dbias = rows.sum(0);
    return {dx, dw, dbias, Tensor()};
  }
};

struct Attention : torch::autograd::Function<Attention> {
  static std::array<int64_t, 4> sizes(const Tensor& qkv, int64_t heads) {
    return {qkv.size(0), qkv.size(1), heads, qkv.size(2) / 3 / heads};
  }

  static Tensor forward(AutogradContext* ctx, const Tensor& input, int64_t heads, int64_t kernels_address) {
    const auto* kernels = reinterpret_cast<const flatmin_attention_kernels*>(kernels_address);
    const Tensor qkv = input.contiguous();
    const auto options = qkv.options().requires_grad(false);
    Tensor out = at::empty({qkv.size(0), qkv.size(1), qkv.size(2) / 3}, options);
    Tensor normalizers = at::empty({qkv.size(0), heads, qkv.size(1)}, options);
    kernels->forward(sizes(qkv, heads).data(), qkv.const_data_ptr(), out.mutable_data_ptr(), normalizers.mutable_data_ptr());
    ctx->save_for_backward({qkv, normalizers});
    ctx->saved_data["heads"] = heads;
    ctx->saved_data["kernels"] = kernels_address;
    return out;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    flatmin::refuse_second_derivative("attention");
    const auto* kernels = reinterpret_cast<const flatmin_attention_kernels*>(ctx->saved_data["kernels"].toInt());
    const auto variables = ctx->get_saved_variables();
    const Tensor &qkv = variables[0], &normalizers = variables[1];
    const Tensor dout = gradients[0].contiguous();
    Tensor dqkv = at::empty_like(qkv, qkv.options().requires_grad(false));
    kernels->backward(sizes(qkv, ctx->saved_data["heads"].toInt()).data(), qkv.const_data_ptr(), dout.const_data_ptr(),
                      normalizers.const_data_ptr(), dqkv.mutable_data_ptr());
    return {dqkv, Tensor(), Tensor()};
  }
};

}  // namespace

char* flatmin_linear(const flatmin_linear_kernels* kernels, const Tensor* x, const Tensor* weight, const Tensor* bias,
                     Tensor** out) {
  return flatmin::guarded([&] {
    *out = new Tensor(Linear::apply(*x, *weight, flatmin::or_none(bias), reinterpret_cast<int64_t>(kernels)));
  });
}

char* flatmin_attention(const flatmin_attention_kernels* kernels, const Tensor* qkv, int64_t heads, Tensor** out) {
  return flatmin::guarded(
      [&] { *out = new Tensor(Attention::apply(*qkv, heads, reinterpret_cast<int64_t>(kernels))); });
}
