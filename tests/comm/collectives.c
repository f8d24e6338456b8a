#include "tests/comm/job.h"
#include "base/array.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 300001, REPEATS = 20 }; /* 1.2 MB of fp32: several batches of segments on 2 to 8 ranks */

static const int64_t sizes[] = {0, 1, 2, 3, 7, 8, 1000, 4097, 65536, LONGEST};
static const dsc_dtype types[] = {DSC_FP32, DSC_FP64, DSC_BF16, DSC_FP16};

/* ---- Small whole numbers, which every type holds and adds exactly */

static void store(void *buffer, dsc_dtype type, int64_t i, int value)
{
    float single = (float)value;
    uint32_t bits;
    uint16_t half;

    memcpy(&bits, &single, sizeof bits);
    switch (type) {
    case DSC_FP64: ((double *)buffer)[i] = value; return;
    case DSC_FP32: ((float *)buffer)[i] = single; return;
    case DSC_BF16: half = (uint16_t)(bits >> 16); break;
    default: /* fp16: 5 bits of exponent, 10 of mantissa */
        half = value == 0 ? 0 : (uint16_t)((bits >> 16 & 0x8000) | ((bits >> 13 & 0x3ffff) - (112 << 10)));
    }
    memcpy((char *)buffer + 2 * i, &half, sizeof half);
}

static int value_of(int rank, int64_t i)
{
    return (int)((rank * 5 + i * 3) % 11) - 5;
}

static int combined_value(const int *ranks, int count, int64_t i, dsc_reduction reduction)
{
    int all = value_of(ranks[0], i);

    for (int r = 1; r < count; r++)
        all = reduction == DSC_SUM ? all + value_of(ranks[r], i) : DSC_MAX(all, value_of(ranks[r], i));
    return all;
}

static dsc_group *group_of(int first, int step)
{
    int ranks[64], count = 0;
    dsc_group *group = NULL;

    for (int rank = first; rank < dsc_comm_size(job); rank += step) ranks[count++] = rank;
    CHECK_OK(dsc_group_create(job, ranks, count, &group));
    return group;
}

static void check_same(const char *what, int64_t elems, dsc_dtype type, const void *got, const void *expected)
{
    CHECK(memcmp(got, expected, (size_t)(elems * dsc_dtype_bytes(type))) == 0, "%s of %lld %s differs", what,
          (long long)elems, dsc_dtype_name(type));
}

/* One all-reduce over the group of ranks first, first + step, ... */
static void check_all_reduce(dsc_group *group, int first, int step, int64_t elems, dsc_dtype type,
                             dsc_reduction reduction)
{
    int ranks[64], count = dsc_group_size(group), rank = dsc_comm_rank(job);
    char *buffer = malloc(8 * LONGEST), *expected = malloc(8 * LONGEST);
    dsc_request request;

    for (int r = 0; r < count; r++) ranks[r] = first + r * step;
    for (int64_t i = 0; i < elems; i++) {
        store(buffer, type, i, value_of(rank, i));
        store(expected, type, i, combined_value(ranks, count, i, reduction));
    }
    if (CHECK_OK(dsc_all_reduce_start(group, buffer, elems, type, reduction, &request)) &&
        CHECK_OK(dsc_request_wait(job, &request)))
        check_same("all-reduce", elems, type, buffer, expected);
    free(buffer);
    free(expected);
}

static void all_reduce_equals_serial(void)
{
    dsc_group *group = group_of(0, 1);

    for (int64_t t = 0; t < DSC_COUNT(types); t++)
        for (int64_t s = 0; s < DSC_COUNT(sizes); s++) {
            check_all_reduce(group, 0, 1, sizes[s], types[t], DSC_SUM);
            check_all_reduce(group, 0, 1, sizes[s], types[t], DSC_MAX);
        }
    dsc_group_destroy(group);
}

static void groups_with_gaps_are_apart(void)
{
    int half = dsc_comm_rank(job) % 2;
    dsc_group *group = group_of(half, 2);

    for (int64_t s = 0; s < DSC_COUNT(sizes); s++) check_all_reduce(group, half, 2, sizes[s], DSC_FP32, DSC_SUM);
    dsc_group_destroy(group);
}

