/* What the files of a pass share: call.c, activation.c and between.c serve forward.c and backward.c. Internal to
 * lib/program. */
#ifndef DSC_PROGRAM_PASS_H
#define DSC_PROGRAM_PASS_H

#include "program/build.h"

#define OPERANDS(...) ((const dsc_span[DSC_KERNEL_OPERANDS]){__VA_ARGS__})

/* ---- call.c */

/* Of the training type; the dimensions past d2 are the caller's. */
dsc_shape pass_shape_of(const dsc_builder *b, dsc_kernel kernel, int flags, int64_t d0, int64_t d1, int64_t d2);
/* All of a buffer; absent for -1. */
dsc_span pass_whole(const dsc_builder *b, int32_t buffer);
/* The rank's shard of a tensor, as parameter or gradient; absent where the stage has none. */
dsc_span pass_weight(dsc_builder *b, int64_t layer, dsc_role role);
dsc_span pass_gradient(dsc_builder *b, int64_t layer, dsc_role role);
dsc_dtype pass_gradient_type(const dsc_builder *b, int64_t layer, dsc_role role);
/* DSC_ACCUMULATE, or 0 where this pass is the first to write the gradient. */
int pass_adds(const dsc_builder *b, int64_t layer, dsc_role role, bool is_first);
/* Columns of the MLP's first product. */
int64_t pass_ffn(const dsc_builder *b);
/* Whose weight the head's is; a shard of the vocabulary's rows, the embedding's or the head's, which are cut alike. */
dsc_role pass_head_role(const dsc_builder *b);
const dsc_shard *pass_vocab(const dsc_builder *b);
/* Fills a product's operand from what pass_uncast gave; nothing where these are one. */
void pass_cast(dsc_builder *b, int32_t from, int32_t operand);
/* y = x W (+ bias) (+ residual), its gradients by x and by W and bias: those of x added with DSC_ACCUMULATE. own_dy: of
 * the rank's rows, for a bias that all tensor ranks hold. pass_join: bias and residual alone. */
void pass_product(dsc_builder *b, int64_t layer, dsc_role role, int32_t x, int64_t k, int32_t residual, int32_t y);
void pass_join(dsc_builder *b, int64_t layer, dsc_role role, int32_t residual, int32_t y);
void pass_product_bwd_x(dsc_builder *b, int64_t layer, dsc_role role, int32_t dy, int64_t k, int flags, int32_t dx);
void pass_product_bwd_w(dsc_builder *b, int64_t layer, dsc_role role, int32_t x, int64_t k, int32_t dy, int32_t own_dy);
/* y = norm(x), and its gradients by x, with the residual's added, and by its weights. */
void pass_norm(dsc_builder *b, int64_t layer, dsc_role role, int32_t x, int32_t y, int32_t stats);
void pass_norm_bwd_x(dsc_builder *b, int64_t layer, dsc_role role, int32_t dy, int32_t x, int32_t stats,
                     int32_t residual, int32_t dx);
void pass_norm_bwd_w(dsc_builder *b, int64_t layer, dsc_role role, int32_t dy, int32_t x, int32_t stats);
/* Turns q and k by their positions, where the model has rotary ones; DSC_INVERSE: their gradients. */
void pass_rotate(dsc_builder *b, int32_t qkv, int flags);
/* The core of attention, in the layer's way, of an op of that kind. */
bool pass_stores_scores(const dsc_builder *b, int64_t layer);
void pass_mix(dsc_builder *b, dsc_op_kind kind, int64_t layer, dsc_layer_buffers *l);
void pass_mix_bwd(dsc_builder *b, int64_t layer, const dsc_layer_buffers *l, int32_t dcontext, int32_t dqkv);
/* Where sequences are cut over context ranks (context.c): ends an op by what has all ranks' keys and values gathered;
 * the core of attention by these; and its gradient, behind whose op those of keys and values are summed, and another
 * begins. */
void pass_gather_keys(dsc_builder *b, int64_t layer, dsc_layer_buffers *l);
void pass_mix_part(dsc_builder *b, int64_t layer, const dsc_layer_buffers *l);
void pass_mix_part_bwd(dsc_builder *b, int64_t layer, const dsc_layer_buffers *l, int32_t dcontext, int32_t dqkv);
/* GELU, or a gated MLP's SwiGLU. Backward, dfc holds the gradient of act before and that of fc after. */
void pass_activation(dsc_builder *b, const dsc_layer_buffers *l);
void pass_activation_bwd(dsc_builder *b, const dsc_layer_buffers *l, int32_t dfc, int32_t dgate);

