// libtorch's operations on the emulated GPU: each is queued, and runs as libtorch's own for the CPU on the same memory.
//
// What an operation answers is allocated at once, by torch's allocator for GPUs, in the size and order of what the CPU's makes of
// zeros; what lies in it is known when the work runs.
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/copy_native.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <unordered_set>
#include <vector>

#include "queue.h"

namespace {

using c10::IValue;
using c10::OperatorHandle;
using torch::jit::Stack;

// The same memory as a tensor of the CPU.
at::Tensor shadow(const at::Tensor& tensor) {
  if (!tensor.is_cuda()) return tensor.numel() == 1 ? tensor.clone() : tensor;
  const auto options = tensor.options().device(at::kCPU).requires_grad(false);
  if (tensor.numel() == 0) return at::empty_strided(tensor.sizes(), tensor.strides(), options);
  return at::from_blob(const_cast<void*>(tensor.const_data_ptr()), tensor.sizes(), tensor.strides(), options);
}

// What may be read before the work runs.
at::Tensor zeros(const at::Tensor& tensor) {
  const auto options = tensor.options().device(at::kCPU).requires_grad(false);
  return at::empty_strided(tensor.sizes(), tensor.strides(), options).zero_();
}

template <class Map>
IValue mapped(const IValue& value, const Map& map) {
  const auto one = [&](const at::Tensor& tensor) { return tensor.defined() ? map(tensor) : tensor; };
  if (value.isTensor()) return one(value.toTensor());
  if (value.isDevice()) return c10::Device(at::kCPU);
  if (value.isTensorList()) {
    c10::List<at::Tensor> list;
    for (const at::Tensor& tensor : value.toTensorVector()) list.push_back(one(tensor));
    return list;
  }
  if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> list;
    for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorList())
      list.push_back(tensor.has_value() ? std::optional(one(*tensor)) : std::nullopt);
    return list;
  }
  return value;
}

template <class Map>
Stack mapped(const Stack& values, const Map& map) {
  Stack all;
  for (const IValue& value : values) all.push_back(mapped(value, map));
  return all;
}

Stack on_cpu(const OperatorHandle& operation, Stack values) {
  const at::AutoDispatchBelowADInplaceOrView below;
  operation.callBoxed(values);
  return values;
}

// The argument that an answer is, if it is one.
std::optional<size_t> written_argument(const c10::FunctionSchema& schema, const c10::Argument& answer) {
  if (answer.alias_info() == nullptr) return std::nullopt;
  const auto& arguments = schema.arguments();
  for (size_t index = 0; index < arguments.size(); ++index) {
    const auto* info = arguments[index].alias_info();
    if (info != nullptr && info->beforeSets() == answer.alias_info()->beforeSets()) return index;
  }
  return std::nullopt;
}

void queue(const std::string& name, emulator::Work work) {
  const auto stream = c10::cuda::getCurrentCUDAStream().stream();
  C10_CUDA_CHECK(emulator::launch(stream, name, [work = std::move(work)] {
    try {
      work();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "emulated GPU: an operation failed: %s\n", error.what());
      std::abort();
    }
  }));
}

at::Tensor made_like(const at::Tensor& tensor, c10::Device device) {
  return at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(device));
}

c10::Device device_of(const Stack& arguments) {
  for (const IValue& value : arguments) {
    if (value.isTensor() && value.toTensor().defined() && value.toTensor().is_cuda()) return value.toTensor().device();
    if (value.isTensorList())
      for (const at::Tensor& tensor : value.toTensorVector())
        if (tensor.is_cuda()) return tensor.device();
  }
  return {at::kCUDA, c10::cuda::current_device()};
}

// All on one device, but for numbers and indices of the CPU.
void check_devices(const std::string& name, const Stack& arguments, c10::Device device) {
  const bool indexes = name.find("index") != std::string::npos && name != "aten::index_select";
  mapped(arguments, [&](const at::Tensor& tensor) {
    const bool fits = tensor.device() == device || (tensor.is_cpu() && (tensor.dim() == 0 || indexes));
    TORCH_CHECK(fits, name, ": one tensor is on ", tensor.device(), ", another on ", device);
    return tensor;
  });
}

// An empty tensor that is written gets the size of what is written.
void make_room(const OperatorHandle& operation, const Stack& arguments, const Stack& written) {
  const auto empty = [](const IValue& value) { return value.isTensor() && value.toTensor().numel() == 0; };
  if (std::none_of(written.begin(), written.end(), empty)) return;
  const Stack tried = on_cpu(operation, mapped(arguments, zeros));
  for (size_t index = 0; index < written.size(); ++index)
    if (empty(written[index])) written[index].toTensor().resize_(tried[index].toTensor().sizes());
}

