/* Which blocks of an attention matrix are present: the patterns of DeepSpeed's sparse attention (September 2020), as
 * pure functions of their parameters. A layout says for each head, block row (of queries) and block column (of keys)
 * whether that block of the scores is computed. */
#ifndef DSC_MODEL_SPARSITY_H
#define DSC_MODEL_SPARSITY_H

#include "base/json.h"
#include "base/text.h"
#include "kernel/blocks.h"

typedef enum dsc_sparsity_mode {
    DSC_SPARSITY_DENSE,
    DSC_SPARSITY_FIXED,        /* Child et al. 2019: local windows, and the last blocks of each for all rows */
    DSC_SPARSITY_VARIABLE,     /* windows of several sizes, chosen global blocks, random ones */
    DSC_SPARSITY_BIGBIRD,      /* Zaheer et al. 2020: sliding window, first blocks global, random ones */
    DSC_SPARSITY_BSLONGFORMER, /* Beltagy et al. 2020, by blocks: sliding window, chosen global rows and columns */
    DSC_SPARSITY_LOCAL,        /* a sliding window alone */
    DSC_SPARSITY_MODES
} dsc_sparsity_mode;
extern const char *const DSC_SPARSITY_NAMES[]; /* "dense", "fixed", ..., NULL */

enum { DSC_SPARSITY_MOST = 256 }; /* of a list's items */
typedef struct dsc_block_list { int64_t count, of[DSC_SPARSITY_MOST]; } dsc_block_list;

/* Parameters, in blocks where nothing else is said; those that a mode does not name it does not read. Names are those
 * of the reference's configuration. */
typedef struct dsc_sparsity {
    dsc_sparsity_mode mode;
    int64_t block;                        /* tokens of a block's side */
    bool is_bidirectional, is_horizontal; /* all but dense; fixed, variable: global blocks attend to all too */
    bool is_per_head;                     /* heads differ where the mode lets them: fixed's patterns, random blocks */
    int64_t local_blocks, global_blocks, global_patterns; /* fixed; global_blocks: bigbird too */
    int64_t random_blocks;                /* variable, bigbird: of each row */
    int64_t window_blocks;                /* bigbird, bslongformer, local: an even number is as the next odd one */
    dsc_block_list windows;               /* variable: sizes of consecutive windows, the last of which repeats */
    dsc_block_list globals, global_ends;  /* variable, bslongformer: single blocks, or with ends ranges [global, end) */
    uint64_t seed;                        /* of random blocks */
} dsc_sparsity;

/* The reference's defaults of a mode's class. Pure. */
void dsc_sparsity_default(dsc_sparsity_mode mode, dsc_sparsity *out);

/* The defaults of the mode that a word names; DSC_ENOTSUP lists those that there are. */
dsc_status dsc_sparsity_find(const char *word, dsc_sparsity *out);

/* Reads members of an object over what *out holds, of out->mode: unknown keys, wrong types and lists that are too long
 * are DSC_EINVAL naming where and key; what the mode does not read is a warning. */
dsc_status dsc_sparsity_read(const char *where, const json_t *object, dsc_sparsity *out);
/* A configuration's section `sparse_attention`, by whose rules there are no random blocks unless it says so, and
 * bigbird and bslongformer are bidirectional. DSC_ENOTSUP names a mode that does not exist. */
dsc_status dsc_sparsity_section(const char *where, const json_t *section, dsc_sparsity *out);

typedef struct dsc_layout {
    int64_t block, blocks, heads; /* tokens of a block, blocks of a row and of a column */
    int64_t kinds;                /* layouts that are stored: 1, or one a head */
    int64_t words;                /* 64-bit words of a row */
    uint64_t *bits;               /* [kinds][blocks][words], bit c % 64 of word c / 64 */
} dsc_layout;

/* The layout of so many heads over a sequence. As the reference's to the bit, but for random blocks, which are drawn by
 * Philox from (seed, head, row), so that every rank draws the same.
 * returns  DSC_EINVAL with both numbers that disagree (a sequence that the block does not divide, more blocks wanted
 *          than there are, more than 2^32 blocks of all layouts that differ, ...), or DSC_ENOMEM. */
dsc_status dsc_layout_create(const dsc_sparsity *sparsity, int64_t heads, int64_t seq, dsc_layout **out);
/* {"block": 16, "layout": [[[0, 1, ...], ...], ...]}: by head, block row, block column. DSC_EINVAL names where and what
 * is no square of zeros and ones. */
dsc_status dsc_layout_of_json(const char *where, const json_t *object, dsc_layout **out);
void dsc_layout_destroy(dsc_layout *layout); /* takes NULL */

/* One of one's own: all blocks absent, a layout for each head; then block by block. DSC_ENOMEM. */
dsc_status dsc_layout_make(int64_t block, int64_t blocks, int64_t heads, dsc_layout **out);
void dsc_layout_add(dsc_layout *layout, int64_t head, int64_t row, int64_t column);

bool dsc_layout_has(const dsc_layout *layout, int64_t head, int64_t row, int64_t column); /* Pure. */
int64_t dsc_layout_count(const dsc_layout *layout, int64_t head);                         /* present blocks. Pure. */
double dsc_layout_density(const dsc_layout *layout); /* present blocks of all heads over all. Pure. */
/* The lists that kernels read (kernel/blocks.h), of the heads given as numbers of the layout's: there must be room for
 * the present blocks of all, and where there is more the rest is zero. DSC_ENOMEM. */
dsc_status dsc_layout_list(const dsc_layout *layout, const int64_t *heads, const dsc_blocks *out);
/* Takes away every block above the diagonal: what a causal model never sees, which the reference's layouts may have. */
void dsc_layout_make_causal(dsc_layout *layout);

/* As dsc_layout_of_json reads it; the caller owns the result. NULL: no memory. */
json_t *dsc_layout_json(const dsc_layout *layout);
/* A line a row, "#" a block that is present; heads that are alike once. */
void dsc_layout_print(const dsc_layout *layout, dsc_text *out);
/* The same as a picture. */
void dsc_layout_svg(const dsc_layout *layout, dsc_text *out);

#endif
