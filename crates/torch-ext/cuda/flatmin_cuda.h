// The C interface of the CUDA library: a table of kernels and a table of what libtorch's CUDA side offers.
//
// No exception crosses it. A function returns 0, or 1 and then `last_error` of its table says why (per thread).
// The kernels know nothing of torch: they get raw pointers and a stream. The same sources, compiled as ordinary C++, are
// their CPU twin (`flatmin_twin_kernels`): same table, same order of every sum, `stream` ignored.
//
// Unless said otherwise pointers are to memory of the device that the stream belongs to, and structs are read on the host
// during the call. Nothing here waits for the device, so every kernel can be captured in a graph.
#pragma once

#include <stdint.h>

// The library hides everything but what it exports.
#define FLATMIN_EXPORT __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

// Raised by every change to this file.
#define FLATMIN_CUDA_ABI 4

// Number formats, as everywhere in torch-ext.
enum { FLATMIN_FLOAT32 = 0, FLATMIN_FLOAT64 = 1, FLATMIN_BFLOAT16 = 2 };

// ---------------------------------------------------------------------------------------------------------------------
// Arenas
// ---------------------------------------------------------------------------------------------------------------------

// How T_w rescales a segment.
enum { FLATMIN_PLAIN = 0, FLATMIN_ELEMENT = 1, FLATMIN_FILTER = 2 };

// A segment of an arena, in elements.
typedef struct flatmin_segment {
  int64_t offset;
  int64_t len;
  int64_t filter;        // elements of one filter, if the geometry is by filter
  int64_t first_filter;  // its first filter among those of all segments
  int32_t geometry;
  int32_t group;
  int32_t perturbed;
  int32_t half;  // the network reads it in bfloat16
} flatmin_segment;

// A part of one segment that one thread block works on; whole filters where the geometry is by filter.
typedef struct flatmin_block {
  int64_t start;  // from the segment's start
  int32_t len;
  int32_t segment;
} flatmin_block;

// An arena's cut: `segments` and `blocks` in device memory.
typedef struct flatmin_cut {
  const flatmin_segment* segments;
  const flatmin_block* blocks;
  int32_t segment_count;
  int32_t block_count;
} flatmin_cut;

// `number` is the format of master and working: float32 or float64. `working_half` is null where nothing is bfloat16.
typedef struct flatmin_arenas {
  void* master;
  void* working;
  uint16_t* working_half;
  int32_t number;
} flatmin_arenas;

// Where the gradient of one segment lies, dense in the segment's own order.
enum { FLATMIN_ABSENT = 0, FLATMIN_FULL = 1, FLATMIN_HALF = 2 };
typedef struct flatmin_source {
  const void* data;
  int64_t kind;  // of the master's format, or bfloat16
} flatmin_source;

#define FLATMIN_TERMS 4

// sum of coefficient * table. A segment is present where the first table has it.
typedef struct flatmin_term {
  const flatmin_source* table;  // one entry a segment, in device memory
  const double* by_group;       // one number a parameter group, in device memory; null: 1
  double coefficient;
} flatmin_term;

typedef struct flatmin_blend {
  flatmin_term terms[FLATMIN_TERMS];
  int32_t count;
} flatmin_blend;

// The options of one parameter group, in device memory, so that a captured step can be given new ones.
typedef struct flatmin_group {
  double rho;
  double lr;
  double momentum;
  double dampening;
  double weight_decay;
  double beta1;
  double beta2;
  double eps;
} flatmin_group;

// What a step finds out about itself, in device memory; starts as zeros with proceed and half_factor 1. All doubles, so that
// it is a float64 tensor.
typedef struct flatmin_step {
  double proceed;  // 1 while every gradient of the step was finite; 0: the step is skipped
  double plain;    // norm2(g), of the last norm pass
  double scaled;   // norm2(T_w g), of the last norm pass
  double first_plain;  // norm2(g) of the step's first pass
  double first_scaled;
  double largest;      // max |T_w g|, of the last dual norm
  double relative;     // norm_q(T_w g) / max |T_w g|
  double half_factor;  // multiplies eps in bfloat16 segments
  double ratio;        // norm2(d) / norm2(eps), d = round(w + half_factor eps) - round(w)
  double cosine;       // of the angle between d and eps
  double taken;        // steps since the record was made
  double skipped;
  double search[8];  // the search for half_factor
} flatmin_step;

// Memory for sums: at least as many numbers as the kernel's `_scratch` function says, and a counter that was zeroed once; for batch norm
// as many counters as channels, for cross-entropy none. Belongs to one stream: kernels that run at the same time need two.
typedef struct flatmin_scratch {
  double* partials;
  uint32_t* counter;
} flatmin_scratch;

