#include "kernels/ref/ref.h"

dsc_status dsc_ref_cast(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t from = shape->flags & DSC_SHARD ? step->tp_index * shape->d[0] : 0;

    (void)workspace;
    for (int64_t i = 0; i < shape->d[0]; i++) {
        float sum = dsc_load(operands[0], from + i, shape->type);

        if (shape->flags & DSC_ACCUMULATE) sum += dsc_load(operands[1], i, shape->out);
        dsc_store(operands[1], i, shape->out, sum);
    }
    return DSC_OK;
}
