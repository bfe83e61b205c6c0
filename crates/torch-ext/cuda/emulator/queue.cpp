#include "queue.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "memory.h"

namespace emulator {
namespace {

using Clock = std::chrono::steady_clock;
using Works = std::shared_ptr<const std::vector<Work>>;

thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;
thread_local int thread_device = 0;

struct Capture {
  unsigned long long id;
  cudaStream_t origin;
  cudaStreamCaptureMode mode;
  std::thread::id thread;
  std::vector<Work> works;
  // How much of each stream's part its origin does not wait for yet.
  std::map<cudaStream_t, size_t> unjoined;
  bool valid = true;
};

struct Stream {
  int device = thread_device;
  bool eager = false;
  std::deque<Work> queue;
  size_t queued = 0;
  size_t done = 0;
  std::shared_ptr<Capture> capture;
};

struct Event {
  int device = thread_device;
  // Where its stream stood; or, in a capture, how much of the stream's part came before.
  std::shared_ptr<Stream> stream;
  size_t position = 0;
  std::shared_ptr<Clock::time_point> reached;
  std::weak_ptr<Capture> capture;
  cudaStream_t captured_in = nullptr;
  bool captured = false;
};

// Writes them at the end of the process.
struct Kept {
  Counts counts;

  ~Kept() {
    const char* const path = std::getenv("FLATMIN_EMULATED_GPU_COUNTS");
    std::FILE* const file = path == nullptr ? nullptr : std::fopen(path, "w");
    if (file == nullptr) return;
    std::fprintf(file, "{\"queued\":%zu,\"waits\":%zu,\"recordings\":%zu,\"replays\":%zu,\"recorded\":{", counts.queued,
                 counts.waits, counts.recordings, counts.replays);
    const char* separator = "";
    for (const auto& [name, count] : counts.recorded) {
      std::fprintf(file, "%s\"%s\":%zu", separator, name.c_str(), count);
      separator = ",";
    }
    std::fputs("}}\n", file);
    std::fclose(file);
  }
};

struct State {
  std::recursive_mutex lock;
  std::unordered_map<cudaStream_t, std::shared_ptr<Stream>> streams;
  std::map<int, std::shared_ptr<Stream>> null_streams;
  std::vector<std::shared_ptr<Capture>> captures;
  unsigned long long next_id = 1;
};

State& state() {
  static State& state = *new State;
  return state;
}

// Whether streams of this kind run at once what they are given.
bool are_eager(const char* kind) {
  const char* const wanted = std::getenv("FLATMIN_EMULATED_GPU_EAGER");
  return wanted != nullptr && std::strcmp(wanted, kind) == 0;
}

std::shared_ptr<Stream> find(cudaStream_t stream) {
  if (stream == nullptr) {
    auto& own = state().null_streams[thread_device];
    if (own == nullptr) {
      own = std::make_shared<Stream>();
      own->eager = are_eager("null");
    }
    return own;
  }
  const auto found = state().streams.find(stream);
  return found == state().streams.end() ? nullptr : found->second;
}

Event& event_of(cudaEvent_t event) { return *reinterpret_cast<Event*>(event); }

// Runs a stream's work up to a position. Work that waits for another stream runs that first.
void run(Stream& stream, size_t position) {
  while (stream.done < position) {
    const Work work = std::move(stream.queue.front());
    stream.queue.pop_front();
    work();
    ++stream.done;
  }
}

// After something was queued.
void settle(Stream& stream) {
  if (stream.eager) run(stream, stream.queued);
}

// The host waits, if there is anything to wait for.
void wait(Stream& stream, size_t position) {
  if (stream.done >= position) return;
  ++counts().waits;
  const Access access;
  run(stream, position);
}

cudaError_t invalidate(Capture& capture, cudaError_t error) {
  capture.valid = false;
  return error;
}

}  // namespace

Counts& counts() {
  static Kept kept;
  return kept.counts;
}

std::recursive_mutex& lock() { return state().lock; }

int current_device() { return thread_device; }

void set_device(int device) { thread_device = device; }

cudaError_t stream_create(cudaStream_t* stream) {
  auto made = std::make_shared<Stream>();
  made->eager = are_eager("others");
  *stream = reinterpret_cast<cudaStream_t>(made.get());
  state().streams[*stream] = std::move(made);
  return cudaSuccess;
}

cudaError_t stream_destroy(cudaStream_t stream) {
  const auto found = find(stream);
  if (found == nullptr || stream == nullptr) return cudaErrorInvalidResourceHandle;
  const Access access;
  run(*found, found->queued);
  state().streams.erase(stream);
  return cudaSuccess;
}

cudaError_t enqueue(cudaStream_t stream, const std::string& name, Work work) {
  const std::lock_guard guard(lock());
  const auto found = find(stream);
  if (found == nullptr) return cudaErrorInvalidResourceHandle;
  if (found->capture != nullptr) {
    found->capture->works.push_back(std::move(work));
    ++found->capture->unjoined[stream];
    ++counts().recorded[name];
    return cudaSuccess;
  }
  found->queue.push_back([work = std::move(work)] {
    const Access access;
    work();
  });
  ++found->queued;
  ++counts().queued;
  settle(*found);
  return cudaSuccess;
}

cudaError_t launch(cudaStream_t stream, const std::string& name, Work work) {
  const std::lock_guard guard(lock());
  const auto found = find(stream);
  if (found == nullptr || found->device != thread_device) return cudaErrorInvalidResourceHandle;
  return enqueue(stream, name, std::move(work));
}

cudaError_t synchronize(cudaStream_t stream) {
  const auto found = find(stream);
  if (found == nullptr) return cudaErrorInvalidResourceHandle;
  if (found->capture != nullptr) return invalidate(*found->capture, cudaErrorStreamCaptureUnsupported);
  wait(*found, found->queued);
  return cudaSuccess;
}

cudaError_t synchronize_device() {
  if (const cudaError_t error = allowed(); error != cudaSuccess) return error;
  for (const auto& [handle, stream] : state().streams) wait(*stream, stream->queued);
  for (const auto& [device, stream] : state().null_streams) wait(*stream, stream->queued);
  return cudaSuccess;
}

cudaError_t stream_query(cudaStream_t stream) {
  const auto found = find(stream);
  if (found == nullptr) return cudaErrorInvalidResourceHandle;
  if (found->capture != nullptr) return invalidate(*found->capture, cudaErrorStreamCaptureUnsupported);
  if (found->done == found->queued) return cudaSuccess;
  run(*found, found->queued);
  return cudaErrorNotReady;
}

cudaError_t event_create(cudaEvent_t* event) {
  *event = reinterpret_cast<cudaEvent_t>(new Event);
  return cudaSuccess;
}

cudaError_t event_destroy(cudaEvent_t event) {
  delete &event_of(event);
  return cudaSuccess;
}

cudaError_t event_record(cudaEvent_t event, cudaStream_t stream) {
  const auto found = find(stream);
  Event& own = event_of(event);
  if (found == nullptr || found->device != own.device) return cudaErrorInvalidResourceHandle;
  own.stream = found;
  own.captured = found->capture != nullptr;
  own.capture = found->capture;
  own.captured_in = stream;
  own.position = own.captured ? found->capture->unjoined[stream] : found->queued + 1;
  if (own.captured) return cudaSuccess;
  own.reached = std::make_shared<Clock::time_point>();
  found->queue.push_back([reached = own.reached] { *reached = Clock::now(); });
  ++found->queued;
  settle(*found);
  return cudaSuccess;
}

cudaError_t event_wait(cudaStream_t stream, cudaEvent_t event) {
  const auto found = find(stream);
  if (found == nullptr) return cudaErrorInvalidResourceHandle;
  const Event& own = event_of(event);
  if (own.captured) {
    const auto capture = own.capture.lock();
    if (capture == nullptr) return cudaErrorCapturedEvent;
    if (found->capture != nullptr && found->capture != capture) return invalidate(*capture, cudaErrorStreamCaptureMerge);
    // Part of the capture from here on.
    found->capture = capture;
    capture->unjoined[stream] += 1;
    if (stream == capture->origin && own.position == capture->unjoined[own.captured_in])
      capture->unjoined[own.captured_in] = 0;
    return cudaSuccess;
  }
  if (own.stream == nullptr) return cudaSuccess;
  if (found->capture != nullptr) return invalidate(*found->capture, cudaErrorStreamCaptureIsolation);
  found->queue.push_back([other = own.stream, position = own.position] { run(*other, position); });
  ++found->queued;
  settle(*found);
  return cudaSuccess;
}

cudaError_t event_synchronize(cudaEvent_t event) {
  const Event& own = event_of(event);
  if (own.captured) return cudaErrorCapturedEvent;
  if (own.stream == nullptr) return cudaSuccess;
  wait(*own.stream, own.position);
  return cudaSuccess;
}

cudaError_t event_query(cudaEvent_t event) {
  if (const cudaError_t error = allowed(); error != cudaSuccess) return error;
  const Event& own = event_of(event);
  if (own.captured) return cudaErrorCapturedEvent;
  if (own.stream == nullptr || own.stream->done >= own.position) return cudaSuccess;
  return cudaErrorNotReady;
}

cudaError_t event_elapsed(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  for (const cudaEvent_t event : {start, end})
    if (event_of(event).reached == nullptr) return cudaErrorInvalidResourceHandle;
  *milliseconds = std::chrono::duration<float, std::milli>(*event_of(end).reached - *event_of(start).reached).count();
  return cudaSuccess;
}

cudaError_t capture_begin(cudaStream_t stream, cudaStreamCaptureMode mode) {
  const auto found = find(stream);
  if (found == nullptr) return cudaErrorInvalidResourceHandle;
  if (stream == nullptr) return cudaErrorStreamCaptureUnsupported;
  if (found->capture != nullptr) return cudaErrorIllegalState;
  auto capture = std::make_shared<Capture>();
  capture->id = state().next_id++;
  capture->origin = stream;
  capture->mode = mode;
  capture->thread = std::this_thread::get_id();
  found->capture = capture;
  state().captures.push_back(std::move(capture));
  return cudaSuccess;
}

cudaError_t capture_end(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  const auto found = find(stream);
  if (found == nullptr || found->capture == nullptr) return cudaErrorIllegalState;
  const auto capture = found->capture;
  if (capture->origin != stream) return invalidate(*capture, cudaErrorStreamCaptureUnmatched);
  const bool own = capture->thread == std::this_thread::get_id();
  if (capture->mode != cudaStreamCaptureModeRelaxed && !own) return invalidate(*capture, cudaErrorStreamCaptureWrongThread);
  bool joined = true;
  for (const auto& [member, count] : capture->unjoined) joined = joined && (member == stream || count == 0);
  for (const auto& [handle, member] : state().streams)
    if (member->capture == capture) member->capture = nullptr;
  std::erase(state().captures, capture);
  if (!capture->valid) return cudaErrorStreamCaptureInvalidated;
  if (!joined) return cudaErrorStreamCaptureUnjoined;
  ++counts().recordings;
  *graph = reinterpret_cast<cudaGraph_t>(new Works(std::make_shared<std::vector<Work>>(std::move(capture->works))));
  return cudaSuccess;
}

cudaError_t capture_info(cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long* id) {
  const auto found = find(stream);
  if (found == nullptr) return cudaErrorInvalidResourceHandle;
  const Capture* const capture = found->capture.get();
  *status = capture == nullptr  ? cudaStreamCaptureStatusNone
            : capture->valid ? cudaStreamCaptureStatusActive
                             : cudaStreamCaptureStatusInvalidated;
  if (id != nullptr) *id = capture == nullptr ? 0 : capture->id;
  return cudaSuccess;
}

bool capturing() { return !state().captures.empty(); }

void exchange_mode(cudaStreamCaptureMode* mode) { std::swap(*mode, thread_mode); }

cudaError_t allowed() {
  if (thread_mode == cudaStreamCaptureModeRelaxed) return cudaSuccess;
  for (const auto& capture : state().captures) {
    const bool own = capture->thread == std::this_thread::get_id() && capture->mode != cudaStreamCaptureModeRelaxed;
    const bool others =
        thread_mode == cudaStreamCaptureModeGlobal && capture->mode == cudaStreamCaptureModeGlobal;
    if (own || others) return invalidate(*capture, cudaErrorStreamCaptureUnsupported);
  }
  return cudaSuccess;
}

size_t graph_size(cudaGraph_t graph) { return (*reinterpret_cast<Works*>(graph))->size(); }

void graph_destroy(cudaGraph_t graph) { delete reinterpret_cast<Works*>(graph); }

void graph_instantiate(cudaGraphExec_t* exec, cudaGraph_t graph) {
  *exec = reinterpret_cast<cudaGraphExec_t>(new Works(*reinterpret_cast<Works*>(graph)));
}

void graph_exec_destroy(cudaGraphExec_t exec) { delete reinterpret_cast<Works*>(exec); }

cudaError_t graph_launch(cudaGraphExec_t exec, cudaStream_t stream) {
  ++counts().replays;
  return enqueue(stream, "graph", [works = *reinterpret_cast<Works*>(exec)] {
    for (const Work& work : *works) work();
  });
}

}  // namespace emulator
