#include "kernels/ref/ref.h"
#include "kernels/shard.h"
#include "kernels/tokens.h"
#include <string.h>

/* Inputs are the first T of each row of T + 1 tokens. */
dsc_status dsc_ref_embed_fwd(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t t_max = shape->d[1], c_max = shape->d[2];
    const int32_t *tokens = operands[0];
    const int type = shape->type;
    const bool has_positions = !(shape->flags & DSC_NO_POSITIONS);
    dsc_status status = DSC_OK;

    (void)workspace;
    DSC_TRY(dsc_tokens_check(tokens, shape->d[0], t_max, dsc_token_limit(shape)));
    for (int64_t b = 0; b < shape->d[0]; b++)
        for (int64_t t = 0; t < t_max; t++) {
            const int64_t token = dsc_own_token(shape, step, tokens[b * (t_max + 1) + t]);
            const int64_t position = has_positions ? dsc_own_position(shape, step, t) : -1;

            for (int64_t c = 0; c < c_max; c++)
                dsc_store(operands[3], (b * t_max + t) * c_max + c, type,
                          (token < 0 ? 0 : (double)dsc_load(operands[1], token * c_max + c, type)) +
                              (position < 0 ? 0 : dsc_load(operands[2], position * c_max + c, type)));
        }
out:
    return status;
}

/* Rounds after each addition: a wider sum would need a table of its own. */
static void add_tokens(const dsc_shape *shape, void *const *operands, const dsc_step *step)
{
    const int64_t t_max = shape->d[1], c_max = shape->d[2];
    const int32_t *tokens = operands[0];
    void *dwte = operands[2];

    if (shape->flags & DSC_FIRST) memset(dwte, 0, (size_t)dsc_operand_bytes(shape, 2));
    for (int64_t row = 0; row < shape->d[0] * t_max; row++) {
        const int64_t token = dsc_own_token(shape, step, tokens[row + row / t_max]);

        for (int64_t c = 0; token >= 0 && c < c_max; c++)
            dsc_store(dwte, token * c_max + c, shape->out,
                      dsc_load(dwte, token * c_max + c, shape->out) +
                          (double)dsc_load(operands[1], row * c_max + c, shape->type));
    }
}

/* Rounded once. */
static void sum_positions(const dsc_shape *shape, void *const *operands, const dsc_step *step)
{
    const int64_t t_max = shape->d[1], c_max = shape->d[2], rows = dsc_position_rows(shape);
    const int64_t first = dsc_first_position(shape, step);
    void *dwpe = operands[3];

    for (int64_t i = 0; i < rows * c_max; i++) {
        const int64_t t = first + i / c_max;
        double sum = shape->flags & DSC_ACCUMULATE ? dsc_load(dwpe, i, shape->out) : 0;

        for (int64_t b = 0; t < t_max && b < shape->d[0]; b++)
            sum += dsc_load(operands[1], (b * t_max + t) * c_max + i % c_max, shape->type);
        dsc_store(dwpe, i, shape->out, sum);
    }
}

dsc_status dsc_ref_embed_bwd(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    (void)workspace;
    add_tokens(shape, operands, step);
    if (!(shape->flags & DSC_NO_POSITIONS)) sum_positions(shape, operands, step);
    return DSC_OK;
}
