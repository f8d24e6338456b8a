/* Tokens index the embedding table: one outside the vocabulary must be an error, not an access. Sources refuse such
 * tokens as they are read, so that one here was never loaded: an error of ours. */
#ifndef DSC_KERNELS_TOKENS_H
#define DSC_KERNELS_TOKENS_H

#include "base/status.h"
#include <stdint.h>

/* tokens [sequences, T + 1] are all in [0, vocabulary); DSC_EINTERNAL names the first that is not. */
static inline dsc_status dsc_tokens_check(const int32_t *tokens, int64_t sequences, int64_t t_max, int64_t vocabulary)
{
    for (int64_t i = 0; i < sequences * (t_max + 1); i++)
        if (tokens[i] < 0 || tokens[i] >= vocabulary)
            return DSC_FAIL(DSC_EINTERNAL,
                            "token %d at position %lld of sequence %lld is outside the vocabulary of %lld",
                            (int)tokens[i], (long long)(i % (t_max + 1)), (long long)(i / (t_max + 1)),
                            (long long)vocabulary);
    return DSC_OK;
}

#endif
