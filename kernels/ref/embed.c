#include "kernels/ref/ref.h"
#include "kernels/tokens.h"
#include <string.h>

/* Inputs are the first T of each row of T + 1 tokens. */
dsc_status dsc_ref_embed_fwd(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t t_max = shape->d[1], c_max = shape->d[2];
    const int32_t *tokens = operands[0];
    const int type = shape->type;
    dsc_status status = DSC_OK;

    (void)workspace, (void)step;
    DSC_TRY(dsc_tokens_check(tokens, shape->d[0], t_max, shape->d[3]));
    for (int64_t b = 0; b < shape->d[0]; b++)
        for (int64_t t = 0; t < t_max; t++)
            for (int64_t c = 0; c < c_max; c++)
                dsc_store(operands[3], (b * t_max + t) * c_max + c, type,
                          (double)dsc_load(operands[1], tokens[b * (t_max + 1) + t] * c_max + c, type) +
                              dsc_load(operands[2], t * c_max + c, type));
out:
    return status;
}

static void add_to(void *to, int64_t index, int type, double value)
{
    dsc_store(to, index, type, dsc_load(to, index, type) + value);
}

/* Rounds after each addition to dwte: a wider sum would need a table of its own. dwpe is rounded once. */
dsc_status dsc_ref_embed_bwd(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t b_max = shape->d[0], t_max = shape->d[1], c_max = shape->d[2];
    const int32_t *tokens = operands[0];
    const void *dx = operands[1];
    void *dwte = operands[2], *dwpe = operands[3];

    (void)workspace, (void)step;
    if (shape->flags & DSC_FIRST) memset(dwte, 0, (size_t)dsc_operand_bytes(shape, 2));
    for (int64_t b = 0; b < b_max; b++)
        for (int64_t t = 0; t < t_max; t++)
            for (int64_t c = 0; c < c_max; c++)
                add_to(dwte, tokens[b * (t_max + 1) + t] * c_max + c, shape->out,
                       dsc_load(dx, (b * t_max + t) * c_max + c, shape->type));
    for (int64_t i = 0; i < t_max * c_max; i++) {
        double sum = shape->flags & DSC_ACCUMULATE ? dsc_load(dwpe, i, shape->out) : 0;

        for (int64_t b = 0; b < b_max; b++) sum += dsc_load(dx, b * t_max * c_max + i, shape->type);
        dsc_store(dwpe, i, shape->out, sum);
    }
    return DSC_OK;
}
