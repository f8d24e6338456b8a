/* Communication by way of the host's memory: what a network reaches there alone is copied out, sent and summed there,
 * and copied in. The copies are ops like any other, in the lanes of copies, and have their time and their memory. */
#include "program/build.h"
#include <stdio.h>
#include <string.h>

static bool is_staged(const dsc_builder *b, dsc_span span)
{
    return b->status == DSC_OK && b->plan->config.strategy.communication == DSC_COMMUNICATION_STAGED &&
           span.buffer >= 0 && b->program->buffers[span.buffer].space == DSC_SPACE_DEVICE;
}

/* Messages between stages have boxes, so that a pass need not wait for those of the one before: of each name one in a
 * chunk, for all its templates. -1: there is none yet. */
static int32_t find_box(const dsc_builder *b, const char *name, int64_t bytes)
{
    for (int32_t i = 0; i < b->program->buffer_count; i++) {
        const dsc_buffer *buffer = &b->program->buffers[i];

        if (buffer->life == DSC_LIFE_BOX && buffer->space == DSC_SPACE_HOST && buffer->owner == b->chunk &&
            buffer->bytes == bytes && strcmp(buffer->name, name) == 0)
            return i;
    }
    return -1;
}

/* A place in the host's memory for a span, of the same class. */
static dsc_span make_place(dsc_builder *b, dsc_op_kind kind, dsc_span span)
{
    const dsc_buffer of = b->program->buffers[span.buffer];
    const bool is_message = kind == DSC_OP_SEND || kind == DSC_OP_RECV;
    const dsc_life life = is_message ? DSC_LIFE_BOX : DSC_LIFE_TRANSIENT;
    char name[sizeof of.name];
    int32_t place;

    snprintf(name, sizeof name, "%s %.30s", kind == DSC_OP_RECV ? "received" : "staged", of.name);
    place = is_message ? find_box(b, name, span.bytes) : -1;
    if (place < 0)
        place = dsc_build_buffer_in(b, DSC_SPACE_HOST, name, life, (dsc_class)of.class_, of.layer, span.bytes);
    if (b->status == DSC_OK) b->program->buffers[place].bucket = of.bucket;
    return dsc_span_whole(b, place);
}

static dsc_span copy_out(dsc_builder *b, dsc_op_kind kind, int64_t layer, dsc_span span, dsc_dtype type)
{
    dsc_span place;

    if (!is_staged(b, span)) return span;
    place = make_place(b, kind, span);
    dsc_build_transfer(b, DSC_OP_COPY_OUT, -1, layer, span, place, type);
    return place;
}

/* Of ops with a source the data is made anew, and so is what is received; else it is what is read, too. */
dsc_staging dsc_build_stage_out(dsc_builder *b, dsc_op_kind kind, int64_t layer, dsc_span source, dsc_span data,
                                dsc_dtype type)
{
    const bool is_read = source.buffer < 0 && kind != DSC_OP_RECV;
    dsc_staging staging = {copy_out(b, kind, layer, source, type), data};

    if (is_read) staging.data = copy_out(b, kind, layer, data, type);
    else if (is_staged(b, data)) staging.data = make_place(b, kind, data);
    return staging;
}

void dsc_build_stage_in(dsc_builder *b, dsc_op_kind kind, int64_t layer, const dsc_staging *staging, dsc_span data,
                        dsc_dtype type)
{
    if (kind != DSC_OP_SEND && is_staged(b, data))
        dsc_build_transfer(b, DSC_OP_COPY_IN, -1, layer, staging->data, data, type);
}