// Which gradient of the step a norm pass sees.
enum {
  FLATMIN_FIRST_PASS = 0,   // begins a step: proceed = finite
  FLATMIN_SECOND_PASS = 1,  // proceed = proceed and finite; norm2(g) alone, the rest of the record stays
  FLATMIN_ONLY_MEASURE = 2  // proceed stays
};

// Asks a norm pass for the coefficients of the ascent, by group. p = 2: rho / (norm + guard), 0 for norm 0; p = infinity: rho;
// other p: nothing, `dual_norm` fills them.
typedef struct flatmin_ball {
  const flatmin_group* groups;  // device memory
  double* coefficients;         // out, device memory; null: none are wanted
  double p;
  double guard;
  int32_t group_count;
} flatmin_ball;

// How a displacement follows from x, with c the group's coefficient.
enum {
  FLATMIN_QUADRATIC = 0,  // c T_w^2 x
  FLATMIN_LINEAR = 1,     // c T_w x
  FLATMIN_POWER = 2,      // c T_w sign(h) (|h| / step.largest)^exponent, h = T_w x
  FLATMIN_SIGN = 3        // c T_w sign(x)
};
enum { FLATMIN_FROM_MASTER = 0, FLATMIN_FROM_WORKING = 1 };
enum { FLATMIN_NO_MASK = 0, FLATMIN_MASK_ELEMENT = 1, FLATMIN_MASK_SEGMENT = 2 };

typedef struct flatmin_displacement {
  const double* coefficients;  // by group, device memory
  const void* filter_scales;   // as the norm pass left them, of the master's format; null: no segment is by filter
  const uint64_t* mask_seed;   // device memory; null without a mask
  double eta;
  double exponent;
  double keep;  // probability that a unit of the mask takes part
  int32_t shape;
  int32_t origin;
  int32_t mask;
  int32_t round_trip;  // also sets master = (w + eps) - eps
} flatmin_displacement;

typedef struct flatmin_sgd {
  const flatmin_group* groups;  // device memory
  void* momentum;               // arena of the master's format; null: no group uses it
  int64_t* counts;              // steps each segment has taken, device memory: a segment's first d enters undamped
  int32_t decoupled;
  int32_t nesterov;
} flatmin_sgd;

typedef struct flatmin_adam {
  const flatmin_group* groups;
  void* first_moment;
  void* second_moment;
  int64_t* counts;
  int32_t decoupled;
} flatmin_adam;

// ---------------------------------------------------------------------------------------------------------------------
// Layers and input
// ---------------------------------------------------------------------------------------------------------------------

// Batch norm (+ addition) (+ ReLU) over dense channels-last activations, seen as rows of `channels` numbers. `number` is the
// activations' format; parameters and statistics are float32 (float64 beside float64).
typedef struct flatmin_norm {
  const void* gamma;
  const void* beta;
  void* running_mean;      // updated; null: left alone
  void* running_variance;
  void* saved;             // out, [4, channels]: mean, 1 / deviation, scale, shift
  double momentum;
  double eps;
  int64_t rows;
  int32_t channels;
  int32_t number;
  int32_t relu;
} flatmin_norm;

typedef struct flatmin_norm_backward {
  const void* x;
  const void* dy;
  const void* y;       // the output, if a residual was added before the ReLU; else null, and x decides where it passes
  const void* saved;   // as the forward pass left it
  void* dx;
  void* residual;      // out: the residual's gradient; null: there is none
  void* dgamma;        // out, float32 (float64 beside float64)
  void* dbeta;
  void* coefficients;  // out, [3, channels], between the two launches
  int64_t rows;
  int32_t channels;
  int32_t number;
  int32_t relu;
} flatmin_norm_backward;

// Softmax cross-entropy, mean over the rows: t becomes (1 - smoothing) t + smoothing / classes. A label outside
// 0..classes makes the loss NaN. `number` is the logits' format; loss and log_sum are float32 (float64 beside float64).
typedef struct flatmin_cross_entropy {
  const void* logits;     // [rows, classes]
  const int64_t* labels;  // [rows]
  void* loss;             // out, one number
  void* log_sum;          // out, [rows]: log sum exp, for the backward pass
  int64_t* correct;       // out, one number: rows whose largest logit is their label; null: not wanted
  double smoothing;
  int64_t rows;
  int32_t classes;
  int32_t number;
} flatmin_cross_entropy;

// What a random layer draws for each element: 1 / keep with that probability, else 0; or, if keep is 0, uniform in [low, high).
// Element i gets a function of (seed, stream, i): SplitMix64, as in crates/torch-ext/src/draw.rs.
typedef struct flatmin_draw {
  const uint64_t* seed;  // device memory, so that a captured step can be given another; null: `value` is the seed
  uint64_t value;
  uint64_t stream;       // the layer's
  double low;
  double high;
  double keep;
  void* out;             // [len], float32, float64 or bfloat16
  int64_t len;
  int32_t number;
} flatmin_draw;

