// The driver, as far as libtorch asks it for anything: which devices have been used.
#include <cuda.h>

#define EMULATED extern "C" __attribute__((visibility("default")))

EMULATED CUresult cuDevicePrimaryCtxGetState(CUdevice, unsigned* flags, int* active) {
  *flags = 0;
  *active = 1;
  return CUDA_SUCCESS;
}

EMULATED CUresult cuGetErrorString(CUresult, const char** text) {
  *text = "the emulated GPU's driver can only be asked for devices";
  return CUDA_SUCCESS;
}

