// The C interface between Rust and the parts of libtorch that tch does not expose.
// No exception crosses it: a call that can fail returns an error text that the caller frees with flatmin_free_error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <optional>

#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>

extern "C" {
void flatmin_free_error(char* error);

// allocator.cpp
void flatmin_install_allocator(void);

// conv.cpp
// A kernel gets batch, input height and width, output height and width, input channels, output channels, side of the filters,
// stride, padding; then two arrays to read and one to write, dense and channels-last. A null kernel stands for libtorch's own.
typedef void (*flatmin_conv_kernel)(const int64_t* sizes, const void* first, const void* second, void* out);
struct flatmin_conv_kernels {
  flatmin_conv_kernel forward;          // x, weight -> y
  flatmin_conv_kernel input_gradient;   // dy, weight -> dx
  flatmin_conv_kernel weight_gradient;  // x, dy -> dW
};
// `kernels` must live as long as the process.
char* flatmin_conv2d(const flatmin_conv_kernels* kernels, const at::Tensor* x, const at::Tensor* weight, int64_t stride,
                     int64_t padding, at::Tensor** out);

// device.cpp
// `kernels` is a table of cuda/flatmin_cuda.h, whose side the tensors lie on, and lives as long as the process; null tensors are
// absent.
typedef struct flatmin_kernels flatmin_kernels;
char* flatmin_device_norm_act(const flatmin_kernels* kernels, const at::Tensor* x, const at::Tensor* residual,
                              const at::Tensor* gamma, const at::Tensor* beta, const at::Tensor* running_mean,
                              const at::Tensor* running_variance, double momentum, double eps, int relu,
                              at::Tensor** out);
char* flatmin_device_cross_entropy(const flatmin_kernels* kernels, const at::Tensor* logits, const at::Tensor* labels,
                                   double smoothing, const at::Tensor* correct, at::Tensor** out);

// image.cpp
char* flatmin_padded_subsample(const at::Tensor* x, int64_t stride, int64_t before, int64_t after, at::Tensor** out);
char* flatmin_image_mean(const at::Tensor* x, at::Tensor** out);

// matmul.cpp
// Arrays are float32 and dense. Sizes of a linear layer: rows, inputs, outputs; of attention: batch, tokens, heads, features of
// a head. `kernels` must live as long as the process.
struct flatmin_linear_kernels {
  void (*forward)(const int64_t* sizes, const void* x, const void* weight, const void* bias, void* y);  // bias may be null
  void (*input_gradient)(const int64_t* sizes, const void* dy, const void* weight, void* dx);
};
struct flatmin_attention_kernels {
  void (*forward)(const int64_t* sizes, const void* qkv, void* out, void* normalizers);
  void (*backward)(const int64_t* sizes, const void* qkv, const void* dout, const void* normalizers, void* dqkv);
};
char* flatmin_linear(const flatmin_linear_kernels* kernels, const at::Tensor* x, const at::Tensor* weight,
                     const at::Tensor* bias, at::Tensor** out);
char* flatmin_attention(const flatmin_attention_kernels* kernels, const at::Tensor* qkv, int64_t heads, at::Tensor** out);

// norm_act.cpp
// The kernels are Rust's; `number` is the format of the activations (0 float32, 1 float64, 2 bfloat16). Per-channel numbers are doubles. A null `residual`, `y` or
// `passed` means that there is none.
struct flatmin_norm_act_kernels {
  void (*moments)(uint8_t number, const void* x, int64_t len, int64_t channels, double* mean, double* variance);
  void (*forward)(uint8_t number, const void* x, const void* residual, void* y, int64_t len, int64_t channels,
                  const double* scale, const double* shift);
  void (*sums)(uint8_t number, const void* x, const void* dy, const void* y, int64_t len, int64_t channels,
               const double* scale, const double* shift, const double* mean, double* sums);
  void (*gradient)(uint8_t number, const void* x, const void* dy, const void* y, void* dx, void* passed, int64_t len,
                   int64_t channels, const double* scale, const double* shift, const double* coefficients);
};
char* flatmin_norm_act(const flatmin_norm_act_kernels* kernels, const at::Tensor* x, const at::Tensor* residual,
                       const at::Tensor* gamma, const at::Tensor* beta, const at::Tensor* running_mean,
                       const at::Tensor* running_variance, double momentum, double eps, at::Tensor** out);

// runtime.cpp
void flatmin_parallel_for(int64_t workers, void (*body)(void* context, int64_t worker), void* context);
void flatmin_set_num_threads(int threads);
int flatmin_num_threads(void);
int flatmin_set_flush_denormal(int on);
// float32 matrix products and convolutions in TensorFloat-32, cuDNN's benchmark, deterministic algorithms; on a GPU.
struct flatmin_switches {
  int32_t tf32_matmul;
  int32_t tf32_convolutions;
  int32_t cudnn_benchmark;
  int32_t deterministic;
};
char* flatmin_set_switches(const flatmin_switches* switches);
char* flatmin_get_switches(flatmin_switches* out);
const char* flatmin_cpu_capability(void);
const char* flatmin_torch_version(void);

// script.cpp
// A place is a parameter or buffer of a module; the caller keeps within flatmin_script_count.
char* flatmin_script_load(const char* path, void** out);
// `gpu` is the number of one, negative for the CPU.
char* flatmin_script_copy(void* script, int32_t gpu, void** out);
char* flatmin_script_bytes(void* script, at::Tensor** out);
void flatmin_script_free(void* script);
int64_t flatmin_script_count(void* script);
const char* flatmin_script_name(void* script, int64_t place);
int flatmin_script_is_parameter(void* script, int64_t place);
char* flatmin_script_get(void* script, int64_t place, at::Tensor** out);
char* flatmin_script_set(void* script, int64_t place, const at::Tensor* value);
char* flatmin_script_train(void* script, int on);
char* flatmin_script_evaluate_owner(void* script, int64_t place);
char* flatmin_script_forward(void* script, const at::Tensor* input, at::Tensor** out);

// tensor.cpp
void flatmin_bump_version(const at::Tensor* tensor);
void flatmin_clear_grad(at::Tensor* tensor);
void flatmin_set_grad(at::Tensor* tensor, const at::Tensor* grad);
char* flatmin_channels_last(const at::Tensor* tensor, at::Tensor** out);
char* flatmin_generator_new(uint64_t seed, void** out);
void flatmin_generator_free(void* generator);
char* flatmin_generator_uniform(void* generator, at::Tensor* tensor, double low, double high);
char* flatmin_generator_normal(void* generator, at::Tensor* tensor, double mean, double deviation);
char* flatmin_generator_bernoulli(void* generator, at::Tensor* tensor, double probability);

// unfolded.cpp
extern const flatmin_conv_kernels flatmin_unfolded;
}

namespace flatmin {

// Runs `body`; answers null, or the text of what it threw.
template <typename Body>
char* guarded(Body&& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const c10::Error& error) {
    return strdup(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return strdup(error.what());
  } catch (...) {
    return strdup("libtorch threw something that is not an exception");
  }
}

// An argument that may be left out.
inline std::optional<at::Tensor> or_none(const at::Tensor* tensor) {
  return tensor != nullptr ? std::optional(*tensor) : std::nullopt;
}

// For backward passes that autograd cannot differentiate.
inline void refuse_second_derivative(const char* what, const char* instead = "run the model with composite layers") {
  TORCH_CHECK(!at::GradMode::is_enabled(), "fused ", what, " has no second derivative; ", instead, " for create_graph");
}

}  // namespace flatmin