#define FLATMIN_CHANNELS 4

// Images in device memory as bytes, [count, height, width, channels], and their classes. A byte v of channel c becomes
// v * gain[c] + bias[c].
typedef struct flatmin_images {
  const uint8_t* pixels;
  const int64_t* labels;
  int64_t count;
  float gain[FLATMIN_CHANNELS];
  float bias[FLATMIN_CHANNELS];
  int32_t height;
  int32_t width;
  int32_t channels;
} flatmin_images;

// Which images come next, in device memory, so that a captured step goes on by itself.
typedef struct flatmin_feed {
  uint64_t epoch;
  int64_t next;  // position in the order
} flatmin_feed;

// Pad and crop, mirror, normalise, cutout: the same images, bit for bit, as the loader of crates/data shows for the same seed,
// epoch and position.
typedef struct flatmin_augment {
  const int32_t* order;  // positions in the set, device memory
  int64_t order_len;     // behind its end come blank images of class -1
  flatmin_feed* feed;
  void* out;             // [batch, height, width, channels], float32, float64 or bfloat16
  int64_t* labels;       // out, [batch]
  uint64_t seed;
  int32_t batch;
  int32_t number;
  int32_t padding;
  int32_t flip;
  int32_t cutout;   // side; 0: none
  int32_t advance;  // feed.next += batch at the end
} flatmin_augment;

// ---------------------------------------------------------------------------------------------------------------------
// Kernels
// ---------------------------------------------------------------------------------------------------------------------

struct flatmin_kernels {
  uint32_t abi;
  const char* (*last_error)(void);

  // Elements that a block of an arena holds, about.
  int64_t block_len;

  // Numbers of scratch that kernels over an arena cut into so many blocks need.
  int64_t (*arena_scratch)(int64_t blocks);
  int64_t (*norm_scratch)(int64_t rows, int64_t channels);
  int64_t (*cross_entropy_scratch)(int64_t rows);

  // `entries` (host memory) into `table`: the addresses travel as kernel arguments, so a capture keeps them.
  int (*write_table)(void* stream, flatmin_source* table, int64_t count, const flatmin_source* entries);

  // norm2(g), norm2(T_w g) into `step`; norm2(filter) + eta into `filter_scales`.
  int (*norms)(void* stream, const flatmin_cut*, const flatmin_arenas*, const flatmin_blend*, double eta,
               void* filter_scales, const flatmin_scratch*, flatmin_step* step, int32_t pass, const flatmin_ball*);
  // norm_q(T_w g), q = p / (p - 1), into `step`, and the coefficients of `ball`. After `norms`.
  int (*dual_norm)(void* stream, const flatmin_cut*, const flatmin_arenas*, const flatmin_blend*, double eta,
                   const void* filter_scales, const flatmin_scratch*, flatmin_step* step, const flatmin_ball*);
  // step.half_factor such that <d, eps> = <eps, eps> within 1 %, from at most `passes` measurements (0: the factor is 1); see
  // crates/optim/src/rounding.rs.
  int (*correct_rounding)(void* stream, const flatmin_cut*, const flatmin_arenas*, const flatmin_blend*,
                          const flatmin_displacement*, const flatmin_scratch*, flatmin_step* step, int32_t passes);
  // working = from + eps where perturbed and present; working = master there if the step is skipped.
  int (*perturb)(void* stream, const flatmin_cut*, const flatmin_arenas*, const flatmin_blend*,
                 const flatmin_displacement*, const flatmin_step* step);
  // The descent writes: working = master everywhere, master stepped where present and if the step proceeds. They count it.
  int (*sgd)(void* stream, const flatmin_cut*, const flatmin_arenas*, const flatmin_blend*, const flatmin_sgd*,
             const flatmin_scratch*, flatmin_step* step);
  int (*adam)(void* stream, const flatmin_cut*, const flatmin_arenas*, const flatmin_blend*, const flatmin_adam*,
              const flatmin_scratch*, flatmin_step* step);

  // working = master.
  int (*restore)(void* stream, const flatmin_cut*, const flatmin_arenas*);
  // arena = blend, where present; `number` of the arenas.
  int (*assign)(void* stream, const flatmin_cut*, const flatmin_arenas*, const flatmin_blend*, void* arena);
  // master += blend, working = master.
  int (*translate)(void* stream, const flatmin_cut*, const flatmin_arenas*, const flatmin_blend*);
  // <a, a>, <a, b>, <b, b> over the segments that both have, into `out` (3 numbers, device memory).
  int (*products)(void* stream, const flatmin_cut*, const flatmin_arenas*, const flatmin_blend* a,
                  const flatmin_blend* b, const flatmin_scratch*, double* out);
  // out[group] = (norm / (step.plain + guard) where that is below 1, else 1), for `flatmin_term.by_group`.
  int (*clip)(void* stream, const flatmin_step* step, double norm, double guard, int32_t groups, double* out);
  // to = from, numbers of the format `number`, if the step proceeds: running statistics become real.
  int (*commit)(void* stream, const flatmin_step* step, void* to, const void* from, int64_t len, int32_t number);

