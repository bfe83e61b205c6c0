// What the library exports: its interface's number, the torch release that it was built for, and the table of libtorch's CUDA
// side. (The kernels' table is exported beside them, by kernels/table.cu.)
#include <torch/headeronly/version.h>

#include "runtime.h"

namespace flatmin {

std::string& runtime_error() {
  thread_local std::string message;
  return message;
}

namespace {

const char* message() { return runtime_error().c_str(); }

const flatmin_runtime runtime = {
    FLATMIN_CUDA_ABI,
    message,
    versions,
    device_count,
    device,
    memory,
    stream_from_pool,
    stream_new,
    stream_current,
    stream_set_current,
    stream_synchronize,
    stream_free,
    current_raw,
    event_new,
    event_record,
    event_wait,
    event_free,
    pinned_like,
    copy_async,
    record_stream,
    graph_new,
    graph_begin,
    graph_end,
    graph_replay,
    graph_free,
};

}  // namespace
}  // namespace flatmin

uint32_t flatmin_cuda_abi(void) { return FLATMIN_CUDA_ABI; }
const char* flatmin_cuda_torch_version(void) { return TORCH_VERSION; }
const flatmin_runtime* flatmin_cuda_runtime(void) { return &flatmin::runtime; }
