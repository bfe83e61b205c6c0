// A caching CPU allocator for libtorch. A training step frees and asks for the same large blocks over and over; the
// C library gives each back to the system, so that every activation is page-faulted and zeroed anew. Here blocks of
// 256 KiB and more are kept on a list for each size class and lie on huge pages; smaller ones go to the C library.
#include "shim.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>

#include <sys/mman.h>

#include <bit>
#include <cstdlib>
#include <mutex>
#include <new>
#include <unordered_map>
#include <vector>

namespace {

constexpr size_t kSmall = size_t{256} << 10;
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kPage = 4096;
constexpr size_t kAlignment = 64;

// Sizes are rounded up to one of eight classes in each power of two: at most 12.5 % is lost.
size_t size_class(size_t bytes) {
  const size_t step = std::bit_floor(bytes) >> 3;
  return (bytes + step - 1) / step * step;
}

class Pool {
 public:
  void* take(size_t bytes) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      auto& list = free_[bytes];
      if (!list.empty()) {
        void* block = list.back();
        list.pop_back();
        return block;
      }
    }
    void* block = map(bytes);
    if (block == nullptr) {
      trim();
      block = map(bytes);
    }
    if (block != nullptr) {
      const std::lock_guard<std::mutex> lock(mutex_);
      sizes_[block] = bytes;
    }
    return block;
  }

  // Takes a block back; false if it is not one of the pool's.
  bool give(void* block) {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = sizes_.find(block);
    if (found == sizes_.end()) {
      return false;
    }
    free_[found->second].push_back(block);
    return true;
  }

  // Returns all cached blocks to the system.
  void trim() {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto& [bytes, list] : free_) {
      for (void* block : list) {
        sizes_.erase(block);
        std::free(block);
      }
      list.clear();
    }
  }

 private:
  static void* map(size_t bytes) {
    void* block = nullptr;
    const bool huge = bytes >= kHugePage;
    if (posix_memalign(&block, huge ? kHugePage : kPage, bytes) != 0) {
      return nullptr;
    }
    if (huge) {
      // Only whole huge pages: the tail would take memory that nobody asked for. Advice may be refused; that is fine.
      madvise(block, bytes & ~(kHugePage - 1), MADV_HUGEPAGE);
    }
    return block;
  }

  std::mutex mutex_;
  std::unordered_map<size_t, std::vector<void*>> free_;
  std::unordered_map<void*, size_t> sizes_;
};

// Never destroyed: tensors that outlive main() still come back to it.
Pool& pool() {
  static Pool* instance = new Pool();
  return *instance;
}

// One deleter for both kinds of block, as libtorch demands of an allocator that is used raw. The pool's blocks start at a
// page; other pointers need no look-up.
void release(void* block) {
  const bool may_be_pooled = reinterpret_cast<uintptr_t>(block) % kPage == 0;
  if (!(may_be_pooled && pool().give(block))) {
    std::free(block);
  }
}

class CachingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device device(c10::DeviceType::CPU);
    if (bytes == 0) {
      return {nullptr, nullptr, &release, device};
    }
    if (bytes < kSmall) {
      void* block = nullptr;
      TORCH_CHECK(posix_memalign(&block, kAlignment, bytes) == 0, "not enough memory: ", bytes, " bytes were asked for");
      return {block, block, &release, device};
    }
    void* block = pool().take(size_class(bytes));
    TORCH_CHECK(block != nullptr, "not enough memory: ", bytes, " bytes were asked for");
    return {block, block, &release, device};
  }

  c10::DeleterFnPtr raw_deleter() const override {
    return &release;
  }

  void copy_data(void* target, const void* source, size_t count) const override {
    default_copy_data(target, source, count);
  }
};

}  // namespace

void flatmin_install_allocator(void) {
  static std::once_flag once;
  std::call_once(once, [] { c10::SetCPUAllocator(new CachingAllocator(), 1); });
}
