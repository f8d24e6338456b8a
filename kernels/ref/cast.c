#include "kernels/ref/ref.h"

dsc_status dsc_ref_cast(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace, (void)step;
    for (int64_t i = 0; i < shape->d[0]; i++) {
        float sum = dsc_load(operands[0], i, shape->type);

        if (shape->flags & DSC_ACCUMULATE) sum += dsc_load(operands[1], i, shape->out);
        dsc_store(operands[1], i, shape->out, sum);
    }
    return DSC_OK;
}
