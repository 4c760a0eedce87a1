// cuBLAS, cuBLASLt and cuDNN as torch calls them: descriptors remember what is set, whatever would launch is counted.
#include "fake.h"
#include <cudnn.h>
#include <cstring>
#include <cstdio>
#include <memory>
using namespace fake;
typedef int St;  // status: 0 is success for all three

// --- cuBLAS ---------------------------------------------------------------------------------------------------------
struct Blas {
  cudaStream_t stream = nullptr;
  int math = 0, pointer = 0;
};
static St done(cudaError_t e) { return e ? 13 : 0; }  // CUBLAS_STATUS_EXECUTION_FAILED
extern "C" {
St cublasCreate_v2(Blas** h) {
  api("cublasCreate");
  *h = new Blas;
  return 0;
}
St cublasDestroy_v2(Blas* h) {
  delete h;
  return 0;
}
St cublasSetStream_v2(Blas* h, cudaStream_t s) {
  h->stream = s;
  return 0;
}
St cublasGetStream_v2(Blas* h, cudaStream_t* s) {
  *s = h->stream;
  return 0;
}
St cublasSetWorkspace_v2(Blas*, void*, size_t) { return 0; }
St cublasSetMathMode(Blas* h, int m) {
  h->math = m;
  return 0;
}
St cublasGetMathMode(Blas* h, int* m) {
  *m = h->math;
  return 0;
}
St cublasSetPointerMode_v2(Blas* h, int m) {
  h->pointer = m;
  return 0;
}
St cublasGetPointerMode_v2(Blas* h, int* m) {
  *m = h->pointer;
  return 0;
}
St cublasSetSmCountTarget(Blas*, int) { return 0; }
#define GEMM(NAME)                                                                                                     \
  St NAME(Blas* h, int, int, int, int, int, const void*, const void* A, int, const void* B, int, const void*, void* C, \
          int) {                                                                                                       \
    return done(launch(named(std::string("cublas::" #NAME) + (h->math & 3 ? " tf32" : "")), h->stream, {A, B, C}));    \
  }
GEMM(cublasSgemm_v2)
GEMM(cublasDgemm_v2)
GEMM(cublasCgemm_v2) GEMM(cublasZgemm_v2)
#define STRIDED(NAME)                                                                                                  \
  St NAME(Blas* h, int, int, int, int, int, const void*, const void* A, int, long long, const void* B, int, long long, \
          const void*, void* C, int, long long, int) {                                                                 \
    return done(launch(named("cublas::" #NAME), h->stream, {A, B, C}));                                                \
  }
    STRIDED(cublasSgemmStridedBatched) STRIDED(cublasDgemmStridedBatched) St
    cublasGemmEx(Blas* h, int, int, int, int, int, const void*, const void* A, int ta, int, const void* B, int, int,
                 const void*, void* C, int, int, int, int) {
  return done(launch(named("cublas::GemmEx type " + std::to_string(ta)), h->stream, {A, B, C}));
}
St cublasSgemmEx(Blas* h, int, int, int, int, int, const void*, const void* A, int, int, const void* B, int, int,
                 const void*, void* C, int, int) {
  return done(launch(named("cublas::SgemmEx"), h->stream, {A, B, C}));
}
St cublasGemmStridedBatchedEx(Blas* h, int, int, int, int, int, const void*, const void* A, int, int, long long,
                              const void* B, int, int, long long, const void*, void* C, int, int, long long, int, int,
                              int) {
  return done(launch(named("cublas::GemmStridedBatchedEx"), h->stream, {A, B, C}));
}
St cublasSgemv_v2(Blas* h, int, int, int, const void*, const void* A, int, const void* x, int, const void*, void* y,
                  int) {
  return done(launch(named("cublas::Sgemv"), h->stream, {A, x, y}));
}
St cublasSdot_v2(Blas* h, int, const void* x, int, const void* y, int, void*) {
  return done(launch(named("cublas::Sdot"), h->stream, {x, y}));
}

// --- cuBLASLt
// ---------------------------------------------------------------------------------------------------------
struct LtResult {
  uint64_t algo[8];
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};
size_t cublasLtGetVersion() { return 130100; }
#define MAKE(NAME, ...)              \
  St NAME(void** p, ##__VA_ARGS__) { \
    *p = calloc(1, 64);              \
    return 0;                        \
  }
MAKE(cublasLtMatmulDescCreate, int, int)
MAKE(cublasLtMatrixLayoutCreate, int, uint64_t, uint64_t, int64_t)
MAKE(cublasLtMatmulPreferenceCreate) St cublasLtMatmulDescDestroy(void* p) {
  free(p);
  return 0;
}
St cublasLtMatrixLayoutDestroy(void* p) {
  free(p);
  return 0;
}
St cublasLtMatmulPreferenceDestroy(void* p) {
  free(p);
  return 0;
}
St cublasLtMatmulDescSetAttribute(void*, int, const void*, size_t) { return 0; }
St cublasLtMatrixLayoutSetAttribute(void*, int, const void*, size_t) { return 0; }
St cublasLtMatmulPreferenceSetAttribute(void*, int, const void*, size_t) { return 0; }
St cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int n, LtResult* r, int* found) {
  api("cublasLtMatmulAlgoGetHeuristic");
  if (n > 0) memset(r, 0, sizeof *r);
  *found = n > 0;
  return 0;
}
St cublasLtMatmul(void*, void*, const void*, const void* A, void*, const void* B, void*, const void*, const void* C,
                  void*, void* D, void*, const void*, void*, size_t, cudaStream_t s) {
  return done(launch(named("cublasLt::matmul"), s, {A, B, C, D}));
}
}

// --- cuDNN
// ------------------------------------------------------------------------------------------------------------
struct Dnn {
  cudaStream_t stream = nullptr;
};
static cudnnStatus_t ok(cudaError_t e) { return e ? CUDNN_STATUS_EXECUTION_FAILED : CUDNN_STATUS_SUCCESS; }
static cudaStream_t on(cudnnHandle_t h) { return ((Dnn*)h)->stream; }
// A backend descriptor: the attributes set, as bytes; descriptors are shared, because the caller copies and drops them.
struct Back {
  int type;
  std::map<int, std::vector<char>> set;
  std::map<int, std::vector<std::shared_ptr<Back>>> refs;
};
struct Handle {
  std::shared_ptr<Back> it;
};
static std::shared_ptr<Back>& at(cudnnBackendDescriptor_t d) { return ((Handle*)d)->it; }
static size_t width(cudnnBackendAttributeType_t t) {
  switch (t) {
    case CUDNN_TYPE_BOOLEAN:
    case CUDNN_TYPE_CHAR:
      return 1;
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_INT64:
    case CUDNN_TYPE_DOUBLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_FRACTION:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR:
      return 8;
    default:
      return 4;
  }
}
static int64_t whole(Back& b, int name, int i = 0) {
  auto& v = b.set[name];
  int64_t x = 0;
  if ((i + 1) * 8 <= (int)v.size()) memcpy(&x, &v[i * 8], 8);
  return x;
}
static int small(Back& b, int name) {
  auto& v = b.set[name];
  int x = 0;
  if (v.size() >= 4) memcpy(&x, &v[0], 4);
  return x;
}
static std::string tensor(Back& t) {  // "fp32 nhwc"
  const char* types[] = {"fp32", "fp64", "fp16", "int8", "int32"};
  int dt = small(t, CUDNN_ATTR_TENSOR_DATA_TYPE);
  std::string s = dt == CUDNN_DATA_BFLOAT16 ? "bf16" : dt < 5 ? types[dt] : "type" + std::to_string(dt);
  bool nhwc = whole(t, CUDNN_ATTR_TENSOR_STRIDES, 1) == 1;
  return s + (nhwc ? " nhwc" : " nchw");
}
static std::string describe(Back& op) {
  auto one = [&](int name) {
    auto& r = op.refs[name];
    return r.empty() ? std::string("?") : tensor(*r[0]);
  };
  switch (op.type) {
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
      return "conv_fwd x=" + one(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X) +
             " w=" + one(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W) +
             " y=" + one(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y);
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR:
      return "conv_dgrad dx=" + one(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX) +
             " w=" + one(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W) +
             " dy=" + one(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY);
    case CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR:
      return "conv_wgrad x=" + one(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X) +
             " dw=" + one(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW) +
             " dy=" + one(CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY);
    default:
      return "op" + std::to_string(op.type);
  }
}
static int engines() {
  const char* v = getenv("FAKE_CUDNN_ENGINES");
  return v && *v ? atoi(v) : 3;
}

extern "C" {
size_t cudnnGetVersion() { return CUDNN_VERSION; }
size_t cudnnGetCudartVersion() { return 13000; }
const char* cudnnGetErrorString(cudnnStatus_t s) { return s ? "CUDNN_STATUS of the fake" : "CUDNN_STATUS_SUCCESS"; }
void cudnnGetLastErrorString(char* s, size_t n) { snprintf(s, n, "fake cuDNN"); }
cudnnStatus_t cudnnCreate(cudnnHandle_t* h) {
  api("cudnnCreate");
  *h = (cudnnHandle_t) new Dnn;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnDestroy(cudnnHandle_t h) {
  delete (Dnn*)h;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t h, cudaStream_t s) {
  ((Dnn*)h)->stream = s;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetStream(cudnnHandle_t h, cudaStream_t* s) {
  *s = on(h);
  return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t t, cudnnBackendDescriptor_t* d) {
  auto* h = new Handle;
  h->it = std::make_shared<Back>();
  h->it->type = t;
  *d = (cudnnBackendDescriptor_t)h;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d) {
  delete (Handle*)d;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t n,
                                       cudnnBackendAttributeType_t t, int64_t c, const void* v) {
  auto& b = *at(d);
  const char* p = (const char*)v;
  b.set[n].assign(p, p + c * width(t));
  if (t == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
    auto& r = b.refs[n];
    r.clear();
    for (int64_t i = 0; i < c; i++) r.push_back(at(((cudnnBackendDescriptor_t*)v)[i]));
  }
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t d) {
  if (at(d)->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) api("cudnn plans built");
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t n,
                                       cudnnBackendAttributeType_t t, int64_t want, int64_t* got, void* out) {
  auto& b = *at(d);
  int64_t count = 0;
  if (!got) got = &count;
  if (n == CUDNN_ATTR_ENGINEHEUR_RESULTS) {  // some engines, by their number
    if (!out || !want) {
      *got = engines();
      return CUDNN_STATUS_SUCCESS;
    }
    *got = std::min<int64_t>(want, engines());
    for (int64_t i = 0; i < *got; i++) {
      auto e = std::make_shared<Back>();
      e->type = CUDNN_BACKEND_ENGINE_DESCRIPTOR;
      e->refs[CUDNN_ATTR_ENGINE_OPERATION_GRAPH] = b.refs[CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH];
      e->set[CUDNN_ATTR_ENGINE_GLOBAL_INDEX].assign((char*)&i, (char*)&i + 8);
      at(((cudnnBackendDescriptor_t*)out)[i])->refs[CUDNN_ATTR_ENGINECFG_ENGINE] = {e};
    }
    return CUDNN_STATUS_SUCCESS;
  }
  if (t == CUDNN_TYPE_BACKEND_DESCRIPTOR) {
    auto& r = b.refs[n];
    *got = (int64_t)r.size();
    if (out)
      for (int64_t i = 0; i < std::min<int64_t>(want, *got); i++) at(((cudnnBackendDescriptor_t*)out)[i]) = r[i];
    return CUDNN_STATUS_SUCCESS;
  }
  if (n == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE) {  // engine 2 is not deterministic, engine 1 uses tensor cores
    int64_t e = whole(b, CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
    *got = e ? 1 : 0;
    if (out && want > 0 && e)
      ((int*)out)[0] = e == 2 ? CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC : CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
    return CUDNN_STATUS_SUCCESS;
  }
  if (n == CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE) {
    *got = 0;
    return CUDNN_STATUS_SUCCESS;
  }
  if (n == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) {
    *got = 1;
    const char* v = getenv("FAKE_CUDNN_WORKSPACE");
    if (out) *(int64_t*)out = v && *v ? atoll(v) : 1 << 20;
    return CUDNN_STATUS_SUCCESS;
  }
  if (n == CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION) {
    const char s[] = "{}";
    *got = sizeof s;
    if (out) memcpy(out, s, std::min<size_t>(want, sizeof s));
    return CUDNN_STATUS_SUCCESS;
  }
  auto& v = b.set[n];
  int64_t have = (int64_t)(v.size() / width(t));
  *got = have ? have : 1;
  if (out && want > 0) {
    memset(out, 0, want * width(t));
    memcpy(out, v.data(), std::min<size_t>(v.size(), want * width(t)));
  }
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendExecute(cudnnHandle_t h, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack) {
  std::string name = "cudnn::";
  auto& p = *at(plan);
  auto& cfg = p.refs[CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG];
  int64_t engine = -1;
  if (!cfg.empty() && !cfg[0]->refs[CUDNN_ATTR_ENGINECFG_ENGINE].empty()) {
    auto& e = *cfg[0]->refs[CUDNN_ATTR_ENGINECFG_ENGINE][0];
    engine = whole(e, CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
    auto& g = e.refs[CUDNN_ATTR_ENGINE_OPERATION_GRAPH];
    if (!g.empty()) {
      const char* plus = "";
      for (auto& op : g[0]->refs[CUDNN_ATTR_OPERATIONGRAPH_OPS]) {
        name += plus + describe(*op);
        plus = "+";
      }
    }
  }
  name += " engine " + std::to_string(engine);
  auto& v = at(pack)->set[CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS];
  Ptrs ptrs;
  for (size_t i = 0; i + 8 <= v.size(); i += 8) {
    const void* q;
    memcpy(&q, &v[i], 8);
    ptrs.push_back(q);
  }
  auto& w = at(pack)->set[CUDNN_ATTR_VARIANT_PACK_WORKSPACE];
  if (w.size() >= 8) {
    const void* q;
    memcpy(&q, &w[0], 8);
    ptrs.push_back(q);
  }
  return ok(launch(named(name), on(h), ptrs));
}

#define CREATE(NAME, TYPE)                   \
  cudnnStatus_t cudnnCreate##NAME(TYPE* d) { \
    *d = (TYPE)calloc(1, 8);                 \
    return CUDNN_STATUS_SUCCESS;             \
  }                                          \
  cudnnStatus_t cudnnDestroy##NAME(TYPE d) { \
    free((void*)d);                          \
    return CUDNN_STATUS_SUCCESS;             \
  }
CREATE(TensorDescriptor, cudnnTensorDescriptor_t)
CREATE(FilterDescriptor, cudnnFilterDescriptor_t)
CREATE(ActivationDescriptor, cudnnActivationDescriptor_t) CREATE(PoolingDescriptor, cudnnPoolingDescriptor_t)
    CREATE(DropoutDescriptor, cudnnDropoutDescriptor_t) cudnnStatus_t
    cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t, cudnnDataType_t, int, const int*, const int*) {
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetFilterNdDescriptor(cudnnFilterDescriptor_t, cudnnDataType_t, cudnnTensorFormat_t, int,
                                         const int*) {
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetActivationDescriptor(cudnnActivationDescriptor_t, cudnnActivationMode_t, cudnnNanPropagation_t,
                                           double) {
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(
    cudnnHandle_t, cudnnBatchNormMode_t, cudnnBatchNormOps_t, const cudnnTensorDescriptor_t,
    const cudnnTensorDescriptor_t, const cudnnTensorDescriptor_t, const cudnnTensorDescriptor_t,
    const cudnnActivationDescriptor_t, size_t* n) {
  *n = 1 << 16;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetBatchNormalizationBackwardExWorkspaceSize(
    cudnnHandle_t, cudnnBatchNormMode_t, cudnnBatchNormOps_t, const cudnnTensorDescriptor_t,
    const cudnnTensorDescriptor_t, const cudnnTensorDescriptor_t, const cudnnTensorDescriptor_t,
    const cudnnTensorDescriptor_t, const cudnnTensorDescriptor_t, const cudnnActivationDescriptor_t, size_t* n) {
  *n = 1 << 16;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnGetBatchNormalizationTrainingExReserveSpaceSize(cudnnHandle_t, cudnnBatchNormMode_t,
                                                                   cudnnBatchNormOps_t,
                                                                   const cudnnActivationDescriptor_t,
                                                                   const cudnnTensorDescriptor_t, size_t* n) {
  *n = 1 << 16;
  return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBatchNormalizationForwardTrainingEx(cudnnHandle_t h, cudnnBatchNormMode_t, cudnnBatchNormOps_t,
                                                       const void*, const void*, const cudnnTensorDescriptor_t,
                                                       const void* x, const cudnnTensorDescriptor_t, const void*,
                                                       const cudnnTensorDescriptor_t, void* y,
                                                       const cudnnTensorDescriptor_t, const void* s, const void* b,
                                                       double, void*, void*, double, void*, void*,
                                                       cudnnActivationDescriptor_t, void*, size_t, void*, size_t) {
  return ok(launch(named("cudnn::bn_fwd_training"), on(h), {x, y, s, b}));
}
cudnnStatus_t cudnnBatchNormalizationForwardInference(cudnnHandle_t h, cudnnBatchNormMode_t, const void*, const void*,
                                                      const cudnnTensorDescriptor_t, const void* x,
                                                      const cudnnTensorDescriptor_t, void* y,
                                                      const cudnnTensorDescriptor_t, const void* s, const void* b,
                                                      const void* m, const void* v, double) {
  return ok(launch(named("cudnn::bn_fwd_inference"), on(h), {x, y, s, b, m, v}));
}
cudnnStatus_t cudnnBatchNormalizationBackwardEx(cudnnHandle_t h, cudnnBatchNormMode_t, cudnnBatchNormOps_t, const void*,
                                                const void*, const void*, const void*, const cudnnTensorDescriptor_t,
                                                const void* x, const cudnnTensorDescriptor_t, const void*,
                                                const cudnnTensorDescriptor_t, const void* dy,
                                                const cudnnTensorDescriptor_t, void*, const cudnnTensorDescriptor_t,
                                                void* dx, const cudnnTensorDescriptor_t, const void*, const void*,
                                                void*, void*, double, const void*, const void*,
                                                cudnnActivationDescriptor_t, void*, size_t, void*, size_t) {
  return ok(launch(named("cudnn::bn_bwd"), on(h), {x, dy, dx}));
}
}
