// The CUDA runtime. Work is "done" when it is queued (copies and sets really, kernels not at all); when it counts as
// finished is a virtual time per stream, so that queries, waits and events behave as on a device that lags behind.
#include "fake.h"
#include <cxxabi.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <memory>
#include <pthread.h>

namespace fake {
std::recursive_mutex lock;

// --- settings -------------------------------------------------------------------------------------------
static const char* text(const char* name, const char* otherwise = "") {
  const char* v = getenv(name);
  return v && *v ? v : otherwise;
}
static long number(const char* name, long otherwise) {
  const char* v = getenv(name);
  return v && *v ? atol(v) : otherwise;
}
static double now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}
static uint64_t self() { return (uint64_t)pthread_self(); }

int physical_count() { return (int)number("FAKE_DEVICES", 1); }
bool mig() { return number("FAKE_MIG", 0) != 0; }
void uuid(int p, unsigned char* out) {
  for (int i = 0; i < 16; i++) out[i] = (unsigned char)(0x10 * (p + 1) + i);
}
std::string uuid_text(int p) {
  unsigned char u[16];
  uuid(p, u);
  char b[64];
  char* at = b;
  for (int i = 0; i < 16; i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) *at++ = '-';
    at += sprintf(at, "%02x", u[i]);
  }
  return (mig() ? "MIG-" : "GPU-") + std::string(b);
}
static std::vector<int> visible() {  // CUDA_VISIBLE_DEVICES as the driver reads it
  std::vector<int> out;
  const char* v = getenv("CUDA_VISIBLE_DEVICES");
  if (!v) {
    for (int i = 0; i < (mig() ? std::min(1, physical_count()) : physical_count()); i++) out.push_back(i);
    return out;
  }
  std::string s = v;
  size_t at = 0;
  while (at <= s.size() && !s.empty()) {
    size_t e = s.find(',', at);
    std::string w = s.substr(at, e == std::string::npos ? e : e - at);
    int hit = -1;
    if (!w.empty() && w.find_first_not_of("0123456789") == std::string::npos) {
      int i = atoi(w.c_str());
      if (i < physical_count() && !mig()) hit = i;
    } else if (w.size() > 4)
      for (int i = 0; i < physical_count(); i++)
        if (uuid_text(i).compare(0, w.size(), w) == 0) hit = i;
    if (hit < 0 || std::count(out.begin(), out.end(), hit)) break;  // the first unknown name ends the list
    out.push_back(hit);
    if (e == std::string::npos || (mig() && out.size() == 1)) break;
    at = e + 1;
  }
  return out;
}
static const std::vector<int>& shown() {
  static auto* v = new std::vector<int>(visible());
  return *v;
}
int devices() { return (int)shown().size(); }
int physical(int d) { return d >= 0 && d < devices() ? shown()[d] : 0; }

// --- memory, shared by all processes of one FAKE_SESSION ---------------------------------------------------
struct Row {
  std::atomic<int> pid;
  std::atomic<size_t> used[8];
};
static Row* table() {
  static Row* rows = [] {
    std::string path = "/dev/shm/fakecuda-" + std::to_string(getuid()) + "-" + text("FAKE_SESSION", "0");
    int fd = open(path.c_str(), O_RDWR | O_CREAT, 0600);
    size_t n = sizeof(Row) * 128;
    if (fd < 0 || ftruncate(fd, n)) return (Row*)calloc(128, sizeof(Row));
    void* p = mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return (Row*)p;
  }();
  return rows;
}
static Row* mine() {
  static int owner = 0;
  static Row* row = nullptr;
  if (row && owner == getpid()) return row;
  owner = getpid();
  for (int i = 0; i < 128; i++) {
    Row& r = table()[i];
    int pid = r.pid;
    if (pid == 0 || pid == owner || (kill(pid, 0) && errno == ESRCH))
      if (r.pid.compare_exchange_strong(pid, owner)) {
        for (auto& u : r.used) u = 0;
        return row = &r;
      }
  }
  return row = &table()[127];
}
size_t total(int) { return (size_t)number("FAKE_TOTAL_MB", 81559) << 20; }
std::vector<std::pair<int, size_t>> processes(int p) {
  std::vector<std::pair<int, size_t>> out;
  for (int i = 0; i < 128; i++) {
    Row& r = table()[i];
    int pid = r.pid;
    if (pid && r.used[p] && !(kill(pid, 0) && errno == ESRCH)) out.push_back({pid, r.used[p]});
  }
  return out;
}
size_t used(int p) {
  size_t n = (size_t)number("FAKE_BASE_MB", 0) << 20;
  for (auto& x : processes(p)) n += x.second;
  return n;
}
static std::map<uintptr_t, Memory>& memories() {
  static auto* m = new std::map<uintptr_t, Memory>;
  return *m;
}
static bool contexts[8];
static void context(int d) {
  if (!contexts[d]) {
    contexts[d] = true;
    mine()->used[physical(d)] += (size_t)number("FAKE_CONTEXT_MB", 450) << 20;
  }
}
// FAKE_OOM_AT: the N-th allocation of this process fails; with FAKE_OOM_ONCE only in the first process to create the
// file. An allocator that frees what it holds and asks for the same again is told the same: that is one lack of memory.
static long deny_in = number("FAKE_OOM_AT", 0);
static size_t denied = 0;
static int repeats = 0;
static bool deny(size_t n) {
  if (repeats > 0 && denied == n) {
    repeats--;
    return true;
  }
  repeats = 0;
  if (!deny_in || --deny_in) return false;
  const char* once = getenv("FAKE_OOM_ONCE");
  if (once && *once) {
    int fd = open(once, O_CREAT | O_EXCL | O_WRONLY, 0600);
    if (fd < 0) return false;
    close(fd);
  }
  denied = n;
  repeats = 2;
  return true;
}
bool reserve(int d, size_t n) {
  context(d);
  if (deny(n)) return false;
  int p = physical(d);
  if (used(p) + n > total(p)) return false;
  mine()->used[p] += n;
  return true;
}
void release(int d, size_t n) { mine()->used[physical(d)] -= n; }
const Memory* find(const void* q, const void** base) {
  auto& m = memories();
  auto it = m.upper_bound((uintptr_t)q);
  if (it == m.begin()) return nullptr;
  --it;
  if ((uintptr_t)q >= it->first + it->second.size) return nullptr;
  if (base) *base = (void*)it->first;
  return &it->second;
}
void remember(void* p, size_t n, int d) { memories()[(uintptr_t)p] = {n, d}; }
void forget(void* p) { memories().erase((uintptr_t)p); }

