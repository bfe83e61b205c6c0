// Turns exceptions into answers of the C interface.
#pragma once

#include <c10/util/Exception.h>

#include "runtime.h"

namespace flatmin {

template <class Body>
int guarded(Body&& body) noexcept {
  const auto fail = [](const char* message) {
    runtime_error() = message;
    return 1;
  };
  try {
    body();
    return 0;
  } catch (const c10::Error& error) {
    return fail(error.what_without_backtrace());
  } catch (const std::exception& error) {
    return fail(error.what());
  } catch (...) {
    return fail("libtorch threw something that is not an exception");
  }
}

}  // namespace flatmin
