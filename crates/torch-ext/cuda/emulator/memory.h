// Memory of the emulated GPU: a range of addresses that only work of the GPU may touch, filled with NaN where nothing was written.
#pragma once

#include <cstddef>

namespace emulator {

constexpr size_t kMemory = size_t(4) << 30;

// Null where there is no room.
void* allocate(size_t bytes);
// False for what is not the start of an allocation.
bool release(void* address);
bool is_on_device(const void* address);
size_t allocated();

// Page-locked memory of the host.
void* allocate_pinned(size_t bytes);
bool release_pinned(void* address);
void register_pinned(void* address, size_t bytes);
bool is_pinned(const void* address);

// While one lives, device memory can be read and written. Outside of it a touch ends the process (SIGSEGV), as it would with a
// real GPU. For who holds the queues' lock.
class Access {
 public:
  Access();
  ~Access();
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;
};

}  // namespace emulator
