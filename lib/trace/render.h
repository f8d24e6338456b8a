/* What the printers of this module share. Internal. */
#ifndef DSC_TRACE_RENDER_H
#define DSC_TRACE_RENDER_H

#include "base/json.h"
#include "trace/profile.h"

/* A bar of at most `width` blocks: full ones up to the smaller of two shares of the whole; beyond it, dark shade where
 * the first is larger, light shade where the second is. */
void dsc_bar_add(dsc_text *text, double first, double second, double whole, int width);

/* Milliseconds with three decimals; "-" for NaN. */
dsc_short dsc_ms_str(double ns);

/* Seconds; null for NaN. A new reference. */
json_t *dsc_json_seconds(double ns);

/* rank, op, kind, lane, layer, micro_batch and chunk of an op, with names for codes. A new reference, NULL as
 * jansson's. */
json_t *dsc_json_op(const dsc_trace *trace, const dsc_op_row *row);

/* Adds the value as text and takes the reference. DSC_EINVAL for NULL: jansson's answer to names that are no UTF-8. */
dsc_status dsc_json_finish(json_t *value, dsc_text *out);

/* DSC_ENOMEM when some line of the text did not fit. */
dsc_status dsc_text_finish(const dsc_text *text);

#endif
