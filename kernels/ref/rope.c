#include "kernels/ref/ref.h"
#include <math.h>

/* Turns a head's pairs (i, i + D/2) by the angle position * theta^(-2i/D): (x, y) to (x cos - y sin, y cos + x sin). Su
 * et al. 2021, equation 34, with the pairs that Hugging Face's LLaMA has. */
static void turn(const dsc_shape *shape, void *qkv, int64_t first, int64_t position)
{
    const int64_t half = shape->d[4] / 2;
    const double sign = shape->flags & DSC_INVERSE ? -1 : 1;

    for (int64_t i = 0; i < half; i++) {
        const double angle = sign * (double)position * pow((double)shape->d[5], -(double)i / (double)half);
        const double x = dsc_load(qkv, first + i, shape->type), y = dsc_load(qkv, first + half + i, shape->type);

        dsc_store(qkv, first + i, shape->type, x * cos(angle) - y * sin(angle));
        dsc_store(qkv, first + half + i, shape->type, y * cos(angle) + x * sin(angle));
    }
}

/* Rows hold H heads of q, Hkv of k, Hkv of v. */
dsc_status dsc_ref_rope(const dsc_shape *shape, void *const *operands, void *workspace, const dsc_step *step)
{
    const int64_t turned = shape->d[2] + shape->d[3], width = (turned + shape->d[3]) * shape->d[4];

    (void)workspace, (void)step;
#pragma omp parallel for
    for (int64_t row = 0; row < shape->d[0] * shape->d[1]; row++)
        for (int64_t head = 0; head < turned; head++)
            turn(shape, operands[0], row * width + head * shape->d[4], row % shape->d[1]);
    return DSC_OK;
}
