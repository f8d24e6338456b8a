/* Numbers out of words that a user wrote. Every refusal names `what` (an option or key) and quotes the word. */
#ifndef DSC_BASE_PARSE_H
#define DSC_BASE_PARSE_H

#include "base/status.h"
#include <stdint.h>

/* A decimal integer within [low, high]; also 5e8 and 1.5e3 forms that are whole numbers. DSC_EINVAL names what, the
 * word and the bounds. */
dsc_status dsc_parse_int(const char *what, const char *word, int64_t low, int64_t high, int64_t *out);

/* "3" or "5-7": both ends within [low, high], the second not below the first. */
dsc_status dsc_parse_range(const char *what, const char *word, int64_t low, int64_t high, int64_t *first,
                           int64_t *last);

/* A finite number within [low, high]; nan and inf are refused. */
dsc_status dsc_parse_real(const char *what, const char *word, double low, double high, double *out);

/* Bytes: a number with an optional B, KB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB; "1.5GiB" is fine, half a
 * byte is refused. */
dsc_status dsc_parse_bytes(const char *what, const char *word, int64_t *out);

/* A whole number of things within [low, high], with an optional K, M, G or B (billion), T: powers of 1000. "300B" is
 * 3e11, "1.5T" 1.5e12. */
dsc_status dsc_parse_count(const char *what, const char *word, int64_t low, int64_t high, int64_t *out);

/* The index of word in names (NULL-terminated); DSC_EINVAL lists them, with "did you mean". */
dsc_status dsc_parse_choice(const char *what, const char *word, const char *const *names, int *out);

#endif