// --- totals, in a file that is mapped, so that they survive a process that is killed -------------------------------
enum Total { EAGER, CAPTURED, REPLAYED, GRAPHS, WAITS, NOTES, TOTALS };
static uint64_t* map_totals() {
  std::string p = text("FAKE_TOTALS");
  if (p.empty()) return new uint64_t[TOTALS]();
  size_t at = p.find("%p");
  if (at != std::string::npos) p.replace(at, 2, std::to_string(getpid()));
  int fd = open(p.c_str(), O_RDWR | O_CREAT, 0600);
  if (fd < 0 || ftruncate(fd, sizeof(uint64_t) * TOTALS)) return new uint64_t[TOTALS]();
  void* q = mmap(nullptr, sizeof(uint64_t) * TOTALS, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  return (uint64_t*)q;
}
static void add_up(Total which) {  // the file is made at first use: most processes never touch a device
  static uint64_t* totals = map_totals();
  totals[which]++;
}

// --- counting ------------------------------------------------------------------------------------------------
struct Count {
  uint64_t n = 0, bytes = 0;
};
static std::unordered_map<const void*, Kernel*>& kernels() {
  static auto* m = new std::unordered_map<const void*, Kernel*>;
  return *m;
}
static std::map<std::string, Kernel*>& names() {
  static auto* m = new std::map<std::string, Kernel*>;
  return *m;
}
static std::map<std::string, uint64_t>& calls() {
  static auto* m = new std::map<std::string, uint64_t>;
  return *m;
}
static std::map<std::string, Count>& copies() {
  static auto* m = new std::map<std::string, Count>;
  return *m;
}
static std::vector<std::string>& notes() {
  static auto* m = new std::vector<std::string>;
  return *m;
}
Kernel* named(const std::string& n) {
  GUARD;
  auto& k = names()[n];
  if (!k) {
    k = new Kernel;
    k->name = n;
  }
  return k;
}
void api(const char* n) {
  GUARD;
  calls()[n]++;
}
void note(const char* kind, const std::string& t) {
  GUARD;
  if (strcmp(kind, "INJECTED")) add_up(NOTES);
  if (notes().size() < 2000) notes().push_back(std::string(kind) + ": " + t);
  if (number("FAKE_LOUD", 0)) fprintf(stderr, "fakecuda %s: %s\n", kind, t.c_str());
}
static std::string pretty(const std::string& n) {
  int s;
  char* d = abi::__cxa_demangle(n.c_str(), nullptr, nullptr, &s);
  std::string r = d ? d : n;
  free(d);
  return r;
}
static std::string quoted(const std::string& s) {
  std::string o = "\"";
  for (char c : s) {
    if (c == '"' || c == '\\') o += '\\';
    o += c == '\n' ? ' ' : c;
  }
  return o + "\"";
}
static void dump(const char* path) {
  GUARD;
  std::string tmp = std::string(path) + ".tmp";
  FILE* f = fopen(tmp.c_str(), "w");
  if (!f) return;
  std::vector<Kernel*> all;
  for (auto& x : kernels()) all.push_back(x.second);
  for (auto& x : names()) all.push_back(x.second);
  fprintf(f, "{\"kernels\": {");
  const char* c = "";
  std::map<std::string, Kernel> merged;
  for (auto k : all)
    if (k->eager || k->captured || k->replayed) {
      auto& m = merged[pretty(k->name)];
      m.eager += k->eager;
      m.captured += k->captured;
      m.replayed += k->replayed;
    }
  for (auto& m : merged) {
    fprintf(f, "%s\n %s: [%lu, %lu, %lu]", c, quoted(m.first).c_str(), m.second.eager, m.second.captured,
            m.second.replayed);
    c = ",";
  }
  fprintf(f, "},\n\"calls\": {");
  c = "";
  for (auto& x : calls())
    if (x.second) {
      fprintf(f, "%s\n %s: %lu", c, quoted(x.first).c_str(), x.second);
      c = ",";
    }
  fprintf(f, "},\n\"copies\": {");
  c = "";
  for (auto& x : copies())
    if (x.second.n) {
      fprintf(f, "%s\n %s: [%lu, %lu]", c, quoted(x.first).c_str(), x.second.n, x.second.bytes);
      c = ",";
    }
  fprintf(f, "},\n\"notes\": [");
  c = "";
  for (auto& x : notes()) {
    fprintf(f, "%s\n %s", c, quoted(x).c_str());
    c = ",";
  }
  fprintf(f, "]}\n");
  fclose(f);
  rename(tmp.c_str(), path);
}
static void write_log() {
  std::string p = text("FAKE_LOG");
  if (p.empty() || (kernels().empty() && names().empty() && calls().empty())) return;
  size_t at = p.find("%p");
  if (at != std::string::npos) p.replace(at, 2, std::to_string(getpid()));
  dump(p.c_str());
}
static void now_and_then() {
  static double last = now();
  if (now() - last > 1) {
    last = now();
    write_log();
  }
}
struct AtExit {
  ~AtExit() { write_log(); }
} at_exit;

// --- errors ----------------------------------------------------------------------------------------------------
static thread_local cudaError_t last_error = cudaSuccess;
static cudaError_t lost = cudaSuccess;  // sticky: the device is gone for this process
static cudaError_t fail(cudaError_t e) {
  last_error = e;
  return e;
}
#define FAIL(e) return fail(e)
#define ENTER(name) \
  GUARD;            \
  api(name);        \
  if (lost) FAIL(lost)

static uint64_t launches = 0;
static bool injected() {  // FAKE_FAIL_AT: the N-th launch of this process loses the device
  static long at = number("FAKE_FAIL_AT", 0);

  static long only = number("FAKE_FAIL_DEVICE", -1);
  if (only >= 0 && physical(current()) != only) return false;
  launches++;
  if (!at || (long)launches < at) return false;
  const char* once = getenv("FAKE_FAIL_ONCE");
  if (once && *once) {
    int fd = open(once, O_CREAT | O_EXCL | O_WRONLY, 0600);
    if (fd < 0) {
      at = 0;
      return false;
    }
    close(fd);
  }
  lost = (cudaError_t)number("FAKE_FAIL_ERROR", cudaErrorLaunchFailure);
  note("INJECTED", "error " + std::to_string(lost) + " at launch " + std::to_string(launches));
  return true;
}

// --- streams and capture -----------------------------------------------------------------------------------------
static thread_local int device = 0;
int current() { return device; }
static thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;
static Stream* legacy(int d) {
  static auto* s = new std::map<int, Stream*>;
  auto& x = (*s)[d];
  if (!x) {
    x = new Stream;
    x->device = d;
  }
  return x;
}
static std::set<Stream*>& streams() {
  static auto* s = new std::set<Stream*>;
  return *s;
}
static std::map<unsigned long long, Capture*>& captures() {
  static auto* s = new std::map<unsigned long long, Capture*>;
  return *s;
}
static std::set<Exec*>& execs() {
  static auto* s = new std::set<Exec*>;
  return *s;
}
static Stream* of(cudaStream_t s) { return (uintptr_t)s <= 2 ? legacy(device) : (Stream*)s; }
static bool is_legacy(Stream* s) { return s == legacy(s->device); }
static void invalidate(Capture* c, const char* why) {
  if (c->valid) {
    c->valid = false;
    note("CAPTURE-INVALIDATED", why);
  }
}

// --- order --------------------------------------------------------------------------------------------------------
static Clock seen;                                                  // what the host knows to be over
static std::map<uintptr_t, std::pair<Stream*, uint64_t>> last_use;  // of addresses, by launches of graphs
static std::vector<std::string>* trace;                             // what was queued, while somebody wants to know
static void merge(Clock& into, const Clock& from) {
  for (auto& x : from) into[x.first] = std::max(into[x.first], x.second);
}
static void tick(Stream* s) {
  merge(s->clock, seen);
  for (auto t : streams())
    if (t->blocking && t->device == s->device && is_legacy(s)) merge(s->clock, t->clock);
  if (s->blocking && !is_legacy(s)) merge(s->clock, legacy(s->device)->clock);
  s->clock[s]++;
}
static void saw_device(int d) {
  merge(seen, legacy(d)->clock);
  for (auto s : streams())
    if (s->device == d) merge(seen, s->clock);
}
// A graph works on the same addresses as another graph did: that one's work must be over by then.
static void check_order(Exec* e, Stream* s) {
  for (auto p : e->memory) {
    auto& last = last_use[(uintptr_t)p];
    if (last.first && s->clock[last.first] < last.second) {
      note("UNORDERED", "a graph on stream " + std::to_string(s->number) + " uses memory of one on stream " +
                            std::to_string(last.first->number) + " that need not be over");
      break;
    }
  }
  for (auto p : e->memory) last_use[(uintptr_t)p] = {s, s->clock[s]};
}
static void traced(Stream* s, const std::string& what) {
  if (!trace) return;
  uintptr_t handle = is_legacy(s) ? 0 : (uintptr_t)s;
  trace->push_back(std::to_string(s->device) + "." + std::to_string(handle) + " " + what);
}

// A call that is unsafe during capture: whose captures forbid it, by the modes' rules.
static cudaError_t unsafe(const char* what) {
  if (thread_mode == cudaStreamCaptureModeRelaxed) return cudaSuccess;
  bool bad = false;
  for (auto& x : captures()) {
    Capture* c = x.second;
    bool own = c->thread == self();
    if ((own && c->mode != cudaStreamCaptureModeRelaxed) ||
        (!own && c->mode == cudaStreamCaptureModeGlobal && thread_mode == cudaStreamCaptureModeGlobal)) {
      bad = true;
      invalidate(c, what);
    }
  }
  if (bad) {
    note("UNSAFE-IN-CAPTURE", what);
    return cudaErrorStreamCaptureUnsupported;
  }
  return cudaSuccess;
}
// Use of the legacy stream while a blocking stream of its device is being captured.
static cudaError_t implicit(Stream* s, const char* what) {
  if (!is_legacy(s)) return cudaSuccess;
  for (auto t : streams())
    if (t->device == s->device && t->blocking && t->capture) {
      invalidate(t->capture, what);
      note("LEGACY-IN-CAPTURE", what);
      return cudaErrorStreamCaptureImplicit;
    }
  return cudaSuccess;
}
#define UNSAFE(what) \
  if (cudaError_t e_ = unsafe(what)) FAIL(e_)

static void add(Stream* s, Node* n) {
  n->deps = s->deps;
  s->capture->graph->nodes.push_back(n);
  s->deps = {n};
}
static bool reachable(const void* p) {
  auto* m = find(p);
  return m != nullptr;
}
static std::string name_of(Node* n) {
  return n->kernel ? pretty(n->kernel->name) : n->kind == Node::COPY ? "copy" : "set";
}

static void perform(Node* n) {
  switch (n->kind) {
    case Node::COPY:
      memmove(n->dst, n->src, n->bytes);
      break;
    case Node::SET:
      memset(n->dst, n->value, n->bytes);
      break;
    case Node::HOST:
      n->fn(n->data);
      break;
    default:
      break;
  }
}
static const char* side(const void* p) {
  auto* m = find(p);
  return !m ? "pageable" : m->device < 0 ? "pinned" : "device";
}
static void count_copy(const char* how, Node* n) {
  std::string key = n->kind == Node::SET ? std::string("set") : std::string(side(n->src)) + "->" + side(n->dst);
  auto& c = copies()[std::string(how) + " " + key];
  c.n++;
  c.bytes += n->bytes;
}
static void advance(Stream* s, double micros) {
  static double each = number("FAKE_KERNEL_US", 0);
  s->end = std::max(s->end, now()) + (micros >= 0 ? micros : each) * 1e-6;
}
static cudaError_t known(const Node* n, Stream* s, const char* when) {
  for (auto p : n->ptrs)
    if (p) {
      auto* m = find(p);
      if (!m) {
        note(when, name_of((Node*)n) + " uses memory that is not allocated");
        lost = cudaErrorIllegalAddress;
        return lost;
      }
      if (m->device >= 0 && m->device != s->device)
        note("WRONG-DEVICE", name_of((Node*)n) + " on cuda:" + std::to_string(s->device) +
                                 " uses memory of cuda:" + std::to_string(m->device));
    }
  return cudaSuccess;
}
// Queue a node on a stream: recorded where the stream is captured, otherwise done.
static cudaError_t queue(Node n, cudaStream_t stream, const char* what) {
  Stream* s = of(stream);
  if (s->device != device && n.kind == Node::KERNEL) {
    note("WRONG-DEVICE", std::string(what) + " " + name_of(&n) + " on a stream of another device");
    return cudaErrorInvalidResourceHandle;
  }
  if (auto e = implicit(s, what)) return e;
  context(s->device);
  if (n.kind == Node::KERNEL && injected()) return lost;
  if (s->capture) {
    if (!s->capture->valid) return cudaErrorStreamCaptureInvalidated;
    if (n.kernel)
      n.kernel->captured++, add_up(CAPTURED);
    else if (n.kind != Node::HOST)
      count_copy("captured", &n);
    traced(s, "captured " + name_of(&n));
    add(s, new Node(n));
    return cudaSuccess;
  }
  if (auto e = known(&n, s, "BAD-POINTER")) return e;
  tick(s);
  traced(s, name_of(&n) + (n.bytes ? " of " + std::to_string(n.bytes) : ""));
  if (n.kernel)
    n.kernel->eager++, add_up(EAGER);
  else if (n.kind != Node::HOST)
    count_copy("eager", &n);
  perform(&n);
  advance(s, n.micros);
  return cudaSuccess;
}
cudaError_t launch(Kernel* k, cudaStream_t stream, Ptrs ptrs, double micros) {
  GUARD;
  if (lost) FAIL(lost);
  Node n;
  n.kind = Node::KERNEL;
  n.kernel = k;
  n.ptrs = std::move(ptrs);
  n.micros = micros;
  cudaError_t e = queue(std::move(n), stream, "launch");
  if (e) FAIL(e);
  return e;
}
static void wait(double until) {
  while (true) {
    double d = until - now();
    if (d <= 0) return;
    usleep((useconds_t)std::min(d * 1e6, 1e5));
  }
}
static Kernel* kernel_of(const void* host) {
  auto it = kernels().find(host);
  if (it != kernels().end()) return it->second;
  char b[64];
  sprintf(b, "unregistered %p", host);
  return named(b);
}
static cudaError_t launch_host(const void* f, void** args, cudaStream_t stream) {
  Kernel* k = kernel_of(f);
  double micros = -1;
  if (k->name.find("spin_kernel") != std::string::npos && args)
    micros = *(int64_t*)args[0] / 2000.0;  // torch.cuda._sleep, at 2 GHz
  return launch(k, stream, {}, micros);
}
static void drop(UserObject* o, int n) {
  o->refs -= n;
  if (o->refs <= 0) {
    o->destroy(o->ptr);
    delete o;
  }
}
}  // namespace fake
using namespace fake;