static void reduce_scatter_equals_serial(void)
{
    int ranks[64], size = dsc_comm_size(job), rank = dsc_comm_rank(job);
    dsc_group *group = group_of(0, 1);
    char *in = malloc((size_t)size * 8 * LONGEST), *out = malloc(8 * LONGEST), *expected = malloc(8 * LONGEST), *own;

    for (int r = 0; r < size; r++) ranks[r] = r;
    for (int64_t t = 0; t < DSC_COUNT(types); t++)
        for (int64_t s = 0; s < DSC_COUNT(sizes); s++) {
            int64_t each = sizes[s];
            dsc_request request;

            for (int64_t i = 0; i < each * size; i++) store(in, types[t], i, value_of(rank, i));
            for (int64_t i = 0; i < each; i++)
                store(expected, types[t], i, combined_value(ranks, size, rank * each + i, DSC_SUM));
            if (!CHECK_OK(dsc_reduce_scatter_start(group, in, out, each, types[t], &request))) continue;
            if (!CHECK_OK(dsc_request_wait(job, &request))) continue;
            check_same("reduce-scatter", each, types[t], out, expected);
            own = in + rank * each * dsc_dtype_bytes(types[t]);
            if (!CHECK_OK(dsc_reduce_scatter_start(group, in, own, each, types[t], &request))) continue;
            if (!CHECK_OK(dsc_request_wait(job, &request))) continue;
            check_same("reduce-scatter in place", each, types[t], own, expected);
        }
    free(in);
    free(out);
    free(expected);
    dsc_group_destroy(group);
}

static unsigned char byte_of(int rank, int64_t i)
{
    return (unsigned char)(rank * 37 + i * 11 + i / 256);
}

static void all_gather_brings_everybodys_bytes(void)
{
    int size = dsc_comm_size(job), rank = dsc_comm_rank(job);
    dsc_group *group = group_of(0, 1);
    unsigned char *own = malloc(LONGEST), *all = malloc((size_t)size * LONGEST);

    for (int64_t s = 0; s < DSC_COUNT(sizes) * 2; s++) {
        int64_t each = sizes[s / 2];
        unsigned char *in = s % 2 == 0 ? own : all + rank * each; /* apart, or in its place already */
        dsc_request request;

        memset(all, 0, (size_t)size * LONGEST);
        for (int64_t i = 0; i < each; i++) in[i] = byte_of(rank, i);
        if (!CHECK_OK(dsc_all_gather_start(group, in, all, each, &request))) continue;
        if (!CHECK_OK(dsc_request_wait(job, &request))) continue;
        for (int64_t i = 0; i < size * each; i++)
            if (!CHECK(all[i] == byte_of((int)(i / each), i % each), "byte %lld of %lld each", (long long)i,
                       (long long)each)) break;
    }
    free(own);
    free(all);
    dsc_group_destroy(group);
}

static void broadcast_reaches_all(void)
{
    dsc_group *group = group_of(0, 1);
    unsigned char *bytes = malloc(LONGEST);

    for (int root = 0; root < dsc_comm_size(job); root++)
        for (int64_t s = 0; s < DSC_COUNT(sizes); s++) {
            dsc_request request;

            for (int64_t i = 0; i < sizes[s]; i++) bytes[i] = byte_of(dsc_comm_rank(job), i);
            if (!CHECK_OK(dsc_broadcast_start(group, bytes, sizes[s], root, &request))) continue;
            if (!CHECK_OK(dsc_request_wait(job, &request))) continue;
            for (int64_t i = 0; i < sizes[s]; i++)
                if (!CHECK(bytes[i] == byte_of(root, i), "byte %lld of %lld from %d", (long long)i,
                           (long long)sizes[s], root)) break;
        }
    free(bytes);
    dsc_group_destroy(group);
}

static void wait_all(dsc_request *requests, int count)
{
    for (int i = 0; i < count; i++) CHECK_OK(dsc_request_wait(job, &requests[i]));
}

