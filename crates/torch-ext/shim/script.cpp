// TorchScript modules whose tensors can be exchanged: tch sees neither buffers nor the places where parameters hang.
#include "shim.h"

#include <ATen/ops/empty.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>

#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace {

// A parameter or buffer, and the module that holds it.
struct Place {
  std::string module_name;
  std::string attribute;
  std::string name;
  torch::jit::Module module;
  bool is_parameter;
};

struct Script {
  torch::jit::Module root;
  std::vector<Place> places;

  explicit Script(torch::jit::Module module) : root(std::move(module)) {
    for (const auto& [module_name, module] : root.named_modules()) {
      const auto add = [&](const std::string& attribute, bool is_parameter) {
        const std::string name = module_name.empty() ? attribute : module_name + "." + attribute;
        places.push_back({module_name, attribute, name, module, is_parameter});
      };
      for (const auto& parameter : module.named_parameters(false)) {
        add(parameter.name, true);
      }
      for (const auto& buffer : module.named_buffers(false)) {
        add(buffer.name, false);
      }
    }
  }
};

Script* script_of(void* raw) {
  return static_cast<Script*>(raw);
}

}  // namespace

char* flatmin_script_load(const char* path, void** out) {
  return flatmin::guarded([&] { *out = new Script(torch::jit::load(path, at::kCPU)); });
}

char* flatmin_script_copy(void* script, int32_t gpu, void** out) {
  return flatmin::guarded([&] {
    const auto device = gpu < 0 ? at::Device(at::kCPU) : at::Device(at::kCUDA, static_cast<at::DeviceIndex>(gpu));
    // By way of a file in memory: reading one is the only way to bring the constants of the code to a device.
    std::stringstream file;
    script_of(script)->root.save(file);
    *out = new Script(torch::jit::load(file, device));
  });
}

char* flatmin_script_bytes(void* script, at::Tensor** out) {
  return flatmin::guarded([&] {
    std::ostringstream stream;
    script_of(script)->root.save(stream);
    const std::string bytes = stream.str();
    auto tensor = std::make_unique<at::Tensor>(at::empty({static_cast<int64_t>(bytes.size())}, at::kByte));
    std::memcpy(tensor->mutable_data_ptr(), bytes.data(), bytes.size());
    *out = tensor.release();
  });
}

void flatmin_script_free(void* script) {
  delete script_of(script);
}

int64_t flatmin_script_count(void* script) {
  return static_cast<int64_t>(script_of(script)->places.size());
}

const char* flatmin_script_name(void* script, int64_t place) {
  return script_of(script)->places[place].name.c_str();
}

int flatmin_script_is_parameter(void* script, int64_t place) {
  return script_of(script)->places[place].is_parameter ? 1 : 0;
}

char* flatmin_script_get(void* script, int64_t place, at::Tensor** out) {
  return flatmin::guarded([&] {
    const Place& found = script_of(script)->places[place];
    *out = new at::Tensor(found.module.attr(found.attribute).toTensor());
  });
}

char* flatmin_script_set(void* script, int64_t place, const at::Tensor* value) {
  return flatmin::guarded([&] {
    Place& found = script_of(script)->places[place];
    found.module.setattr(found.attribute, *value);
  });
}

char* flatmin_script_train(void* script, int on) {
  return flatmin::guarded([&] { script_of(script)->root.train(on != 0); });
}

char* flatmin_script_evaluate_owner(void* script, int64_t place) {
  return flatmin::guarded([&] { script_of(script)->places[place].module.train(false); });
}

char* flatmin_script_forward(void* script, const at::Tensor* input, at::Tensor** out) {
  return flatmin::guarded([&] {
    // The interpreter alone: graphs that the optimizer differentiates itself have no second derivative.
    const torch::jit::GraphOptimizerEnabledGuard interpret(false);
    const torch::jit::IValue answer = script_of(script)->root.forward({*input});
    TORCH_CHECK(answer.isTensor(), "the module answers with ", answer.tagKind(), ", expected one tensor of logits");
    *out = new at::Tensor(answer.toTensor());
  });
}
