// What a flat parameter arena needs of a tensor (version counter, undefined gradient, memory format), and random
// numbers from a generator of our own, so that a run does not depend on what else draws from torch's global one.
#include "shim.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/empty.h>


void flatmin_bump_version(const at::Tensor* tensor) {
  tensor->unsafeGetTensorImpl()->bump_version();
}

void flatmin_clear_grad(at::Tensor* tensor) {
  tensor->mutable_grad().reset();
}

void flatmin_set_grad(at::Tensor* tensor, const at::Tensor* grad) {
  tensor->mutable_grad() = *grad;
}

char* flatmin_channels_last(const at::Tensor* tensor, at::Tensor** out) {
  return flatmin::guarded([&] { *out = new at::Tensor(tensor->contiguous(at::MemoryFormat::ChannelsLast)); });
}

char* flatmin_generator_new(uint64_t seed, void** out) {
  return flatmin::guarded([&] { *out = new at::Generator(at::make_generator<at::CPUGeneratorImpl>(seed)); });
}

void flatmin_generator_free(void* generator) {
  delete static_cast<at::Generator*>(generator);
}

char* flatmin_generator_uniform(void* generator, at::Tensor* tensor, double low, double high) {
  return flatmin::guarded([&] { tensor->uniform_(low, high, *static_cast<at::Generator*>(generator)); });
}

char* flatmin_generator_normal(void* generator, at::Tensor* tensor, double mean, double deviation) {
  return flatmin::guarded([&] { tensor->normal_(mean, deviation, *static_cast<at::Generator*>(generator)); });
}

char* flatmin_generator_bernoulli(void* generator, at::Tensor* tensor, double probability) {
  return flatmin::guarded([&] { tensor->bernoulli_(probability, *static_cast<at::Generator*>(generator)); });
}
