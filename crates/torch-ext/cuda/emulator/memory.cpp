#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

namespace emulator {
namespace {

constexpr size_t kPage = size_t(2) << 20;
// NaN in every format of floating point; no index and no class.
constexpr int kNeverWritten = 0xff;

struct Region {
  char* base;
  std::map<char*, size_t> taken;
  size_t bytes = 0;
  char* end;  // behind the last byte that was ever handed out
  int open = 0;

  Region() {
    void* range = mmap(nullptr, 2 * kMemory, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) std::abort();
    const auto start = (reinterpret_cast<uintptr_t>(range) + kPage - 1) / kPage * kPage;
    base = end = reinterpret_cast<char*>(start);
    madvise(base, kMemory, MADV_HUGEPAGE);
  }

  // The first gap that has room.
  char* find(size_t wanted) const {
    char* place = base;
    for (const auto& [start, size] : taken) {
      if (place + wanted <= start) return place;
      place = start + size;
    }
    return place + wanted <= base + kMemory ? place : nullptr;
  }

  void protect(int protection) {
    if (mprotect(base, end - base, protection) != 0) std::abort();
  }
};

Region& region() {
  static Region& region = *new Region;
  return region;
}

struct Pinned {
  std::mutex lock;
  std::map<const char*, size_t> ranges;
};

Pinned& pinned() {
  static Pinned& pinned = *new Pinned;
  return pinned;
}

}  // namespace

void* allocate(size_t bytes) {
  Region& memory = region();
  const size_t wanted = std::max(kPage, (bytes + kPage - 1) / kPage * kPage);
  char* const place = memory.find(wanted);
  if (place == nullptr) return nullptr;
  memory.taken[place] = wanted;
  memory.bytes += wanted;
  memory.end = std::max(memory.end, place + wanted);
  const Access access;
  std::memset(place, kNeverWritten, wanted);
  return place;
}

bool release(void* address) {
  Region& memory = region();
  const auto found = memory.taken.find(static_cast<char*>(address));
  if (found == memory.taken.end()) return false;
  memory.bytes -= found->second;
  madvise(found->first, found->second, MADV_DONTNEED);
  memory.taken.erase(found);
  return true;
}

bool is_on_device(const void* address) {
  const Region& memory = region();
  return address >= memory.base && address < memory.base + kMemory;
}

size_t allocated() { return region().bytes; }

void* allocate_pinned(size_t bytes) {
  void* const address = std::aligned_alloc(4096, (std::max<size_t>(bytes, 1) + 4095) / 4096 * 4096);
  if (address == nullptr) return nullptr;
  std::memset(address, kNeverWritten, bytes);
  register_pinned(address, bytes);
  return address;
}

bool release_pinned(void* address) {
  const std::lock_guard guard(pinned().lock);
  return pinned().ranges.erase(static_cast<const char*>(address)) == 1;
}

void register_pinned(void* address, size_t bytes) {
  const std::lock_guard guard(pinned().lock);
  pinned().ranges[static_cast<const char*>(address)] = bytes;
}

bool is_pinned(const void* address) {
  const std::lock_guard guard(pinned().lock);
  const auto* const byte = static_cast<const char*>(address);
  auto after = pinned().ranges.upper_bound(byte);
  if (after == pinned().ranges.begin()) return false;
  --after;
  return byte < after->first + after->second;
}

Access::Access() {
  if (region().open++ == 0) region().protect(PROT_READ | PROT_WRITE);
}

Access::~Access() {
  if (--region().open == 0) region().protect(PROT_NONE);
}

}  // namespace emulator
