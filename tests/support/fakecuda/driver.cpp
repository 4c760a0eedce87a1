// The driver (libcuda.so.1: enumeration, contexts, virtual memory for expandable segments, modules for Triton) and
// NVML (libnvidia-ml.so.1). NVML numbers devices in the opposite order to CUDA's, to show who mixes the two up.
#include "fake.h"
#include <sys/mman.h>
#include <unistd.h>
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <cstdio>
using namespace fake;
#undef cuDeviceTotalMem
#undef cuMemGetAddressRange
#undef cuDeviceGetUuid

extern "C" {
CUresult cuInit(unsigned) {
  api("cuInit");
  return physical_count() ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}
CUresult cuDriverGetVersion(int* v) {
  *v = 13000;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetCount(int* n) {
  *n = devices();
  return CUDA_SUCCESS;
}
CUresult cuDeviceGet(CUdevice* d, int i) {
  if (i < 0 || i >= devices()) return CUDA_ERROR_INVALID_DEVICE;
  *d = i;
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetName(char* s, int n, CUdevice) {
  const char* v = getenv("FAKE_NAME");
  snprintf(s, n, "%s", v && *v ? v : "Fake H100");
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetUuid(CUuuid* u, CUdevice d) {
  uuid(physical(d), (unsigned char*)u);
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetUuid_v2(CUuuid* u, CUdevice d) {
  uuid(physical(d), (unsigned char*)u);
  return CUDA_SUCCESS;
}
CUresult cuDeviceTotalMem_v2(size_t* n, CUdevice d) {
  *n = total(physical(d));
  return CUDA_SUCCESS;
}
CUresult cuDeviceGetAttribute(int* v, CUdevice_attribute a, CUdevice d) {
  if (a == CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED) {
    *v = 1;
    return CUDA_SUCCESS;
  }
  return (CUresult)cudaDeviceGetAttribute(v, (cudaDeviceAttr)a, d);
}
CUresult cuDevicePrimaryCtxGetState(CUdevice, unsigned* f, int* a) {
  *f = 0;
  *a = 1;
  return CUDA_SUCCESS;
}
CUresult cuDevicePrimaryCtxRetain(CUcontext* c, CUdevice d) {
  *c = (CUcontext)(uintptr_t)(d + 1);
  return CUDA_SUCCESS;
}
CUresult cuCtxGetCurrent(CUcontext* c) {
  *c = (CUcontext)(uintptr_t)(current() + 1);
  return CUDA_SUCCESS;
}
CUresult cuCtxSetCurrent(CUcontext) { return CUDA_SUCCESS; }
CUresult cuCtxGetDevice(CUdevice* d) {
  *d = current();
  return CUDA_SUCCESS;
}
CUresult cuGetErrorString(CUresult e, const char** s) {
  *s = cudaGetErrorString((cudaError_t)e);
  return CUDA_SUCCESS;
}
CUresult cuGetErrorName(CUresult e, const char** s) {
  *s = cudaGetErrorName((cudaError_t)e);
  return CUDA_SUCCESS;
}
CUresult cuPointerGetAttribute(void* v, CUpointer_attribute a, CUdeviceptr p) {
  auto* m = find((void*)p);
  if (a == CU_POINTER_ATTRIBUTE_DEVICE_POINTER) {
    *(CUdeviceptr*)v = p;
    return m ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  }
  *(uint64_t*)v = 0;
  return CUDA_SUCCESS;
}
CUresult cuMemGetAddressRange_v2(CUdeviceptr* b, size_t* n, CUdeviceptr p) {
  const void* base;
  auto* m = find((void*)p, &base);
  if (!m) return CUDA_ERROR_INVALID_VALUE;
  if (b) *b = (CUdeviceptr)base;
  if (n) *n = m->size;
  return CUDA_SUCCESS;
}

// Virtual memory: physical pieces are counted, addresses are pages of the host.
struct Piece {
  size_t size;
  int device;
};
CUresult cuMemGetAllocationGranularity(size_t* g, const CUmemAllocationProp*, CUmemAllocationGranularity_flags) {
  *g = 2 << 20;
  return CUDA_SUCCESS;
}
CUresult cuMemAddressReserve(CUdeviceptr* p, size_t n, size_t, CUdeviceptr, unsigned long long) {
  void* q = mmap(nullptr, n, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (q == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  *p = (CUdeviceptr)q;
  return CUDA_SUCCESS;
}
CUresult cuMemAddressFree(CUdeviceptr p, size_t n) {
  munmap((void*)p, n);
  return CUDA_SUCCESS;
}
CUresult cuMemCreate(CUmemGenericAllocationHandle* h, size_t n, const CUmemAllocationProp* a, unsigned long long) {
  GUARD;
  api("cuMemCreate");
  if (!reserve(a->location.id, n)) return CUDA_ERROR_OUT_OF_MEMORY;
  *h = (CUmemGenericAllocationHandle) new Piece{n, a->location.id};
  return CUDA_SUCCESS;
}
CUresult cuMemRelease(CUmemGenericAllocationHandle h) {
  GUARD;
  auto* p = (Piece*)h;
  release(p->device, p->size);
  delete p;
  return CUDA_SUCCESS;
}
CUresult cuMemMap(CUdeviceptr p, size_t n, size_t, CUmemGenericAllocationHandle h, unsigned long long) {
  GUARD;
  api("cuMemMap");
  remember((void*)p, n, ((Piece*)h)->device);
  mprotect((void*)p, n, PROT_READ | PROT_WRITE);
  return CUDA_SUCCESS;
}
CUresult cuMemUnmap(CUdeviceptr p, size_t n) {
  GUARD;
  api("cuMemUnmap");
  for (char* q = (char*)p; q < (char*)p + n; q += 2 << 20) forget(q);
  madvise((void*)p, n, MADV_DONTNEED);
  mprotect((void*)p, n, PROT_NONE);
  return CUDA_SUCCESS;
}
CUresult cuMemSetAccess(CUdeviceptr, size_t, const CUmemAccessDesc*, size_t) { return CUDA_SUCCESS; }
CUresult cuMemsetD32Async(CUdeviceptr d, unsigned v, size_t n, CUstream) {
  for (size_t i = 0; i < n; i++) ((unsigned*)d)[i] = v;
  return CUDA_SUCCESS;
}

// Modules, as Triton loads them: a function is a name to be counted.
CUresult cuModuleLoadData(CUmodule* m, const void*) {
  *m = (CUmodule)1;
  return CUDA_SUCCESS;
}
CUresult cuModuleLoadDataEx(CUmodule* m, const void*, unsigned, CUjit_option*, void**) {
  *m = (CUmodule)1;
  return CUDA_SUCCESS;
}
CUresult cuModuleLoad(CUmodule* m, const char*) {
  *m = (CUmodule)1;
  return CUDA_SUCCESS;
}
CUresult cuLinkCreate_v2(unsigned, CUjit_option*, void**, CUlinkState*) { return CUDA_ERROR_NOT_SUPPORTED; }
CUresult cuLinkAddData_v2(CUlinkState, CUjitInputType, void*, size_t, const char*, unsigned, CUjit_option*, void**) {
  return CUDA_ERROR_NOT_SUPPORTED;
}
CUresult cuLinkComplete(CUlinkState, void**, size_t*) { return CUDA_ERROR_NOT_SUPPORTED; }
CUresult cuLaunchCooperativeKernel(CUfunction f, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                                   CUstream s, void**) {
  return (CUresult)launch((Kernel*)f, (cudaStream_t)s);
}
CUresult cuModuleUnload(CUmodule) { return CUDA_SUCCESS; }
CUresult cuModuleGetFunction(CUfunction* f, CUmodule, const char* n) {
  *f = (CUfunction)named(std::string("triton::") + n);
  return CUDA_SUCCESS;
}
CUresult cuFuncGetAttribute(int* v, CUfunction_attribute a, CUfunction) {
  *v = a == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : a == CU_FUNC_ATTRIBUTE_NUM_REGS ? 32 : 0;
  return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction, CUfunction_attribute, int) { return CUDA_SUCCESS; }
CUresult cuFuncSetCacheConfig(CUfunction, CUfunc_cache) { return CUDA_SUCCESS; }
CUresult cuCtxGetLimit(size_t* n, CUlimit) {
  *n = 1 << 20;
  return CUDA_SUCCESS;
}
CUresult cuCtxSetLimit(CUlimit, size_t) { return CUDA_SUCCESS; }
CUresult cuOccupancyMaxActiveClusters(int* n, CUfunction, const CUlaunchConfig*) {
  *n = 2;
  return CUDA_SUCCESS;
}
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* n, CUfunction, int, size_t) {
  *n = 2;
  return CUDA_SUCCESS;
}
CUresult cuLaunchKernel(CUfunction f, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream s,
                        void**, void**) {
  return (CUresult)launch((Kernel*)f, (cudaStream_t)s);
}
CUresult cuLaunchKernelEx(const CUlaunchConfig* c, CUfunction f, void**, void**) {
  return (CUresult)launch((Kernel*)f, (cudaStream_t)c->hStream);
}
CUresult cuTensorMapEncodeTiled(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                                const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                                CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  return CUDA_SUCCESS;
}

// --- NVML. FAKE_NVML: ok, missing (init fails), lost (queries fail), hang; or @FILE, read at every call.
// --------------
static int trouble(bool init) {
  const char* v = getenv("FAKE_NVML");
  char b[32] = "";
  if (v && *v == '@') {
    if (FILE* f = fopen(v + 1, "r")) {
      if (!fgets(b, sizeof b, f)) *b = 0;
      fclose(f);
    }
    b[strcspn(b, "\n")] = 0;
    v = b;
  }
  std::string s = v ? v : "";
  if (s == "missing") return init ? 9 : 1;
  if (s == "lost" && !init) return 15;
  if (s == "hang") sleep(100000);
  return 0;
}
#define ASK \
  if (int t = trouble(false)) return t
static int count() { return physical_count(); }
static int cuda_of(void* h) { return count() - (int)(uintptr_t)h; }  // handle i+1 is CUDA's device count-1-i
static void* handle_of(int physical) { return (void*)(uintptr_t)(count() - physical); }
int nvmlInit_v2() {
  api("nvmlInit");
  return trouble(true);
}
int nvmlInitWithFlags(unsigned) { return trouble(true); }
int nvmlInit() { return trouble(true); }
int nvmlShutdown() { return 0; }
const char* nvmlErrorString(int e) {
  return e == 0    ? "Success"
         : e == 9  ? "Driver Not Loaded"
         : e == 15 ? "GPU is lost"
         : e == 3  ? "Not Supported"
         : e == 6  ? "Not Found"
         : e == 1  ? "Uninitialized"
                   : "Unknown Error";
}
int nvmlSystemGetDriverVersion(char* s, unsigned n) {
  ASK;
  snprintf(s, n, "580.00");
  return 0;
}
int nvmlSystemGetCudaDriverVersion_v2(int* v) {
  *v = 13000;
  return 0;
}
int nvmlDeviceGetCount_v2(unsigned* n) {
  ASK;
  *n = count();
  return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void** h) {
  ASK;
  if ((int)i >= count()) return 2;
  *h = (void*)(uintptr_t)(i + 1);
  return 0;
}
int nvmlDeviceGetHandleByUUID(const char* u, void** h) {
  ASK;
  for (int p = 0; p < count(); p++)
    if (uuid_text(p) == u) {
      *h = handle_of(p);
      return 0;
    }
  return 6;
}
int nvmlDeviceGetHandleByPciBusId_v2(const char* b, void** h) {
  ASK;
  int p = -1;
  const char* c = strchr(b, ':');
  if (c) sscanf(c + 1, "%x", (unsigned*)&p);
  if (p < 1 || p > count()) return 6;
  *h = handle_of(p - 1);
  return 0;
}
int nvmlDeviceGetUUID(void* h, char* s, unsigned n) {
  ASK;
  snprintf(s, n, "%s", uuid_text(cuda_of(h)).c_str());
  return 0;
}
int nvmlDeviceGetName(void*, char* s, unsigned n) {
  ASK;
  snprintf(s, n, "Fake H100");
  return 0;
}
int nvmlDeviceGetMemoryInfo(void* h, unsigned long long* m) {
  ASK;
  int p = cuda_of(h);
  m[0] = total(p);
  m[2] = used(p);
  m[1] = m[0] - m[2];
  return 0;
}
int nvmlDeviceGetUtilizationRates(void*, unsigned* u) {
  ASK;
  if (mig()) return 3;
  u[0] = 50;
  u[1] = 10;
  return 0;
}
int nvmlDeviceGetTemperature(void*, int, unsigned* t) {
  ASK;
  if (mig()) return 3;
  *t = 40;
  return 0;
}
int nvmlDeviceGetPowerUsage(void*, unsigned* t) {
  ASK;
  if (mig()) return 3;
  *t = 100000;
  return 0;
}
int nvmlDeviceGetNvLinkRemoteDeviceType(void*, unsigned, int*) { return 3; }
int nvmlDeviceGetNvLinkRemotePciInfo_v2(void*, unsigned, void*) { return 3; }
int nvmlDeviceGetGpuFabricInfoV(void*, void*) { return 3; }
int nvmlDeviceGetP2PStatus(void*, void*, int, int* s) {
  *s = 1;
  return 0;
}
struct Process {
  unsigned pid;
  unsigned long long used;
  unsigned gpu, compute;
};
int nvmlDeviceGetComputeRunningProcesses_v3(void* h, unsigned* n, Process* out) {
  ASK;
  auto all = processes(cuda_of(h));
  bool room = out && *n >= all.size();
  *n = (unsigned)all.size();
  if (!room) return all.empty() ? 0 : 7;
  for (size_t i = 0; i < all.size(); i++) out[i] = {(unsigned)all[i].first, all[i].second, ~0u, ~0u};
  return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v2(void* h, unsigned* n, Process* out) {
  return nvmlDeviceGetComputeRunningProcesses_v3(h, n, out);
}
int nvmlDeviceGetComputeRunningProcesses(void*, unsigned* n, void*) {
  *n = 0;
  return 0;
}  // torch, for its out-of-memory message
}
