// Autograd's side of the fused layers whose passes are kernels of the CUDA library (or of its twin, for tensors on the CPU):
// batch norm (+ addition) (+ ReLU), cross-entropy. There is no second derivative: asking for one throws.
#include "../cuda/flatmin_cuda.h"
#include "shim.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using flatmin::or_none;
using torch::autograd::variable_list;

int32_t number_of(const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return FLATMIN_FLOAT32;
    case at::kDouble:
      return FLATMIN_FLOAT64;
    case at::kBFloat16:
      return FLATMIN_BFLOAT16;
    default:
      TORCH_CHECK(false, "fused layers take float32, float64 or bfloat16, got ", tensor.scalar_type());
  }
}

// What statistics and losses are kept in beside numbers of this format.
at::ScalarType wide(const Tensor& tensor) { return tensor.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

// Where the kernels of one call run: the current stream of the tensor's device.
class Call {
 public:
  Call(const flatmin_kernels* kernels, const Tensor& tensor) : kernels_(kernels), guard_(tensor.device()) {
    if (tensor.is_cpu()) return;
    const c10::impl::VirtualGuardImpl guard(tensor.device().type());
    stream_ = guard.getStream(tensor.device()).native_handle();
  }

  void* stream() const { return stream_; }

  void check(int status) const { TORCH_CHECK(status == 0, kernels_->last_error()); }

 private:
  const flatmin_kernels* kernels_;
  c10::DeviceGuard guard_;
  void* stream_ = nullptr;
};

Tensor scratch_of(const Tensor& tensor, int64_t doubles) { return at::empty({doubles}, tensor.options().dtype(at::kDouble)); }

// Counters for sums of the call's stream. Each kernel leaves them as zeros, and they stay for good: graphs that were recorded on the stream
// count with them, too. They are made before any of these, by the steps that warm up.
uint32_t* counters_of(const Call& call, const Tensor& like, int64_t count) {
  if (like.is_cpu()) return nullptr;
  static std::mutex lock;
  static auto& all = *new std::map<std::pair<c10::DeviceIndex, void*>, std::vector<Tensor>>;
  const std::lock_guard guard(lock);
  std::vector<Tensor>& own = all[{like.device().index(), call.stream()}];
  const int64_t there = own.empty() ? 0 : own.back().numel();
  if (there < count) {
    own.push_back(at::zeros({std::max<int64_t>({count, 2 * there, 4096})}, like.options().dtype(at::kInt).requires_grad(false)));
  }
  return static_cast<uint32_t*>(own.back().mutable_data_ptr());
}

flatmin_scratch as_scratch(const Tensor& scratch, uint32_t* counters = nullptr) {
  return {scratch.mutable_data_ptr<double>(), counters};
}

void* data_or_null(const Tensor& tensor) { return tensor.defined() ? tensor.mutable_data_ptr() : nullptr; }

void check_per_channel(const char* what, const Tensor& tensor, const Tensor& x) {
  const bool fits = tensor.dim() == 1 && tensor.size(0) == x.size(1) && tensor.scalar_type() == wide(x) &&
                    tensor.device() == x.device() && tensor.is_contiguous();
  TORCH_CHECK(fits, what, " is ", tensor.scalar_type(), " ", tensor.sizes(), " on ", tensor.device(), ", expected ",
              wide(x), " [", x.size(1), "] on ", x.device());
}

struct DeviceNormAct : torch::autograd::Function<DeviceNormAct> {
  static Tensor forward(AutogradContext* ctx, const Tensor& input, const std::optional<Tensor>& residual,
                        const Tensor& gamma, const Tensor& beta, const std::optional<Tensor>& running_mean,
                        const std::optional<Tensor>& running_variance, double momentum, double eps, bool relu,
                        int64_t kernels_address) {
    const auto* kernels = reinterpret_cast<const flatmin_kernels*>(kernels_address);
    TORCH_CHECK(input.dim() == 4 && input.size(1) > 0, "batch norm takes [batch, channels, height, width], got ", input.sizes());
    TORCH_CHECK(!residual.has_value() || (residual->sizes() == input.sizes() &&
                                          residual->scalar_type() == input.scalar_type()),
                "the residual is ", residual->scalar_type(), " ", residual->sizes(), ", expected ",
                input.scalar_type(), " ", input.sizes());
    const Tensor x = input.contiguous(at::MemoryFormat::ChannelsLast);
    check_per_channel("gamma", gamma, x);
    check_per_channel("beta", beta, x);
    if (running_mean.has_value()) check_per_channel("the running mean", *running_mean, x);
    if (running_variance.has_value()) check_per_channel("the running variance", *running_variance, x);
    const Call call(kernels, x);
    const int64_t channels = x.size(1), rows = x.numel() / channels;
    const Tensor added = residual.has_value() ? residual->contiguous(at::MemoryFormat::ChannelsLast) : Tensor();
    const Tensor saved = at::empty({4, channels}, gamma.options().requires_grad(false));
    const Tensor y = at::empty_like(x, x.options(), at::MemoryFormat::ChannelsLast);
    const Tensor scratch = scratch_of(x, kernels->norm_scratch(rows, channels));
    const flatmin_scratch sums = as_scratch(scratch, counters_of(call, x, channels));
    flatmin_norm norm{};
    norm.gamma = gamma.const_data_ptr();
    norm.beta = beta.const_data_ptr();
    norm.running_mean = running_mean.has_value() ? running_mean->mutable_data_ptr() : nullptr;
    norm.running_variance = running_variance.has_value() ? running_variance->mutable_data_ptr() : nullptr;
    norm.saved = saved.mutable_data_ptr();
    norm.momentum = momentum;
    norm.eps = eps;
    norm.rows = rows;
    norm.channels = static_cast<int32_t>(channels);
    norm.number = number_of(x);
    norm.relu = relu;
    call.check(kernels->norm_forward(call.stream(), &norm, x.const_data_ptr(), data_or_null(added),
                                     y.mutable_data_ptr(), &sums));
    ctx->save_for_backward({x, saved, added.defined() && relu ? y : Tensor()});
    ctx->saved_data["kernels"] = kernels_address;
    ctx->saved_data["relu"] = relu;
    ctx->saved_data["added"] = added.defined();
    return y;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    flatmin::refuse_second_derivative("batch norm");
    const auto* kernels = reinterpret_cast<const flatmin_kernels*>(ctx->saved_data["kernels"].toInt());
    const bool relu = ctx->saved_data["relu"].toBool(), added = ctx->saved_data["added"].toBool();
    const auto variables = ctx->get_saved_variables();
    const Tensor &x = variables[0], &saved = variables[1], &y = variables[2];
    const Call call(kernels, x);
    const Tensor dy = gradients[0].contiguous(at::MemoryFormat::ChannelsLast);
    const int64_t channels = x.size(1), rows = x.numel() / channels;
    const auto like_x = [&] { return at::empty_like(x, x.options(), at::MemoryFormat::ChannelsLast); };
    const Tensor dx = like_x();
    const Tensor passed = added && relu ? like_x() : Tensor();
    const Tensor parameters = at::empty({2, channels}, saved.options());
    const Tensor coefficients = at::empty({3, channels}, saved.options());
    const Tensor scratch = scratch_of(x, kernels->norm_scratch(rows, channels));
    const flatmin_scratch sums = as_scratch(scratch, counters_of(call, x, channels));
    const Tensor dgamma = parameters[0], dbeta = parameters[1];
    flatmin_norm_backward norm{};
    norm.x = x.const_data_ptr();
    norm.dy = dy.const_data_ptr();
    norm.y = data_or_null(y);
    norm.saved = saved.const_data_ptr();
    norm.dx = dx.mutable_data_ptr();
    norm.residual = data_or_null(passed);
    norm.dgamma = dgamma.mutable_data_ptr();
    norm.dbeta = dbeta.mutable_data_ptr();
    norm.coefficients = coefficients.mutable_data_ptr();
    norm.rows = rows;
    norm.channels = static_cast<int32_t>(channels);
    norm.number = number_of(x);
    norm.relu = relu;
    call.check(kernels->norm_backward(call.stream(), &norm, &sums));
    const Tensor residual = passed.defined() ? passed : added ? dy : Tensor();
    return {dx, residual, dgamma, dbeta, Tensor(), Tensor(), Tensor(), Tensor(), Tensor(), Tensor()};
  }
};

struct DeviceCrossEntropy : torch::autograd::Function<DeviceCrossEntropy> {
  static Tensor forward(AutogradContext* ctx, const Tensor& input, const Tensor& classes, double smoothing,
                        const std::optional<Tensor>& correct, int64_t kernels_address) {
    const auto* kernels = reinterpret_cast<const flatmin_kernels*>(kernels_address);
    TORCH_CHECK(input.dim() == 2, "cross-entropy takes logits [batch, classes], got ", input.sizes());
    TORCH_CHECK(classes.dim() == 1 && classes.size(0) == input.size(0) && classes.scalar_type() == at::kLong &&
                    classes.device() == input.device(),
                "cross-entropy takes int64 labels [", input.size(0), "] on ", input.device(), ", got ",
                classes.scalar_type(), " ", classes.sizes(), " on ", classes.device());
    TORCH_CHECK(!correct.has_value() || (correct->numel() == 1 && correct->scalar_type() == at::kLong &&
                                         correct->device() == input.device()),
                "the count of correct rows is one int64 number on ", input.device());
    const Tensor logits = input.contiguous(), labels = classes.contiguous();
    const Call call(kernels, logits);
    const auto options = logits.options().dtype(wide(logits)).requires_grad(false);
    const Tensor loss = at::empty({}, options), log_sum = at::empty({logits.size(0)}, options);
    const Tensor scratch = scratch_of(logits, kernels->cross_entropy_scratch(logits.size(0)));
    const flatmin_scratch sums = as_scratch(scratch);
    flatmin_cross_entropy entropy = entropy_of(logits, labels, log_sum, smoothing);
    entropy.loss = loss.mutable_data_ptr();
    entropy.correct = correct.has_value() ? correct->mutable_data_ptr<int64_t>() : nullptr;
    call.check(kernels->cross_entropy(call.stream(), &entropy, &sums));
    ctx->save_for_backward({logits, labels, log_sum});
    ctx->saved_data["kernels"] = kernels_address;
    ctx->saved_data["smoothing"] = smoothing;
    return loss;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& gradients) {
    flatmin::refuse_second_derivative("cross-entropy", "use the composite loss");
    const auto* kernels = reinterpret_cast<const flatmin_kernels*>(ctx->saved_data["kernels"].toInt());
    const auto variables = ctx->get_saved_variables();
    const Tensor& logits = variables[0];
    const Call call(kernels, logits);
    const Tensor dlogits = at::empty_like(logits, at::MemoryFormat::Contiguous);
    const flatmin_cross_entropy entropy =
        entropy_of(logits, variables[1], variables[2], ctx->saved_data["smoothing"].toDouble());
    call.check(kernels->cross_entropy_backward(call.stream(), &entropy, gradients[0].const_data_ptr(),
                                               dlogits.mutable_data_ptr()));
    return {dlogits, Tensor(), Tensor(), Tensor(), Tensor()};
  }

  static flatmin_cross_entropy entropy_of(const Tensor& logits, const Tensor& labels, const Tensor& log_sum,
                                          double smoothing) {
    flatmin_cross_entropy entropy{};
    entropy.logits = logits.const_data_ptr();
    entropy.labels = labels.const_data_ptr<int64_t>();
    entropy.log_sum = log_sum.mutable_data_ptr();
    entropy.smoothing = smoothing;
    entropy.rows = logits.size(0);
    entropy.classes = static_cast<int32_t>(logits.size(1));
    entropy.number = number_of(logits);
    return entropy;
  }
};

}  // namespace

char* flatmin_device_norm_act(const flatmin_kernels* kernels, const Tensor* x, const Tensor* residual,
                              const Tensor* gamma, const Tensor* beta, const Tensor* running_mean,
                              const Tensor* running_variance, double momentum, double eps, int relu, Tensor** out) {
  return flatmin::guarded([&] {
    *out = new Tensor(DeviceNormAct::apply(*x, or_none(residual), *gamma, *beta, or_none(running_mean),
                                           or_none(running_variance), momentum, eps, relu != 0,
                                           reinterpret_cast<int64_t>(kernels)));
  });
}

char* flatmin_device_cross_entropy(const flatmin_kernels* kernels, const Tensor* logits, const Tensor* labels,
                                   double smoothing, const Tensor* correct, Tensor** out) {
  return flatmin::guarded([&] {
    *out = new Tensor(DeviceCrossEntropy::apply(*logits, *labels, smoothing, or_none(correct),
                                                reinterpret_cast<int64_t>(kernels)));
  });
}