  // y = act(batch_norm(x) + residual); residual may be null.
  int (*norm_forward)(void* stream, const flatmin_norm*, const void* x, const void* residual, void* y,
                      const flatmin_scratch*);
  int (*norm_backward)(void* stream, const flatmin_norm_backward*, const flatmin_scratch*);

  int (*cross_entropy)(void* stream, const flatmin_cross_entropy*, const flatmin_scratch*);
  // dlogits = (softmax - target) * *dloss / rows; dloss is of the loss's format.
  int (*cross_entropy_backward)(void* stream, const flatmin_cross_entropy*, const void* dloss, void* dlogits);

  int (*draw)(void* stream, const flatmin_draw*);

  int (*augment)(void* stream, const flatmin_images*, const flatmin_augment*, const flatmin_scratch*);
};
typedef struct flatmin_kernels flatmin_kernels;

// The kernels on the GPU (the CUDA library) and on the CPU (linked into torch-ext).
FLATMIN_EXPORT const flatmin_kernels* flatmin_cuda_kernels(void);
const flatmin_kernels* flatmin_twin_kernels(void);

// ---------------------------------------------------------------------------------------------------------------------
// libtorch's CUDA side. Tensors are `at::Tensor*`, as in shim.h; one that is handed out belongs to the caller, who frees it as tch
// does.
// ---------------------------------------------------------------------------------------------------------------------

typedef struct flatmin_device {
  char name[256];
  uint64_t memory;       // bytes
  int32_t major;         // compute capability
  int32_t minor;
  int32_t processors;    // streaming multiprocessors
  int32_t l2_bytes;
} flatmin_device;

typedef struct flatmin_memory {
  uint64_t allocated;  // bytes in tensors
  uint64_t allocated_peak;
  uint64_t reserved;  // bytes taken from the driver
  uint64_t reserved_peak;
  uint64_t retries;  // allocations that first had to give cached memory back
} flatmin_memory;

typedef struct flatmin_runtime {
  uint32_t abi;
  const char* (*last_error)(void);

  int (*versions)(int32_t* driver, int32_t* runtime);  // 13000 is 13.0; driver 0: none
  int (*device_count)(int32_t* count);                 // fails where there is no driver
  int (*device)(int32_t index, flatmin_device* out);
  int (*memory)(int32_t index, flatmin_memory* out);

  // Streams: handles that are freed; the stream itself stays.
  int (*stream_from_pool)(int32_t device, void** stream);
  int (*stream_new)(int32_t device, void** stream);  // outside of the pool, whose streams are handed out again and again
  int (*stream_current)(int32_t device, void** stream);
  int (*stream_set_current)(const void* stream);  // and its device
  int (*stream_synchronize)(const void* stream);
  void (*stream_free)(void* stream);
  // cudaStream_t of a device's current stream, before each launch; makes the device this thread's, as a launch there needs.
  int (*current_raw)(int32_t device, void** raw);

  int (*event_new)(void** event);
  int (*event_record)(void* event, const void* stream);
  int (*event_wait)(void* event, const void* stream);  // the stream waits
  void (*event_free)(void* event);

  // A tensor of the same shape and dtype in page-locked memory. Not while a graph is captured.
  int (*pinned_like)(const void* tensor, void** out);
  // to = from on the stream, without waiting; `from` may be pinned memory, which must stay as it is until then.
  int (*copy_async)(void* to, const void* from, const void* stream);
  // Keeps the tensor's memory until what the stream has queued is done.
  int (*record_stream)(const void* tensor, const void* stream);

  // Capture runs on the current stream, which must not be the default one, in thread-local mode: other threads may go on.
  int (*graph_new)(void** graph);
  // Waits for the stream and returns cached memory to the driver first. `other`, which may be null: a graph that is ready and is never
  // replayed at the same time; both then take their memory from one pool.
  int (*graph_begin)(void* graph, const void* other);
  int (*graph_end)(void* graph);  // and makes it ready to replay; after a failure all is as before
  int (*graph_replay)(void* graph);
  void (*graph_free)(void* graph);
} flatmin_runtime;

// Looked up with `flatmin_cuda_kernels`, this one first.
FLATMIN_EXPORT uint32_t flatmin_cuda_abi(void);
FLATMIN_EXPORT const char* flatmin_cuda_torch_version(void);
FLATMIN_EXPORT const flatmin_runtime* flatmin_cuda_runtime(void);

#ifdef __cplusplus
}
#endif