static void messages_keep_order_and_tag(void)
{
    enum { TAG_A = 3, TAG_B = DSC_TAGS - 1, COUNT = 4 };
    int size = dsc_comm_size(job), rank = dsc_comm_rank(job);
    int right = (rank + 1) % size, left = (rank + size - 1) % size;
    dsc_group *group = group_of(0, 1);
    dsc_request sends[3 * COUNT], recvs[3 * COUNT];
    static char out[3 * COUNT][LONGEST], in[3 * COUNT][LONGEST];

    if (size > 1)
        for (int i = 0; i < COUNT; i++) {
            int64_t bytes = sizes[(size_t)i + 6];

            memset(out[i], 'a' + i, (size_t)bytes);
            memset(out[COUNT + i], 'A' + i, (size_t)bytes);
            CHECK_OK(dsc_send_start(group, out[i], bytes, right, TAG_A, &sends[i]));
            CHECK_OK(dsc_send_start(group, out[COUNT + i], bytes, right, TAG_B, &sends[COUNT + i]));
            CHECK_OK(dsc_send_start(group, NULL, 0, right, TAG_A + 1, &sends[2 * COUNT + i]));
        }
    for (int i = 0; size > 1 && i < COUNT; i++) { /* the later tag first */
        int64_t bytes = sizes[(size_t)i + 6];

        CHECK_OK(dsc_recv_start(group, in[COUNT + i], bytes, left, TAG_B, &recvs[COUNT + i]));
        CHECK_OK(dsc_recv_start(group, in[i], bytes, left, TAG_A, &recvs[i]));
        CHECK_OK(dsc_recv_start(group, NULL, 0, left, TAG_A + 1, &recvs[2 * COUNT + i]));
    }
    if (size > 1) {
        wait_all(recvs, 3 * COUNT);
        wait_all(sends, 3 * COUNT);
        for (int i = 0; i < 2 * COUNT; i++)
            CHECK(memcmp(in[i], out[i], (size_t)sizes[(size_t)(i % COUNT) + 6]) == 0, "message %d differs", i);
    }
    CHECK(dsc_send_start(group, out, 1, rank, 0, sends) == DSC_EINTERNAL, "a rank sends to itself");
    CHECK(dsc_send_start(group, out, 1, size, 0, sends) == DSC_EINTERNAL, "a rank sends past the group");
    dsc_group_destroy(group);
}

/* Started in one order everywhere, waited for in another on every rank. */
static void collectives_overlap(void)
{
    enum { COUNT = 12 };
    int size = dsc_comm_size(job), rank = dsc_comm_rank(job), ranks[64];
    dsc_group *group = group_of(0, 1);
    dsc_request requests[COUNT];
    float *buffers[COUNT], *parts = malloc((size_t)size * LONGEST * sizeof *parts);

    for (int r = 0; r < size; r++) ranks[r] = r;
    for (int64_t i = 0; i < (int64_t)size * LONGEST; i++) parts[i] = (float)value_of(rank, i);
    for (int k = 0; k < COUNT; k++) {
        buffers[k] = malloc(LONGEST * sizeof **buffers);
        for (int64_t i = 0; i < LONGEST; i++) buffers[k][i] = (float)value_of(rank, i);
        if (k % 3 == 2)
            CHECK_OK(dsc_reduce_scatter_start(group, parts, buffers[k], LONGEST, DSC_FP32, &requests[k]));
        else
            CHECK_OK(dsc_all_reduce_start(group, buffers[k], k % 3 == 0 ? LONGEST : 100, DSC_FP32, DSC_SUM,
                                          &requests[k]));
    }
    for (bool done = false; !done; dsc_comm_nap(job, 1)) {
        done = true;
        for (int k = 0; k < COUNT; k++) {
            bool this_done;

            CHECK_OK(dsc_request_test(&requests[(k + rank) % COUNT], &this_done));
            done &= this_done;
        }
    }
    for (int k = 0; k < COUNT; k++) {
        int64_t first = k % 3 == 2 ? (int64_t)rank * LONGEST : 0;

        for (int64_t i = 0; i < (k % 3 == 1 ? 100 : LONGEST); i++)
            if (!CHECK(buffers[k][i] == (float)combined_value(ranks, size, first + i, DSC_SUM), "request %d, %lld", k,
                       (long long)i)) break;
        free(buffers[k]);
    }
    free(parts);
    dsc_group_destroy(group);
}

