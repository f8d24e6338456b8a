/* What the files of this module share: one table of a description's keys, read from words and from JSON; layouts under
 * construction. */
#ifndef DSC_MODEL_PARTS_H
#define DSC_MODEL_PARTS_H

#include "base/json.h"
#include "model/model.h"
#include "model/sparsity.h"

enum { DSC_MAX_LAYERS = 4096 }; /* a plan takes time and memory for each: 10^6 took minutes */
#define DSC_MAX_SIZE (INT64_C(1) << 40)
#define DSC_MAX_VOCAB INT64_C(2147483647) /* token ids are int32 */

/* Fills *out from `layers=12,hidden=768,...`; `where` opens each message. Sizes left out get their defaults. */
dsc_status dsc_model_from_inline(const char *where, const char *text, dsc_model *out);

/* The same from an object with the same keys; 0, 1, true and false are booleans. */
dsc_status dsc_model_from_keys(const char *where, const json_t *object, dsc_model *out);

/* Fills *out from the object in a Hugging Face config.json. */
dsc_status dsc_model_from_hf(const char *where, const json_t *object, dsc_model *out);

/* The inline text of a preset; NULL when there is none of that name. */
const char *dsc_model_preset_text(const char *name);

/* Parameters; false when they do not fit 63 bits. Pure. */
bool dsc_model_count(const dsc_model *model, int64_t *out);

/* ---- layout.c: layouts under construction */

/* Of blocks; what lies outside of a layout is not meant. */
typedef struct dsc_stretch { int64_t first, end; } dsc_stretch;
/* All absent; one layout for all heads, or one a head. DSC_ENOMEM. */
dsc_status dsc_layout_make_kinds(int64_t block, int64_t blocks, int64_t heads, int64_t kinds, dsc_layout **out);
/* The same blocks, for so many heads. */
dsc_status dsc_layout_copy(const dsc_layout *layout, int64_t heads, dsc_layout **out);
void dsc_layout_set(dsc_layout *layout, int64_t kind, dsc_stretch rows, dsc_stretch columns);
void dsc_layout_clear_above(dsc_layout *layout, int64_t kind); /* the diagonal */

#endif
