/* What the files of the check of one rank share: check_rank.c (operands, lanes, races), check_sum.c (what is added up,
 * and over whom), check_weights.c (which updates they have seen). Internal to lib/program. */
#ifndef DSC_PROGRAM_CHECK_RANK_H
#define DSC_PROGRAM_CHECK_RANK_H

#include "program/build.h"

enum { LACKS_SUM = 1, LACKS_BIAS = 2 };

/* What stands at an address: who wrote it, as which buffer, who read it since. */
typedef struct atom_fact {
    int32_t writer_lane, writer, buffer;      /* writer 0: before this segment, or never (buffer -1) */
    int32_t writer_use;
    int8_t lacks;                             /* LACKS_*: of a product that tensor ranks have in parts */
    int32_t readers[DSC_LANE_COUNT];
    int16_t sums;                             /* of a gradient, of the loss: axes (as bits) over which it was summed */
    bool is_counted;                          /* of a gradient: in the norm */
    bool is_behind, may_lag;                  /* of weights that passes read: older than the last update's; and so after
                                                 each that is left to the passes that follow to gather */
    /* of a gradient, and of the loss: micro-batches that added to it, a sum that tells which, the last of them, how
     * often that one added and how often each before it did */
    int32_t parts, micro_batch, adds, adds_each;
    uint64_t which;
} atom_fact;

typedef struct rank_check {
    const dsc_plan *plan;
    const dsc_program *program;
    int64_t rank, place;                      /* place: in dp_intra */
    int segment;
    dsc_atoms atoms;
    atom_fact *facts;
    int32_t (*clocks[DSC_LANE_COUNT])[DSC_LANE_COUNT]; /* [lane][position]: after that op, what is over in each lane */
    int32_t counts[DSC_LANE_COUNT];
    /* the op at hand */
    const dsc_op *op;
    const dsc_use *uses, *use;
    int32_t use_index, clock[DSC_LANE_COUNT];
    int64_t number;
    int8_t lacking;                           /* LACKS_*: what the call at hand leaves to be done */
    uint64_t all_parts;                       /* of a sum that all micro-batches have added to */
    atom_fact moved;                          /* what the op at hand has read of gradients that it moves */
    int64_t bucket;                           /* the last that was looked up: the next is near */
    dsc_status status;
} rank_check;

dsc_status check_refuse(const rank_check *c, const char *why);
dsc_status check_refuse_buffer(const rank_check *c, const char *what, int32_t buffer);

/* ---- check_weights.c: weights that passes read, after an update and before what it makes of them has come */

/* Before the first segment. */
void check_weights_init(rank_check *c);
/* A segment starts: the masters have been set, or there may have been an update before its passes. */
void check_weights_start(rank_check *c, bool has_passes);
/* Before an op touches what is there; its call is about to write; the segment that updates is over. */
dsc_status check_weights_before(const rank_check *c, const atom_fact *fact, dsc_span span, bool is_read);
void check_weights_call(rank_check *c, const dsc_call *call);
dsc_status check_weights_end(const rank_check *c);
/* What of a bucket's parameters the update writes; absent where it is nothing. */
dsc_span check_weights_updated(const rank_check *c, const dsc_bucket *bucket);

/* ---- check_sum.c: gradients and the loss, which micro-batches add to, replicas and others sum, and updates use */

/* Before the op touches an atom of the span. */
dsc_status check_sum_before(rank_check *c, const atom_fact *fact, dsc_span span, bool is_read, bool writes);
/* After it has read it. */
void check_sum_read(const rank_check *c, atom_fact *fact, dsc_span span);
/* After it has written it. */
void check_sum_after(rank_check *c, atom_fact *fact, dsc_span span, bool is_read);
/* What a kernel call on shards of tensor ranks leaves to be done: LACKS_*. */
int8_t check_lacking(rank_check *c, const dsc_call *call);
/* All micro-batches, as a mark that tells which. */
uint64_t check_all_parts(const dsc_plan *plan);
/* At the end of a segment that runs passes: what the host reads of it is complete, and agreed on. */
dsc_status check_agreed(rank_check *c);

#endif