/* ---- Inexact sums */

static void sums_repeat_their_bits(void)
{
    static const int64_t lengths[] = {13, 1500, LONGEST};
    dsc_group *group = group_of(0, 1);
    float *own = malloc(LONGEST * sizeof *own), *sum = malloc(LONGEST * sizeof *sum);
    float *first = malloc(LONGEST * sizeof *first);

    for (int64_t i = 0; i < LONGEST; i++)
        own[i] = (float)(tap_random() >> 40) * (float)(1 + dsc_comm_rank(job)) / (float)(1 + tap_random() % 1000);
    for (int l = 0; l < 3; l++)
        for (int k = 0; k < REPEATS; k++) {
            size_t bytes = (size_t)lengths[l] * sizeof *own;
            dsc_request request;

            memcpy(sum, own, bytes);
            if (!CHECK_OK(dsc_all_reduce_start(group, sum, lengths[l], DSC_FP32, DSC_SUM, &request))) break;
            if (!CHECK_OK(dsc_request_wait(job, &request))) break;
            if (k == 0) memcpy(first, sum, bytes);
            CHECK(memcmp(first, sum, bytes) == 0, "the bits of repeat %d differ", k);
            CHECK(job_holds_same(sum, (int64_t)bytes), "the bits differ between ranks");
        }
    free(own);
    free(sum);
    free(first);
    dsc_group_destroy(group);
}

/* ---- Accounts and refusals */

static void check_payload(const char *what, int64_t own, int64_t before, int64_t expected)
{
    double sum = (double)own;

    CHECK(dsc_comm_wire_bytes(job) - before == own, "%s: the account grew by %lld, the request says %lld", what,
          (long long)(dsc_comm_wire_bytes(job) - before), (long long)own);
    CHECK_OK(dsc_comm_sum(job, &sum, 1));
    CHECK(sum == (double)expected, "%s: %g bytes, %lld expected", what, sum, (long long)expected);
}

static void payload_follows_the_rules(void)
{
    int size = dsc_comm_size(job), rank = dsc_comm_rank(job), others = size - 1;
    dsc_group *group = group_of(0, 1);
    static float in[64 * 1000], out[64 * 1000];
    dsc_request request;
    int64_t before = dsc_comm_wire_bytes(job);

    CHECK_OK(dsc_all_reduce_start(group, out, 1000, DSC_FP32, DSC_SUM, &request));
    CHECK_OK(dsc_request_wait(job, &request));
    check_payload("all-reduce", request.payload_bytes, before, 2 * others * 4000);
    before = dsc_comm_wire_bytes(job);
    CHECK_OK(dsc_reduce_scatter_start(group, in, out, 1000, DSC_BF16, &request));
    CHECK_OK(dsc_request_wait(job, &request));
    check_payload("reduce-scatter", request.payload_bytes, before, (int64_t)others * size * 2000);
    before = dsc_comm_wire_bytes(job);
    CHECK_OK(dsc_all_gather_start(group, in, out, 4000, &request));
    CHECK_OK(dsc_request_wait(job, &request));
    check_payload("all-gather", request.payload_bytes, before, (int64_t)others * size * 4000);
    before = dsc_comm_wire_bytes(job);
    CHECK_OK(dsc_broadcast_start(group, out, 123, others, &request));
    CHECK_OK(dsc_request_wait(job, &request));
    check_payload("broadcast", request.payload_bytes, before, others * 123);
    before = dsc_comm_wire_bytes(job);
    request = (dsc_request){0};
    if (size > 1 && rank == 0) CHECK_OK(dsc_send_start(group, out, 77, 1, 0, &request));
    if (size > 1 && rank == 1) CHECK_OK(dsc_recv_start(group, out, 77, 0, 0, &request));
    CHECK_OK(dsc_request_wait(job, &request));
    check_payload("message", request.payload_bytes, before, size > 1 ? 77 : 0);
    dsc_group_destroy(group);
}

