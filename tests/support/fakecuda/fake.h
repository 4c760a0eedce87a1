// Shared state of the fake CUDA runtime, driver, NVML, cuBLAS and cuDNN. One global lock guards everything.
#pragma once
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

namespace fake {
using Ptrs = std::vector<const void*>;

struct Kernel {      // a kernel, or a call of a library that launches something
  std::string name;  // mangled, or "cudnn::…", "cublas::…"
  uint64_t eager = 0, captured = 0, replayed = 0;
};
struct Node {  // what a stream does: launched at once, or recorded into a graph
  enum Kind { KERNEL, COPY, SET, HOST, EMPTY } kind = EMPTY;
  Kernel* kernel = nullptr;
  void* dst = nullptr;
  const void* src = nullptr;
  size_t bytes = 0;
  int value = 0;
  cudaHostFn_t fn = nullptr;
  void* data = nullptr;
  double micros = 0;  // virtual duration
  Ptrs ptrs;          // device memory it is known to touch (library calls, copies, sets)
  std::vector<Node*> deps;
};
struct Stream;
// Vector clocks: how much of each stream's work is sure to be over. Work on a stream comes after all before it there,
// after the events that the stream waited for, and after what the host had seen to be over.
using Clock = std::map<Stream*, uint64_t>;
struct UserObject {
  void* ptr;
  cudaHostFn_t destroy;
  int refs;
};
struct Graph {
  std::vector<Node*> nodes;
  std::vector<std::pair<UserObject*, int>> objects;
  std::vector<const void*> segments;
};
struct Exec {
  std::vector<Node> nodes;
  std::vector<const void*> segments;
  std::set<const void*> memory;  // addresses that it is known to use
  int device;
  uint64_t launches = 0;
};
struct Capture {
  unsigned long long id;
  cudaStreamCaptureMode mode;
  uint64_t thread;
  Graph* graph;
  Stream* origin;
  std::set<Stream*> streams;
  bool valid = true;
};
struct Stream {
  int device = 0;
  bool blocking = true;
  int priority = 0;
  double end = 0;
  Capture* capture = nullptr;
  std::vector<Node*> deps;
  int number = 0;  // in the order of creation; 0 is the legacy stream
  Clock clock;
};
struct Event {
  int device = 0;
  bool timing = true, recorded = false;
  double at = 0;
  unsigned long long capture = 0;
  std::vector<Node*> deps;
  Clock clock;
};
struct Memory {
  size_t size;
  int device;
};  // device -1: pinned host memory

extern std::recursive_mutex lock;
int devices();             // visible ones
int physical(int device);  // of a visible one
int physical_count();
size_t total(int physical);
size_t used(int physical);
std::vector<std::pair<int, size_t>> processes(int physical);
bool mig();
void uuid(int physical, unsigned char* out);
std::string uuid_text(int physical);
bool reserve(int device, size_t bytes);  // accounts for device memory; false: none left
void release(int device, size_t bytes);
const Memory* find(const void* p, const void** base = nullptr);
void remember(void* p, size_t n, int device);
void forget(void* p);
void note(const char* kind, const std::string& text);  // what is wrong, into the log
Kernel* named(const std::string& name);
void api(const char* name);  // counts a call
cudaError_t launch(Kernel* k, cudaStream_t stream, Ptrs ptrs = {}, double micros = -1);
int current();
}  // namespace fake
#define GUARD std::lock_guard<std::recursive_mutex> guard_(fake::lock)