/* ---- activation.c */

/* New buffers; transient: of all rows; kept: of C columns of the rows that the rank keeps. */
int32_t pass_activations(dsc_builder *b, const char *name, dsc_life life, int64_t layer, int64_t bytes);
int32_t pass_transient(dsc_builder *b, const char *name, int64_t layer, int64_t columns);
int32_t pass_kept(dsc_builder *b, const char *name, dsc_life life, int64_t layer);
/* In which of the two types a span of so many elements is: of activations, or what products read. */
dsc_dtype pass_type_of(const dsc_builder *b, dsc_span span, int64_t elems);
/* Where what a product's operand is cast from is made; the operand itself where nothing is cast. */
int32_t pass_uncast(dsc_builder *b, const char *name, int64_t layer, int32_t operand);
/* A norm's statistics of the rows that the rank keeps, in bytes; columns of q, k and v, and of what attention makes. */
int64_t pass_stats_bytes(const dsc_builder *b);
int64_t pass_qkv_columns(const dsc_builder *b);
int64_t pass_context_columns(const dsc_builder *b);
/* A layer's buffers in the pass under construction, with transients for what is not kept. */
dsc_layer_buffers pass_buffers_of(dsc_builder *b, int64_t index);

/* ---- saved.c */

/* A layer's place in the slot for what is put aside of its input. */
int32_t pass_saved(dsc_builder *b, int64_t layer);
/* Begins a forward pass: where layers find their inputs. */
void pass_enter(dsc_builder *b);
/* Puts aside the layer's input, which the forward pass has just made. Nothing where it stays in the slot. */
void pass_save(dsc_builder *b, int64_t index);
/* Begins to bring back what was put aside of the layer's input, and ends it. Of what stays in the slot: itself. */
int32_t pass_fetch_saved(dsc_builder *b, int64_t index);
int32_t pass_restored(dsc_builder *b, int64_t index, int32_t fetched);

/* ---- between.c */

/* A collective over tensor ranks, of activations: data is made of source. */
void pass_tensor_op(dsc_builder *b, dsc_op_kind kind, int64_t layer, int32_t source, int32_t data, dsc_dtype type);
/* All rows of what is kept by rows: a gathered copy, or itself where rows are not cut. */
int32_t pass_gathered(dsc_builder *b, const char *name, int64_t layer, int32_t own);
/* Where a product writes its parts that end up, summed, in `sum`; and that sum. */
int32_t pass_partial_of(dsc_builder *b, int64_t layer, int32_t sum);
void pass_sum_partial(dsc_builder *b, int64_t layer, int32_t partial, int32_t sum);
/* Copies the rank's part of what tensor ranks have alike. */
void pass_cut(dsc_builder *b, int64_t layer, int32_t x, int32_t part);
/* A send or a receive between virtual stages lower and lower + 1. */
void pass_message(dsc_builder *b, dsc_op_kind kind, int64_t lower, bool is_gradient, int32_t buffer);
/* Of the chunk under construction. */
int64_t pass_virtual_stage(const dsc_builder *b);

/* ---- forward.c */

/* Set l->whole1 and whole2. y -1: up to the activation. */
void pass_attention_fwd(dsc_builder *b, dsc_op_kind kind, int64_t layer, dsc_layer_buffers *l);
void pass_mlp_fwd(dsc_builder *b, dsc_op_kind kind, int64_t layer, dsc_layer_buffers *l, int32_t y);
/* Sets the builder's normf, whole_normf, statsf, logits. */
void pass_head_fwd(dsc_builder *b, int32_t x);
/* What embeddings over tensor ranks need to know of their shards. */
void pass_cut_embedding(const dsc_builder *b, dsc_shape *shape);
/* Of the table of positions, or its gradient, what this program reads or writes. */
dsc_span pass_positions(const dsc_builder *b, dsc_span wpe, dsc_dtype type);
/* Begins a template of that name, with the chunk's where there are several. */
void pass_name_template(dsc_builder *b, const char *name);

#endif
