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
int set_device(int32_t index);
int synchronize(int32_t index);
int memory(int32_t index, flatmin_memory* out);
int reset_memory_peak(int32_t index);
int empty_cache();
int set_switches(const flatmin_switches* switches);

// stream.cpp
int stream_from_pool(int32_t device, int32_t high_priority, void** stream);
int stream_current(int32_t device, void** stream);
int stream_set_current(const void* stream);
int stream_raw(const void* stream, void** raw);
int stream_synchronize(const void* stream);
void stream_free(void* stream);
int current_raw(int32_t device, void** raw);
int event_new(int32_t timing, void** event);
int event_record(void* event, const void* stream);
int event_wait(void* event, const void* stream);
int event_query(const void* event, int32_t* done);
int event_synchronize(const void* event);
int event_elapsed(const void* start, const void* end, double* milliseconds);
void event_free(void* event);
int pinned_like(const void* tensor, void** out);
int copy_async(void* to, const void* from, const void* stream);
int record_stream(const void* tensor, const void* stream);

// graph.cpp
int generator_new(int32_t device, uint64_t seed, void** generator);
int seed(uint64_t seed);
int graph_new(void** graph);
int graph_register_generator(void* graph, const void* generator);
int graph_begin(void* graph, void* share);
int graph_end(void* graph);
int graph_replay(void* graph);
int graph_reset(void* graph);
void graph_free(void* graph);

}  // namespace flatmin
