// The kernels' launches, one file each, as `table.cu` puts them into the interface's table.
#pragma once

#include "launch.h"

namespace flatmin::FLATMIN_SIDE {

int64_t arena_scratch(int64_t blocks);
int64_t norm_scratch(int64_t rows, int64_t channels);
int64_t cross_entropy_scratch(int64_t rows);

int write_table(void* stream, flatmin_source* table, int64_t count, const flatmin_source* entries);
int norms(void* stream, const flatmin_cut*, const flatmin_arenas*, const flatmin_blend*, double eta, void* filter_scales,
          const flatmin_scratch*, flatmin_step*, int32_t pass, const flatmin_ball*);
int dual_norm(void* stream, const flatmin_cut*, const flatmin_arenas*, const flatmin_blend*, double eta,
              const void* filter_scales, const flatmin_scratch*, flatmin_step*, const flatmin_ball*);
int correct_rounding(void* stream, const flatmin_cut*, const flatmin_arenas*, const flatmin_blend*,
                     const flatmin_displacement*, const flatmin_scratch*, flatmin_step*, int32_t passes);
int perturb(void* stream, const flatmin_cut*, const flatmin_arenas*, const flatmin_blend*, const flatmin_displacement*,
            const flatmin_step*);
int sgd(void* stream, const flatmin_cut*, const flatmin_arenas*, const flatmin_blend*, const flatmin_sgd*,
        const flatmin_scratch*, flatmin_step*);
int adam(void* stream, const flatmin_cut*, const flatmin_arenas*, const flatmin_blend*, const flatmin_adam*,
         const flatmin_scratch*, flatmin_step*);
int restore(void* stream, const flatmin_cut*, const flatmin_arenas*);
int assign(void* stream, const flatmin_cut*, const flatmin_arenas*, const flatmin_blend*, void* arena);
int translate(void* stream, const flatmin_cut*, const flatmin_arenas*, const flatmin_blend*);
int products(void* stream, const flatmin_cut*, const flatmin_arenas*, const flatmin_blend*, const flatmin_blend*,
             const flatmin_scratch*, double* out);
int clip(void* stream, const flatmin_step*, double norm, double guard, int32_t groups, double* out);
int commit(void* stream, const flatmin_step*, void* to, const void* from, int64_t len, int32_t number);
int norm_forward(void* stream, const flatmin_norm*, const void* x, const void* residual, void* y, const flatmin_scratch*);
int norm_backward(void* stream, const flatmin_norm_backward*, const flatmin_scratch*);
int cross_entropy(void* stream, const flatmin_cross_entropy*, const flatmin_scratch*);
int cross_entropy_backward(void* stream, const flatmin_cross_entropy*, const void* dloss, void* dlogits);
int draw(void* stream, const flatmin_draw*);
int augment(void* stream, const flatmin_images*, const flatmin_augment*, const flatmin_scratch*);

}  // namespace flatmin::FLATMIN_SIDE
