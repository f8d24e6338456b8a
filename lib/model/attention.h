/* How the layers of a model attend: all in one way, or some in another. What users write is
 *
 *     KIND[,LAYERS=KIND]...     bslongformer,0=dense,10-11=dense
 *
 * where LAYERS is a number or a range, a later item goes before an earlier one, and KIND is dense, dense-unfused
 * (scores are stored), the name of a sparse pattern (the defaults of its class), sparse (a configuration's section
 * sparse_attention), or a file: JSON of a layout or of such a section, or an HDF5 dataset, FILE.h5[:PATH]. */
#ifndef DSC_MODEL_ATTENTION_H
#define DSC_MODEL_ATTENTION_H

#include "model/sparsity.h"

typedef enum dsc_attention_kind { DSC_ATTENTION_DENSE, DSC_ATTENTION_UNFUSED, DSC_ATTENTION_SPARSE } dsc_attention_kind;

/* One way to attend. */
typedef struct dsc_pattern {
    char word[256];        /* KIND, as it was written */
    char where[512];       /* opens messages about it: an option or a file */
    dsc_attention_kind kind;
    dsc_sparsity sparsity; /* of a sparse one, unless it is */
    dsc_layout *layout;    /* given by a file */
} dsc_pattern;

enum { DSC_PATTERNS = 16 }; /* most, of a model */

typedef struct dsc_attention {
    int count;
    dsc_pattern patterns[DSC_PATTERNS];
    struct { int64_t first, last; } layers[DSC_PATTERNS]; /* that take the pattern, unless a later one has them too */
} dsc_attention;

/* Reads a layout from an HDF5 file; path may end in `:DATASET`. Below the module that can. */
typedef dsc_status dsc_layout_reader(const char *path, dsc_layout **out);

/* Reads what the user wrote, and the files that it names. words may be "".
 * section: JSON text, "" for none; where opens messages about it, and a warning where no word asks for it.
 * read_h5 may be NULL.
 * returns  DSC_EINVAL or DSC_ENOTSUP naming the word, the file or the key */
dsc_status dsc_attention_create(const char *words, const char *where, const char *section,
                                dsc_layout_reader *read_h5, dsc_attention **out);
const char *dsc_attention_words(const char *words, const char *section); /* what "" stands for. Pure. */
void dsc_attention_destroy(dsc_attention *attention); /* takes NULL */

/* Which pattern a layer takes. Pure. */
int dsc_attention_of(const dsc_attention *attention, int64_t layer);

/* The layout of a sparse pattern for so many heads over seq tokens; one that a file gives must be of just these, for
 * one head or all. The caller owns it. DSC_EINVAL names both numbers that disagree. */
dsc_status dsc_pattern_layout(const dsc_pattern *pattern, int64_t heads, int64_t seq, dsc_layout **out);

#endif
