// libtorch's CUDA side, as `table.cpp` puts it into the interface's table. Compiled against one torch release's headers.
#pragma once

#include <cstdint>
#include <string>

#include "../flatmin_cuda.h"

namespace flatmin {

// The message of this thread's last failure.
std::string& runtime_error();

// device.cpp
int versions(int32_t* driver, int32_t* runtime);
int device_count(int32_t* count);
int device(int32_t index, flatmin_device* out);
int memory(int32_t index, flatmin_memory* out);

// stream.cpp
int stream_from_pool(int32_t device, void** stream);
int stream_new(int32_t device, void** stream);
int stream_current(int32_t device, void** stream);
int stream_set_current(const void* stream);
int stream_synchronize(const void* stream);
void stream_free(void* stream);
int current_raw(int32_t device, void** raw);
int event_new(void** event);
int event_record(void* event, const void* stream);
int event_wait(void* event, const void* stream);
void event_free(void* event);
int pinned_like(const void* tensor, void** out);
int copy_async(void* to, const void* from, const void* stream);
int record_stream(const void* tensor, const void* stream);

// graph.cpp
int graph_new(void** graph);
int graph_begin(void* graph, const void* other);
int graph_end(void* graph);
int graph_replay(void* graph);
void graph_free(void* graph);

}  // namespace flatmin