extern "C" {
// --- what nvcc's code calls ----------------------------------------------------------------------------------------
struct Config {
  dim3 grid, block;
  size_t shared;
  void* stream;
};
static thread_local std::vector<Config>* configs;
void** __cudaRegisterFatBinary(void*) {
  static void* handle[4];
  return handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
char __cudaInitModule(void**) { return 0; }
void __cudaRegisterFunction(void**, const char* host, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*,
                            int*) {
  GUARD;
  auto& k = kernels()[host];
  if (!k) k = new Kernel;
  k->name = name;
}
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
unsigned __cudaPushCallConfiguration(dim3 g, dim3 b, size_t s, void* st) {
  if (!configs) configs = new std::vector<Config>;
  configs->push_back({g, b, s, st});
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* g, dim3* b, size_t* s, void* st) {
  if (!configs || configs->empty()) return cudaErrorMissingConfiguration;
  auto c = configs->back();
  configs->pop_back();
  *g = c.grid;
  *b = c.block;
  *s = c.shared;
  *(void**)st = c.stream;
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* k, const void* f) {
  *k = (cudaKernel_t)f;
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t k, dim3, dim3, void** a, size_t, cudaStream_t s) {
  return launch_host(k, a, s);
}
cudaError_t cudaLaunchKernel(const void* f, dim3, dim3, void** a, size_t, cudaStream_t s) {
  return launch_host(f, a, s);
}
cudaError_t cudaLaunchCooperativeKernel(const void* f, dim3, dim3, void** a, size_t, cudaStream_t s) {
  return launch_host(f, a, s);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* c, const void* f, void** a) {
  return launch_host(f, a, c->stream);
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* a, const void*) {
  memset(a, 0, sizeof *a);
  a->maxThreadsPerBlock = 1024;
  a->numRegs = 32;
  a->ptxVersion = a->binaryVersion = 90;
  a->maxDynamicSharedSizeBytes = 227 << 10;
  return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaKernelSetAttributeForDevice(cudaKernel_t, cudaFuncAttribute, int, int) { return cudaSuccess; }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* n, const void*, int, size_t) {
  *n = 2;
  return cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* n, const void*, int, size_t, unsigned) {
  *n = 2;
  return cudaSuccess;
}
cudaError_t cudaGetSymbolAddress(void** p, const void* s) {
  *p = (void*)s;
  return cudaSuccess;
}
cudaError_t cudaMemcpyToSymbol(const void*, const void*, size_t, size_t, cudaMemcpyKind) {
  ENTER("cudaMemcpyToSymbol");
  return cudaSuccess;
}

// --- devices ---------------------------------------------------------------------------------------------------------
cudaError_t cudaGetDeviceCount(int* n) {
  *n = devices();
  if (!*n) FAIL(cudaErrorNoDevice);
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int d) {
  if (d < 0 || d >= devices()) FAIL(cudaErrorInvalidDevice);
  device = d;
  GUARD;
  context(d);
  if (lost) FAIL(lost);
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* d) {
  *d = device;
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* v) {
  *v = devices() || physical_count() ? 13000 : 0;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* v) {
  *v = 13000;
  return cudaSuccess;
}
static int capability() { return (int)fake::number("FAKE_CC", 90); }
cudaError_t cudaDeviceGetAttribute(int* v, cudaDeviceAttr a, int) {
  switch (a) {
    case cudaDevAttrComputeCapabilityMajor:
      *v = capability() / 10;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *v = capability() % 10;
      break;
    case cudaDevAttrMultiProcessorCount:
      *v = 132;
      break;
    case cudaDevAttrMaxThreadsPerBlock:
      *v = 1024;
      break;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *v = 2048;
      break;
    case cudaDevAttrWarpSize:
      *v = 32;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *v = 48 << 10;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *v = 227 << 10;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *v = 228 << 10;
      break;
    case cudaDevAttrMaxGridDimX:
      *v = 0x7fffffff;
      break;
    case cudaDevAttrMaxGridDimY:
    case cudaDevAttrMaxGridDimZ:
      *v = 65535;
      break;
    case cudaDevAttrMaxBlockDimX:
    case cudaDevAttrMaxBlockDimY:
      *v = 1024;
      break;
    case cudaDevAttrMaxBlockDimZ:
      *v = 64;
      break;
    case cudaDevAttrMaxRegistersPerBlock:
    case cudaDevAttrMaxRegistersPerMultiprocessor:
      *v = 65536;
      break;
    case cudaDevAttrMaxBlocksPerMultiprocessor:
      *v = 32;
      break;
    case cudaDevAttrUnifiedAddressing:
    case cudaDevAttrMemoryPoolsSupported:
      *v = 1;
      break;
    case cudaDevAttrTextureAlignment:
      *v = 512;
      break;
    default:
      *v = 0;
  }
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int d) {
  if (d < 0 || d >= devices()) FAIL(cudaErrorInvalidDevice);
  memset(p, 0, sizeof *p);
  snprintf(p->name, sizeof p->name, "%s", fake::text("FAKE_NAME", "Fake H100"));
  uuid(physical(d), (unsigned char*)&p->uuid);
  p->totalGlobalMem = total(physical(d));
  p->major = capability() / 10;
  p->minor = capability() % 10;
  p->multiProcessorCount = 132;
  p->warpSize = 32;
  p->maxThreadsPerBlock = 1024;
  p->maxThreadsPerMultiProcessor = 2048;
  p->sharedMemPerBlock = 48 << 10;
  p->sharedMemPerBlockOptin = 227 << 10;
  p->sharedMemPerMultiprocessor = 228 << 10;
  p->regsPerBlock = p->regsPerMultiprocessor = 65536;
  p->maxGridSize[0] = 0x7fffffff;
  p->maxGridSize[1] = p->maxGridSize[2] = 65535;
  p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
  p->maxThreadsDim[2] = 64;
  p->l2CacheSize = 50 << 20;
  p->unifiedAddressing = 1;
  p->pciBusID = physical(d) + 1;
  p->maxBlocksPerMultiProcessor = 32;
  p->textureAlignment = 512;
  p->memoryBusWidth = 5120;
  p->canMapHostMemory = 1;
  p->concurrentKernels = 1;
  p->asyncEngineCount = 3;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* s, int n, int d) {
  snprintf(s, n, "0000:%02x:00.0", physical(d) + 1);
  return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* l, int* g) {
  if (l) *l = 0;
  if (g) *g = -5;
  return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* v, int, int) {
  *v = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int, unsigned) { return cudaSuccess; }
cudaError_t cudaDeviceSynchronize() {
  ENTER("cudaDeviceSynchronize");
  add_up(WAITS);
  for (auto s : streams())
    if (s->device == device && s->capture) {
      invalidate(s->capture, "cudaDeviceSynchronize");
      note("SYNC-IN-CAPTURE", "cudaDeviceSynchronize");
      FAIL(cudaErrorStreamCaptureUnsupported);
    }
  UNSAFE("cudaDeviceSynchronize");
  context(device);
  double end = legacy(device)->end;
  for (auto s : streams())
    if (s->device == device) end = std::max(end, s->end);
  saw_device(device);
  lock.unlock();
  wait(end);
  lock.lock();
  now_and_then();
  return cudaSuccess;
}
cudaError_t cudaProfilerStart() { return cudaSuccess; }
cudaError_t cudaProfilerStop() { return cudaSuccess; }

// --- errors
// -----------------------------------------------------------------------------------------------------------
cudaError_t cudaGetLastError() {
  cudaError_t e = last_error;
  last_error = lost;
  return e;
}
cudaError_t cudaPeekAtLastError() { return last_error; }
static const std::map<int, std::pair<const char*, const char*>> ERRORS = {
    {0, {"cudaSuccess", "no error"}},
    {1, {"cudaErrorInvalidValue", "invalid argument"}},
    {2, {"cudaErrorMemoryAllocation", "out of memory"}},
    {100, {"cudaErrorNoDevice", "no CUDA-capable device is detected"}},
    {101, {"cudaErrorInvalidDevice", "invalid device ordinal"}},
    {214, {"cudaErrorECCUncorrectable", "uncorrectable ECC error encountered"}},
    {400, {"cudaErrorInvalidResourceHandle", "invalid resource handle"}},
    {600, {"cudaErrorNotReady", "device not ready"}},
    {700, {"cudaErrorIllegalAddress", "an illegal memory access was encountered"}},
    {719, {"cudaErrorLaunchFailure", "unspecified launch failure"}},
    {801, {"cudaErrorNotSupported", "operation not supported"}},
    {900, {"cudaErrorStreamCaptureUnsupported", "operation not permitted when stream is capturing"}},
    {901, {"cudaErrorStreamCaptureInvalidated", "operation failed due to a previous error during capture"}},
    {902, {"cudaErrorStreamCaptureMerge", "operation would result in a merge of separate capture sequences"}},
    {903, {"cudaErrorStreamCaptureUnmatched", "capture was not ended in the same stream as it began"}},
    {904, {"cudaErrorStreamCaptureUnjoined", "capturing stream has unjoined work"}},
    {905, {"cudaErrorStreamCaptureIsolation", "dependency created on uncaptured work in another stream"}},
    {906,
     {"cudaErrorStreamCaptureImplicit",
      "operation would make the legacy stream depend on a capturing blocking stream"}},
    {907, {"cudaErrorCapturedEvent", "operation not permitted on an event last recorded in a capturing stream"}},
    {908,
     {"cudaErrorStreamCaptureWrongThread",
      "attempt to terminate a thread-local capture sequence from another thread"}}};
const char* cudaGetErrorName(cudaError_t e) {
  auto i = ERRORS.find(e);
  return i == ERRORS.end() ? "cudaErrorFake" : i->second.first;
}
const char* cudaGetErrorString(cudaError_t e) {
  auto i = ERRORS.find(e);
  return i == ERRORS.end() ? "error of the fake runtime" : i->second.second;
}

// --- memory
// -----------------------------------------------------------------------------------------------------------
static void* pages(size_t n) {
  void* p = mmap(nullptr, n ? n : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : p;
}
static cudaError_t allocate(void** p, size_t n) {
  n = (n + 511) & ~511ul;
  size_t whole = (n + (2 << 20) - 1) & ~((size_t)(2 << 20) - 1);
  if (n > (1ull << 46) || !reserve(device, whole)) {
    *p = nullptr;
    FAIL(cudaErrorMemoryAllocation);
  }
  *p = pages(whole);
  if (!*p) {
    release(device, whole);
    FAIL(cudaErrorMemoryAllocation);
  }
  remember(*p, whole, device);
  for (auto& c : captures())
    if (c.second->thread == self()) c.second->graph->segments.push_back(*p);
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** p, size_t n) {
  ENTER("cudaMalloc");
  UNSAFE("cudaMalloc");
  return allocate(p, n);
}
static cudaError_t let_go(void* p) {
  if (!p) return cudaSuccess;
  const void* base;
  auto* m = find(p, &base);
  if (!m || base != p || m->device < 0) {
    note("BAD-FREE", "cudaFree of what was not allocated");
    FAIL(cudaErrorInvalidValue);
  }
  for (auto x : execs()) {
    bool hit = std::count(x->segments.begin(), x->segments.end(), p);
    for (auto& n : x->nodes)
      for (auto q : n.ptrs) hit |= q >= p && q < (char*)p + m->size;
    if (hit) {
      note("FREE-IN-GRAPH",
           "cudaFree of memory that a live graph uses (launched " + std::to_string(x->launches) + " times)");
      break;
    }
  }
  last_use.erase(last_use.lower_bound((uintptr_t)p), last_use.lower_bound((uintptr_t)p + m->size));
  size_t n = m->size;
  release(m->device, n);
  forget(p);
  munmap(p, n);
  return cudaSuccess;
}
cudaError_t cudaFree(void* p) {
  ENTER("cudaFree");
  if (!p) {
    context(device);
    return cudaSuccess;
  }
  UNSAFE("cudaFree");
  double end = 0;
  for (auto s : streams())
    if (s->device == device) end = std::max(end, s->end);
  end = std::max(end, legacy(device)->end);
  saw_device(device);
  wait(end);
  return let_go(p);  // cudaFree waits for the device
}
cudaError_t cudaMallocAsync(void** p, size_t n, cudaStream_t) {
  ENTER("cudaMallocAsync");
  return allocate(p, n);
}
cudaError_t cudaFreeAsync(void* p, cudaStream_t) {
  ENTER("cudaFreeAsync");
  return let_go(p);
}
cudaError_t cudaHostAlloc(void** p, size_t n, unsigned) {
  ENTER("cudaHostAlloc");
  UNSAFE("cudaHostAlloc");
  *p = pages(n);
  if (!*p) FAIL(cudaErrorMemoryAllocation);
  remember(*p, n ? n : 1, -1);
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* p) {
  ENTER("cudaFreeHost");
  UNSAFE("cudaFreeHost");
  const void* b;
  auto* m = find(p, &b);
  if (!m || b != p) FAIL(cudaErrorInvalidValue);
  size_t n = m->size;
  forget(p);
  munmap(p, n);
  return cudaSuccess;
}
cudaError_t cudaHostRegister(void* p, size_t n, unsigned) {
  ENTER("cudaHostRegister");
  remember(p, n, -1);
  return cudaSuccess;
}
cudaError_t cudaHostUnregister(void* p) {
  ENTER("cudaHostUnregister");
  forget(p);
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* f, size_t* t) {
  ENTER("cudaMemGetInfo");
  context(device);
  int p = physical(device);
  *t = total(p);
  size_t u = used(p);
  *f = u > *t ? 0 : *t - u;
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* a, const void* p) {
  ENTER("cudaPointerGetAttributes");
  memset(a, 0, sizeof *a);
  auto* m = find(p);
  a->type = !m ? cudaMemoryTypeUnregistered : m->device < 0 ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
  a->device = m && m->device >= 0 ? m->device : m ? 0 : -2;
  if (m) {
    a->hostPointer = m->device < 0 ? (void*)p : nullptr;
    a->devicePointer = (void*)p;
  }
  return cudaSuccess;
}
static cudaError_t copy(void* d, const void* s, size_t n, cudaMemcpyKind kind, cudaStream_t stream, const char* what) {
  if (!n) return cudaSuccess;
  bool dd = find(d) && find(d)->device >= 0, ds = find(s) && find(s)->device >= 0;
  if ((kind == cudaMemcpyHostToDevice && !dd) || (kind == cudaMemcpyDeviceToHost && !ds) ||
      (kind == cudaMemcpyDeviceToDevice && !(dd && ds))) {
    note("BAD-POINTER", std::string(what) + ": not device memory");
    FAIL(cudaErrorInvalidValue);
  }
  Node x;
  x.kind = Node::COPY;
  x.dst = d;
  x.src = s;
  x.bytes = n;
  if (dd) x.ptrs.push_back(d);
  if (ds) x.ptrs.push_back(s);
  x.micros = -1;
  cudaError_t e = queue(x, stream, what);
  if (e) FAIL(e);
  Stream* q = of(stream);
  // From or to pageable memory the call comes back only when the copy is over (to the device: when it is staged).
  if (!q->capture && ds && !find(d)) {
    calls()["(copy to pageable memory waits)"]++;
    merge(seen, q->clock);
    wait(q->end);
  }
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* d, const void* s, size_t n, cudaMemcpyKind k, cudaStream_t st) {
  ENTER("cudaMemcpyAsync");
  return copy(d, s, n, k, st, "cudaMemcpyAsync");
}
cudaError_t cudaMemcpy(void* d, const void* s, size_t n, cudaMemcpyKind k) {
  ENTER("cudaMemcpy");
  UNSAFE("cudaMemcpy");
  cudaError_t e = copy(d, s, n, k, nullptr, "cudaMemcpy");
  if (!e) {
    merge(seen, legacy(device)->clock);
    wait(legacy(device)->end);
  }
  return e;
}
cudaError_t cudaMemcpyPeerAsync(void* d, int, const void* s, int, size_t n, cudaStream_t st) {
  ENTER("cudaMemcpyPeerAsync");
  return copy(d, s, n, cudaMemcpyDeviceToDevice, st, "cudaMemcpyPeerAsync");
}
cudaError_t cudaMemcpy2DAsync(void* d, size_t dp, const void* s, size_t sp, size_t w, size_t h, cudaMemcpyKind k,
                              cudaStream_t st) {
  ENTER("cudaMemcpy2DAsync");
  for (size_t i = 0; i < h; i++)
    if (auto e = copy((char*)d + i * dp, (const char*)s + i * sp, w, k, st, "cudaMemcpy2DAsync")) return e;
  return cudaSuccess;
}
static cudaError_t fill(void* d, int v, size_t n, cudaStream_t st, const char* what) {
  if (!n) return cudaSuccess;
  if (!find(d)) {
    note("BAD-POINTER", what);
    FAIL(cudaErrorInvalidValue);
  }
  Node x;
  x.kind = Node::SET;
  x.dst = d;
  x.value = v;
  x.bytes = n;
  x.ptrs = {d};
  x.micros = -1;
  cudaError_t e = queue(x, st, what);
  if (e) FAIL(e);
  return e;
}
cudaError_t cudaMemsetAsync(void* d, int v, size_t n, cudaStream_t s) {
  ENTER("cudaMemsetAsync");
  return fill(d, v, n, s, "cudaMemsetAsync");
}
cudaError_t cudaMemset(void* d, int v, size_t n) {
  ENTER("cudaMemset");
  UNSAFE("cudaMemset");
  return fill(d, v, n, nullptr, "cudaMemset");
}
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* p, int) {
  *p = (cudaMemPool_t)1;
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolGetAttribute(cudaMemPool_t, cudaMemPoolAttr, void* v) {
  *(uint64_t*)v = 0;
  return cudaSuccess;
}
cudaError_t cudaMemPoolSetAccess(cudaMemPool_t, const cudaMemAccessDesc*, size_t) { return cudaSuccess; }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return cudaSuccess; }
cudaError_t cudaDeviceGetGraphMemAttribute(int, cudaGraphMemAttributeType, void* v) {
  *(uint64_t*)v = 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceSetGraphMemAttribute(int, cudaGraphMemAttributeType, void*) { return cudaSuccess; }

// --- streams and events
// -----------------------------------------------------------------------------------------------
static cudaError_t new_stream(cudaStream_t* s, unsigned flags, int priority) {
  ENTER("cudaStreamCreate");
  context(device);
  auto* x = new Stream;
  x->device = device;
  x->blocking = !(flags & cudaStreamNonBlocking);
  x->priority = priority;
  static int created = 0;
  x->number = ++created;
  streams().insert(x);
  *s = (cudaStream_t)x;
  return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t* s) { return new_stream(s, 0, 0); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned f) { return new_stream(s, f, 0); }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* s, unsigned f, int p) { return new_stream(s, f, p); }
cudaError_t cudaStreamGetPriority(cudaStream_t s, int* p) {
  *p = of(s)->priority;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
  ENTER("cudaStreamDestroy");
  streams().erase((Stream*)s);
  return cudaSuccess;
}  // kept: events may refer to it
static cudaError_t not_captured(Stream* s, const char* what) {
  if (s->capture) {
    invalidate(s->capture, what);
    note("SYNC-IN-CAPTURE", what);
    return cudaErrorStreamCaptureUnsupported;
  }
  if (auto e = implicit(s, what)) return e;
  return unsafe(what);
}
cudaError_t cudaStreamSynchronize(cudaStream_t st) {
  ENTER("cudaStreamSynchronize");
  add_up(WAITS);
  Stream* s = of(st);
  if (auto e = not_captured(s, "cudaStreamSynchronize")) FAIL(e);
  double end = s->end;
  if (is_legacy(s))
    for (auto t : streams())
      if (t->blocking && t->device == s->device) end = std::max(end, t->end), merge(seen, t->clock);
  merge(seen, s->clock);
  lock.unlock();
  wait(end);
  lock.lock();
  now_and_then();
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t st) {
  ENTER("cudaStreamQuery");
  Stream* s = of(st);
  if (auto e = not_captured(s, "cudaStreamQuery")) FAIL(e);
  if (s->end > now()) {
    last_error = cudaErrorNotReady;
    return cudaErrorNotReady;
  }
  merge(seen, s->clock);
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned f) {
  ENTER("cudaEventCreate");
  auto* x = new Event;
  x->device = device;
  x->timing = !(f & cudaEventDisableTiming);
  *e = (cudaEvent_t)x;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* e) { return cudaEventCreateWithFlags(e, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t e) {
  GUARD;
  api("cudaEventDestroy");
  delete (Event*)e;
  return cudaSuccess;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t ev, cudaStream_t st, unsigned) {
  ENTER("cudaEventRecord");
  auto* e = (Event*)ev;
  Stream* s = of(st);
  if (e->device != s->device) {
    note("EVENT-MISUSE", "recorded on a stream of another device");
    FAIL(cudaErrorInvalidResourceHandle);
  }
  if (auto x = implicit(s, "cudaEventRecord")) FAIL(x);
  e->recorded = true;
  if (s->capture) {
    if (!s->capture->valid) FAIL(cudaErrorStreamCaptureInvalidated);
    e->capture = s->capture->id;
    e->deps = s->deps;
    return cudaSuccess;
  }
  e->capture = 0;
  merge(s->clock, seen);
  e->clock = s->clock;
  e->at = std::max(s->end, now());
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) { return cudaEventRecordWithFlags(e, s, 0); }
static cudaError_t event_free(Event* e, const char* what) {
  if (e->capture) {
    note("EVENT-MISUSE", std::string(what) + " of a captured event");
    auto c = captures().find(e->capture);
    if (c != captures().end()) invalidate(c->second, what);
    return cudaErrorCapturedEvent;
  }
  return unsafe(what);
}
cudaError_t cudaEventQuery(cudaEvent_t ev) {
  ENTER("cudaEventQuery");
  auto* e = (Event*)ev;
  if (auto x = event_free(e, "cudaEventQuery")) FAIL(x);
  if (e->recorded && e->at > now()) {
    last_error = cudaErrorNotReady;
    return cudaErrorNotReady;
  }
  merge(seen, e->clock);
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t ev) {
  ENTER("cudaEventSynchronize");
  add_up(WAITS);
  auto* e = (Event*)ev;
  if (auto x = event_free(e, "cudaEventSynchronize")) FAIL(x);
  double at = e->recorded ? e->at : 0;
  merge(seen, e->clock);
  lock.unlock();
  wait(at);
  lock.lock();
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t a, cudaEvent_t b) {
  ENTER("cudaEventElapsedTime");
  auto *x = (Event*)a, *y = (Event*)b;
  if (!x->timing || !y->timing || !x->recorded || !y->recorded) {
    note("EVENT-MISUSE", "elapsed time of events without timing or not recorded");
    FAIL(cudaErrorInvalidResourceHandle);
  }
  if (std::max(x->at, y->at) > now()) return cudaErrorNotReady;
  *ms = (float)((y->at - x->at) * 1e3);
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t st, cudaEvent_t ev, unsigned) {
  ENTER("cudaStreamWaitEvent");
  auto* e = (Event*)ev;
  Stream* s = of(st);
  if (!e->recorded) return cudaSuccess;
  if (auto x = implicit(s, "cudaStreamWaitEvent")) FAIL(x);
  if (e->capture) {
    auto c = captures().find(e->capture);
    if (c == captures().end()) {
      note("EVENT-MISUSE", "wait for an event of a capture that is over");
      FAIL(cudaErrorCapturedEvent);
    }
    if (s->capture && s->capture != c->second) {
      invalidate(s->capture, "merge");
      invalidate(c->second, "merge");
      FAIL(cudaErrorStreamCaptureMerge);
    }
    if (is_legacy(s)) {
      invalidate(c->second, "legacy stream waits for a captured event");
      FAIL(cudaErrorStreamCaptureImplicit);
    }
    if (!s->capture) {
      s->capture = c->second;
      s->deps.clear();
      c->second->streams.insert(s);
    }
    for (auto d : e->deps)
      if (!std::count(s->deps.begin(), s->deps.end(), d)) s->deps.push_back(d);
    return cudaSuccess;
  }
  if (s->capture) {
    invalidate(s->capture, "wait for an event recorded outside of the capture");
    note("EVENT-MISUSE", "captured stream waits for an event recorded outside");
    FAIL(cudaErrorStreamCaptureIsolation);
  }
  s->end = std::max(s->end, e->at);
  merge(s->clock, e->clock);
  return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t st, cudaHostFn_t f, void* d) {
  ENTER("cudaLaunchHostFunc");
  Node n;
  n.kind = Node::HOST;
  n.fn = f;
  n.data = d;
  auto e = queue(n, st, "cudaLaunchHostFunc");
  if (e) FAIL(e);
  return e;
}
cudaError_t cudaStreamAddCallback(cudaStream_t st, cudaStreamCallback_t f, void* d, unsigned) {
  ENTER("cudaStreamAddCallback");
  if (of(st)->capture) FAIL(cudaErrorStreamCaptureUnsupported);
  f(st, cudaSuccess, d);
  return cudaSuccess;
}

// --- capture and graphs
// -----------------------------------------------------------------------------------------------
static cudaError_t begin(cudaStream_t st, Graph* g, cudaStreamCaptureMode m) {
  Stream* s = of(st);
  if (is_legacy(s) || s->capture) FAIL(cudaErrorStreamCaptureUnsupported);
  static unsigned long long ids = 0;
  auto* c = new Capture{++ids, m, self(), g, s, {s}};
  s->capture = c;
  s->deps.clear();
  captures()[c->id] = c;
  return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode m) {
  ENTER("cudaStreamBeginCapture");
  return begin(s, new Graph, m);
}
cudaError_t cudaStreamBeginCaptureToGraph(cudaStream_t s, cudaGraph_t g, const cudaGraphNode_t*,
                                          const cudaGraphEdgeData*, size_t, cudaStreamCaptureMode m) {
  ENTER("cudaStreamBeginCaptureToGraph");
  return begin(s, (Graph*)g, m);
}
cudaError_t cudaStreamEndCapture(cudaStream_t st, cudaGraph_t* g) {
  ENTER("cudaStreamEndCapture");
  Stream* s = of(st);
  Capture* c = s->capture;
  *g = nullptr;
  if (!c) FAIL(cudaErrorIllegalState);
  if (c->origin != s) FAIL(cudaErrorStreamCaptureUnmatched);
  if (c->mode != cudaStreamCaptureModeRelaxed && c->thread != self()) FAIL(cudaErrorStreamCaptureWrongThread);
  bool joined = true;  // every other stream's last work must be something the origin waits for
  std::set<Node*> seen;
  std::vector<Node*> todo = s->deps;
  while (!todo.empty()) {
    Node* n = todo.back();
    todo.pop_back();
    if (seen.insert(n).second)
      for (auto d : n->deps) todo.push_back(d);
  }
  for (auto t : c->streams) {
    if (t != s)
      for (auto d : t->deps) joined &= seen.count(d) > 0;
    t->capture = nullptr;
    t->deps.clear();
  }
  captures().erase(c->id);
  bool valid = c->valid;
  Graph* graph = c->graph;
  delete c;
  if (!valid) FAIL(cudaErrorStreamCaptureInvalidated);
  if (!joined) {
    note("CAPTURE-INVALIDATED", "unjoined work");
    FAIL(cudaErrorStreamCaptureUnjoined);
  }
  *g = (cudaGraph_t)graph;
  return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t st, cudaStreamCaptureStatus* v) {
  GUARD;
  Stream* s = of(st);
  *v = cudaStreamCaptureStatusNone;
  if (auto e = implicit(s, "cudaStreamIsCapturing")) FAIL(e);
  if (s->capture) *v = s->capture->valid ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusInvalidated;
  return cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t st, cudaStreamCaptureStatus* v, unsigned long long* id,
                                     cudaGraph_t* g, const cudaGraphNode_t** d, const cudaGraphEdgeData** ed,
                                     size_t* n) {
  GUARD;
  Stream* s = of(st);
  *v = cudaStreamCaptureStatusNone;
  if (auto e = implicit(s, "cudaStreamGetCaptureInfo")) FAIL(e);
  if (!s->capture) return cudaSuccess;
  *v = s->capture->valid ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusInvalidated;
  if (id) *id = s->capture->id;
  if (g) *g = (cudaGraph_t)s->capture->graph;
  if (d) *d = (const cudaGraphNode_t*)s->deps.data();
  if (ed) *ed = nullptr;
  if (n) *n = s->deps.size();
  return cudaSuccess;
}
cudaError_t cudaStreamUpdateCaptureDependencies(cudaStream_t st, cudaGraphNode_t* d, const cudaGraphEdgeData*, size_t n,
                                                unsigned flags) {
  ENTER("cudaStreamUpdateCaptureDependencies");
  Stream* s = of(st);
  if (!s->capture) FAIL(cudaErrorIllegalState);
  if (flags & cudaStreamSetCaptureDependencies) s->deps.clear();
  for (size_t i = 0; i < n; i++) s->deps.push_back((Node*)d[i]);
  return cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* m) {
  std::swap(*m, thread_mode);
  return cudaSuccess;
}
cudaError_t cudaGraphCreate(cudaGraph_t* g, unsigned) {
  *g = (cudaGraph_t) new Graph;
  return cudaSuccess;
}
cudaError_t cudaGraphAddNode(cudaGraphNode_t* out, cudaGraph_t g, const cudaGraphNode_t* d, const cudaGraphEdgeData*,
                             size_t n, cudaGraphNodeParams*) {
  ENTER("cudaGraphAddNode");
  auto* x = new Node;
  for (size_t i = 0; i < n; i++) x->deps.push_back((Node*)d[i]);
  ((Graph*)g)->nodes.push_back(x);
  *out = (cudaGraphNode_t)x;
  return cudaSuccess;
}
cudaError_t cudaGraphConditionalHandleCreate(cudaGraphConditionalHandle* h, cudaGraph_t, unsigned, unsigned) {
  *h = 1;
  return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t g, cudaGraphNode_t* out, size_t* n) {
  auto& v = ((Graph*)g)->nodes;
  if (out)
    for (size_t i = 0; i < std::min(*n, v.size()); i++) out[i] = (cudaGraphNode_t)v[i];
  *n = v.size();
  return cudaSuccess;
}
cudaError_t cudaGraphNodeGetDependencies(cudaGraphNode_t x, cudaGraphNode_t* out, cudaGraphEdgeData* e, size_t* n) {
  auto& v = ((Node*)x)->deps;
  if (out) {
    for (size_t i = 0; i < std::min(*n, v.size()); i++) out[i] = (cudaGraphNode_t)v[i];
    if (e) memset(e, 0, sizeof *e * v.size());
  }
  *n = v.size();
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* x, cudaGraph_t g, unsigned long long) {
  ENTER("cudaGraphInstantiate");
  UNSAFE("cudaGraphInstantiate");
  auto* e = new Exec;
  e->device = device;
  e->segments = ((Graph*)g)->segments;
  e->memory.insert(e->segments.begin(), e->segments.end());
  for (auto n : ((Graph*)g)->nodes) {
    e->nodes.push_back(*n);
    e->memory.insert(n->ptrs.begin(), n->ptrs.end());
  }
  calls()["(graph nodes instantiated)"] += e->nodes.size();
  execs().insert(e);
  *x = (cudaGraphExec_t)e;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t g) {
  GUARD;
  api("cudaGraphDestroy");
  auto* x = (Graph*)g;
  for (auto n : x->nodes) delete n;
  for (auto& o : x->objects) drop(o.first, o.second);
  delete x;
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t x) {
  GUARD;
  api("cudaGraphExecDestroy");
  UNSAFE("cudaGraphExecDestroy");
  execs().erase((Exec*)x);
  delete (Exec*)x;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t st) {
  ENTER("cudaGraphLaunch");
  auto* e = (Exec*)x;
  Stream* s = of(st);
  if (!execs().count(e)) {
    note("EVENT-MISUSE", "launch of a destroyed graph");
    FAIL(cudaErrorInvalidResourceHandle);
  }
  if (s->device != e->device) {
    note("WRONG-DEVICE", "graph launched on another device's stream");
    FAIL(cudaErrorInvalidResourceHandle);
  }
  if (s->capture) {
    note("UNSAFE-IN-CAPTURE", "graph launched into a capture");
    FAIL(cudaErrorStreamCaptureUnsupported);
  }
  if (injected()) FAIL(lost);
  for (auto p : e->segments)
    if (!reachable(p)) {
      note("LAUNCH-AFTER-FREE", "graph's own memory is gone");
      FAIL(lost = cudaErrorIllegalAddress);
    }
  e->launches++;
  add_up(GRAPHS);
  tick(s);
  check_order(e, s);
  traced(s, "graph of " + std::to_string(e->nodes.size()));
  for (auto& n : e->nodes) {
    if (auto r = known(&n, s, "LAUNCH-AFTER-FREE")) FAIL(r);
    if (n.kernel)
      n.kernel->replayed++, add_up(REPLAYED);
    else if (n.kind == Node::COPY || n.kind == Node::SET)
      count_copy("replayed", &n);
    perform(&n);
    advance(s, n.micros);
  }
  now_and_then();
  return cudaSuccess;
}
cudaError_t cudaUserObjectCreate(cudaUserObject_t* o, void* p, cudaHostFn_t f, unsigned n, unsigned) {
  *o = (cudaUserObject_t) new UserObject{p, f, (int)n};
  return cudaSuccess;
}
cudaError_t cudaUserObjectRelease(cudaUserObject_t o, unsigned n) {
  GUARD;
  drop((UserObject*)o, n);
  return cudaSuccess;
}
cudaError_t cudaGraphRetainUserObject(cudaGraph_t g, cudaUserObject_t o, unsigned n, unsigned f) {
  GUARD;
  if (!(f & cudaGraphUserObjectMove)) ((UserObject*)o)->refs += n;
  ((Graph*)g)->objects.push_back({(UserObject*)o, (int)n});
  return cudaSuccess;
}

// --- the driver's functions, asked for by name
// ------------------------------------------------------------------------
cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** f, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* r) {
  static void* self_ = [] {
    Dl_info i;
    dladdr((void*)&cudaGetDriverEntryPointByVersion, &i);
    return dlopen(i.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
  }();
  std::string n = name;
  *f = nullptr;
  for (auto s : {n + "_v2", n})
    if (!*f) *f = dlsym(self_, s.c_str());
  if (!*f) {
    static auto* stub = +[]() -> int { return 801; };
    *f = (void*)stub;
    GUARD;
    calls()["(no " + n + ")"]++;
  }
  if (r) *r = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t*, void*) { FAIL(cudaErrorNotSupported); }
cudaError_t cudaIpcOpenMemHandle(void**, cudaIpcMemHandle_t, unsigned) { FAIL(cudaErrorNotSupported); }
cudaError_t cudaIpcCloseMemHandle(void*) { FAIL(cudaErrorNotSupported); }
cudaError_t cudaIpcGetEventHandle(cudaIpcEventHandle_t*, cudaEvent_t) { FAIL(cudaErrorNotSupported); }
cudaError_t cudaIpcOpenEventHandle(cudaEvent_t*, cudaIpcEventHandle_t) { FAIL(cudaErrorNotSupported); }
cudaError_t cudaLibraryLoadData(cudaLibrary_t* l, const void*, cudaJitOption*, void**, unsigned, cudaLibraryOption*,
                                void**, unsigned) {
  *l = (cudaLibrary_t)1;
  return cudaSuccess;
}
cudaError_t cudaLibraryUnload(cudaLibrary_t) { return cudaSuccess; }
cudaError_t cudaLibraryGetKernel(cudaKernel_t* k, cudaLibrary_t, const char* n) {
  *k = (cudaKernel_t)named(n);
  return cudaSuccess;
}

// --- for the harness, by ctypes
// ---------------------------------------------------------------------------------------
void fake_dump(const char* path) { dump(path); }
void fake_reset() {
  GUARD;
  for (auto& x : kernels()) x.second->eager = x.second->captured = x.second->replayed = 0;
  for (auto& x : names()) x.second->eager = x.second->captured = x.second->replayed = 0;
  calls().clear();
  copies().clear();
  notes().clear();
}
void fake_lose(int error) {
  GUARD;
  lost = (cudaError_t)error;
}
void fake_deny(long n) {  // the n-th allocation from now on fails; 0: none
  GUARD;
  deny_in = n;
  repeats = 0;
}
void fake_trace() {  // from now on
  GUARD;
  delete trace;
  trace = new std::vector<std::string>;
}
void fake_traced(
    const char* path) {  // a line for each: device.stream, and what was queued there; and no more from now on
  GUARD;
  FILE* f = fopen(path, "w");
  if (!f || !trace) return;
  for (auto& line : *trace) fprintf(f, "%s\n", line.c_str());
  fclose(f);
  delete trace;
  trace = nullptr;
}
long fake_allocations_left() {  // until the one that fails
  GUARD;
  return deny_in;
}
}