static void lengths_that_differ_are_refused(void)
{
    int rank = dsc_comm_rank(job);
    dsc_group *group;
    dsc_request request = {0};
    char bytes[16] = "";

    if (dsc_comm_size(job) == 1) return;
    group = group_of(0, 1);
    if (rank == 0) CHECK_OK(dsc_send_start(group, bytes, 12, 1, 0, &request));
    if (rank == 1) {
        dsc_status status = dsc_recv_start(group, bytes, 16, 0, 0, &request);

        for (bool done = false; status == DSC_OK && !done;) status = dsc_request_test(&request, &done);
        CHECK(status == DSC_ECOMM, "status %d", status);
        CHECK(strstr(dsc_message(), "rank 0 sent 12 bytes where rank 1 expects 16") != NULL, "%s", dsc_message());
    } else {
        CHECK_OK(dsc_request_wait(job, &request));
    }
    dsc_group_destroy(group);
}

static void wrong_groups_are_refused(void)
{
    int size = dsc_comm_size(job), rank = dsc_comm_rank(job);
    int twice[] = {rank, rank}, outside[] = {rank, size}, other[] = {(rank + 1) % size};
    dsc_group *group = NULL;

    CHECK(dsc_group_create(job, twice, 2, &group) == DSC_EINTERNAL, "a rank stands twice in a group");
    CHECK(dsc_group_create(job, outside, 2, &group) == DSC_EINTERNAL, "a group holds a rank that is not there");
    if (size > 1) CHECK(dsc_group_create(job, other, 1, &group) == DSC_EINTERNAL, "a rank is no member of its group");
    CHECK(group == NULL, "a failure made a group");
}

static void agreement_is_the_lowest_ranks(void)
{
    int size = dsc_comm_size(job), rank = dsc_comm_rank(job), first = size / 2;
    dsc_status own = DSC_OK, agreed;
    char expected[64];

    CHECK_OK(dsc_comm_agree(job, DSC_OK, true));
    if (rank >= first) own = DSC_FAIL(rank == first ? DSC_EINVAL : DSC_EIO, "rank %d has no data", rank);
    agreed = dsc_comm_agree(job, own, false);
    snprintf(expected, sizeof expected, "rank %d has no data", first);
    CHECK(agreed == DSC_EINVAL && strcmp(dsc_message(), expected) == 0, "status %d: %s", agreed, dsc_message());
    own = rank == size - 1 ? DSC_FAIL(DSC_ENOMEM, "full") : DSC_OK;
    agreed = dsc_comm_agree(job, own, true);
    snprintf(expected, sizeof expected, size > 1 ? "rank %d: full" : "full", size - 1);
    CHECK(agreed == DSC_ENOMEM && strcmp(dsc_message(), expected) == 0, "status %d: %s", agreed, dsc_message());
}

static void check_gather(int64_t bytes_a_rank)
{
    int size = dsc_comm_size(job), rank = dsc_comm_rank(job);
    int64_t counts[64], at = 0;
    char *own = malloc((size_t)(size * bytes_a_rank)), *all;
    void *gathered = own;

    memset(own, 'a' + rank, (size_t)(size * bytes_a_rank));
    CHECK_OK(dsc_comm_gather(job, own, rank * bytes_a_rank, &gathered, rank == 0 ? counts : NULL));
    free(own);
    all = gathered;
    for (int r = 0; rank == 0 && r < size; r++) {
        int64_t end = at + r * bytes_a_rank;

        CHECK(counts[r] == r * bytes_a_rank, "%lld bytes of rank %d", (long long)counts[r], r);
        while (at < end && all[at] == 'a' + r) at++;
        CHECK(at == end, "byte %lld is not of rank %d", (long long)at, r);
    }
    if (rank != 0) CHECK(gathered == NULL, "rank %d holds what was gathered", rank);
    free(gathered);
}

static void gather_keeps_ranks_in_order(void)
{
    check_gather(3);
    check_gather(1000003); /* more than are under way at one time */
}