void emulate(const OperatorHandle& operation, Stack* stack) {
  const auto& schema = operation.schema();
  const size_t count = schema.arguments().size();
  const Stack arguments(stack->end() - count, stack->end());
  torch::jit::drop(*stack, count);
  const c10::Device device = device_of(arguments);
  check_devices(schema.name(), arguments, device);
  const c10::cuda::CUDAGuard guard(device);
  const auto& returns = schema.returns();
  const auto written = [&](const c10::Argument& answer) { return written_argument(schema, answer); };
  const bool all_written = !returns.empty() && std::all_of(returns.begin(), returns.end(), written);
  Stack answers, outputs;  // the caller's, and the same memory for the work
  if (all_written) {
    for (const auto& answer : returns) answers.push_back(arguments[*written(answer)]);
    make_room(operation, arguments, answers);
  } else if (!returns.empty()) {
    const auto own = [&](const at::Tensor& tensor) { return made_like(tensor, device); };
    answers = mapped(on_cpu(operation, mapped(arguments, zeros)), own);
    outputs = mapped(answers, shadow);
  }
  queue(schema.name(), [operation, inputs = mapped(arguments, shadow), outputs] {
    const Stack found = on_cpu(operation, inputs);
    for (size_t index = 0; index < outputs.size(); ++index) {
      const auto write = [](const at::Tensor& to, const at::Tensor& from) {
        if (to.defined()) to.copy_(from);
      };
      if (outputs[index].isTensor()) write(outputs[index].toTensor(), found[index].toTensor());
      if (!outputs[index].isTensorList()) continue;
      const auto to = outputs[index].toTensorVector(), from = found[index].toTensorVector();
      for (size_t place = 0; place < to.size(); ++place) write(to[place], from[place]);
    }
  });
  stack->insert(stack->end(), answers.begin(), answers.end());
}

at::Tensor& copy(at::Tensor& self, const at::Tensor& from, bool non_blocking) {
  if (!self.is_cuda() || !from.is_cuda()) return at::native::copy_(self, from, non_blocking);
  const c10::cuda::CUDAGuard guard(self.device());
  queue("aten::copy_", [to = shadow(self), from = shadow(from)] { to.copy_(from); });
  return self;
}

// The one operation whose answer is not a tensor, so that it waits.
bool equal(const at::Tensor& self, const at::Tensor& other) {
  if (self.sizes() != other.sizes()) return false;
  return at::eq(self, other).all().item<bool>();
}

// Operations that start no kernel; torch's own serve.
const std::unordered_set<std::string> kept{
    "aten::empty",         "aten::empty_strided", "aten::set_",         "aten::resize_",      "aten::_local_scalar_dense",
    "aten::record_stream", "aten::is_pinned",     "aten::_pin_memory",  "aten::is_set_to",    "aten::copy_",
    "aten::resize_as_",
};

// Composed of others everywhere but on the CPU, where one operation is less work; cuDNN would be asked else.
const std::vector<c10::OperatorName> composed{{"aten::convolution", ""}, {"aten::convolution_backward", ""}};

bool has_cpu_kernel(const OperatorHandle& operation) {
  return operation.hasKernelForDispatchKey(c10::DispatchKey::CPU) ||
         operation.hasKernelForDispatchKey(c10::DispatchKey::CompositeExplicitAutograd) ||
         operation.hasKernelForDispatchKey(c10::DispatchKey::CompositeExplicitAutogradNonFunctional);
}

bool answers_a_view(const c10::FunctionSchema& schema) {
  const auto& returns = schema.returns();
  return std::any_of(returns.begin(), returns.end(), [](const auto& answer) {
    return answer.alias_info() != nullptr && !answer.alias_info()->isWrite();
  });
}

bool answers_tensors(const c10::FunctionSchema& schema) {
  const auto& returns = schema.returns();
  return std::all_of(returns.begin(), returns.end(), [](const auto& answer) {
    return answer.type()->isSubtypeOf(*c10::TensorType::get()) ||
           answer.type()->isSubtypeOf(*c10::ListType::ofTensors());
  });
}

std::string full_name(const c10::OperatorName& name) {
  return name.overload_name.empty() ? name.name : name.name + "." + name.overload_name;
}

// Torch warns of operations that are replaced.
struct Silent : c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

void replace_operations() {
  Silent silent;
  const c10::WarningUtils::WarningHandlerGuard guard(&silent);
  auto& dispatcher = c10::Dispatcher::singleton();
  auto names = dispatcher.getRegistrationsForDispatchKey(c10::DispatchKey::CUDA);
  names.insert(names.end(), composed.begin(), composed.end());
  auto& library =
      *new torch::Library(torch::Library::IMPL, "aten", c10::DispatchKey::CUDA, __FILE__, __LINE__);
  for (const c10::OperatorName& name : names) {
    if (name.name.rfind("aten::", 0) != 0 || kept.count(name.name) != 0) continue;
    const auto operation = dispatcher.findSchema(name);
    if (!operation.has_value() || !has_cpu_kernel(*operation)) continue;
    if (answers_a_view(operation->schema()) || !answers_tensors(operation->schema())) continue;
    library.impl(full_name(name).c_str(), torch::CppFunction::makeFromBoxedFunction<emulate>());
  }
  library.impl("copy_", copy);
  library.impl("equal", equal);
  // Batch norm and attention then go by operations that the CPU has, too.
  at::globalContext().setUserEnabledCuDNN(false);
  at::globalContext().setSDPUseFlash(false);
  at::globalContext().setSDPUseMemEfficient(false);
  at::globalContext().setSDPUseCuDNN(false);
}

const bool replaced = (replace_operations(), true);

}  // namespace