static void ranks_know_their_host(void)
{
    int size = dsc_comm_size(job);
    int64_t offset_ns = -1, uncertainty_ns = -1;

    CHECK(dsc_comm_nodes(job) == 1 && dsc_comm_node_size(job) == size, "%d hosts, %d ranks on this one",
          dsc_comm_nodes(job), dsc_comm_node_size(job));
    CHECK(dsc_comm_node_rank(job) == dsc_comm_rank(job), "rank %d of its host", dsc_comm_node_rank(job));
    CHECK_OK(dsc_clock_align(job, &offset_ns, &uncertainty_ns));
    CHECK(offset_ns == 0 && uncertainty_ns == 0, "offset %lld, uncertainty %lld", (long long)offset_ns,
          (long long)uncertainty_ns);
    CHECK_OK(dsc_comm_barrier(job));
}

/* Byte i of what one rank sends to another. */
static unsigned char byte_between(int from, int to, int64_t i)
{
    return (unsigned char)(from * 31 + to * 17 + i * 7 + i / 251);
}

static void check_all_to_all(dsc_group *group, int first, int step, int64_t each)
{
    const int size = dsc_group_size(group), rank = dsc_comm_rank(job);
    unsigned char *in = malloc((size_t)(size * each) + 1), *out = malloc((size_t)(size * each) + 1);
    const int64_t before = dsc_comm_wire_bytes(job);
    int64_t wrong = 0;
    dsc_request request;

    for (int to = 0; to < size; to++)
        for (int64_t i = 0; i < each; i++) in[to * each + i] = byte_between(rank, first + to * step, i);
    if (CHECK_OK(dsc_all_to_all_start(group, in, out, each, &request)) && CHECK_OK(dsc_request_wait(job, &request))) {
        for (int from = 0; from < size; from++)
            for (int64_t i = 0; i < each; i++)
                wrong += out[from * each + i] != byte_between(first + from * step, rank, i);
        CHECK(wrong == 0, "%lld of %d x %lld bytes are wrong", (long long)wrong, size, (long long)each);
        CHECK(dsc_comm_wire_bytes(job) - before ==
                  (dsc_group_rank(group) == 0 ? (int64_t)size * (size - 1) * each : 0),
              "%lld bytes are counted", (long long)(dsc_comm_wire_bytes(job) - before));
    }
    free(in);
    free(out);
}

static void all_to_all_brings_each_its_own(void)
{
    const int half = dsc_comm_rank(job) % 2;
    dsc_group *all = group_of(0, 1), *some = group_of(half, 2);

    for (int64_t s = 0; s < DSC_COUNT(sizes); s++) {
        check_all_to_all(all, 0, 1, sizes[s]);
        check_all_to_all(some, half, 2, sizes[s]);
        check_all_reduce(some, half, 2, sizes[s], DSC_FP32, DSC_SUM);
    }
    check_all_to_all(all, 0, 1, 8 * LONGEST);
    dsc_group_destroy(some);
    dsc_group_destroy(all);
}

static const tap_case cases[] = {
    {"an all-reduce equals the serial sum and maximum for every type and size", all_reduce_equals_serial},
    {"groups with gaps reduce apart", groups_with_gaps_are_apart},
    {"a reduce-scatter equals the serial sum for every type and size", reduce_scatter_equals_serial},
    {"an all-gather brings everybody's bytes", all_gather_brings_everybodys_bytes},
    {"an all-to-all brings each its own", all_to_all_brings_each_its_own},
    {"a broadcast from any root reaches all", broadcast_reaches_all},
    {"messages keep their order and tag", messages_keep_order_and_tag},
    {"collectives of one group overlap", collectives_overlap},
    {"sums have the same bits 20 times and on all ranks", sums_repeat_their_bits},
    {"payload is counted by the rules", payload_follows_the_rules},
    {"lengths that differ are refused with both numbers", lengths_that_differ_are_refused},
    {"wrong groups are refused", wrong_groups_are_refused},
    {"an agreed failure is that of the lowest rank", agreement_is_the_lowest_ranks},
    {"what is gathered stands in the order of ranks", gather_keeps_ranks_in_order},
    {"ranks of one host share it and its clock", ranks_know_their_host},
};

int main(int argc, char **argv) { job_run(argc, argv, cases, DSC_COUNT(cases)); }
