#include "data/data.h"
#include "tests/data/files.h"
#include "tests/tap.h"
#include <stdlib.h>
#include <string.h>

static dsc_source *text_of(int64_t bytes, char fill)
{
    char *text = malloc((size_t)bytes);
    dsc_source *source = NULL;

    memset(text, fill, (size_t)bytes);
    files_write("text.txt", text, bytes);
    free(text);
    CHECK_OK(dsc_source_open(files_path("text.txt"), &source));
    return source;
}

/* Writes the first tokens of `count` samples from index `from`. */
static void draw(const dsc_sampler *sampler, int64_t from, int64_t count, int64_t *out)
{
    for (int64_t i = 0; i < count; i++) out[i] = dsc_sampler_token(sampler, from + i);
}

static void check_epoch(const dsc_sampler *sampler, int64_t epoch)
{
    char *seen = calloc((size_t)sampler->samples, 1);

    for (int64_t i = 0; i < sampler->samples; i++) {
        int64_t token = dsc_sampler_token(sampler, epoch * sampler->samples + i), window = token / sampler->seq;

        if (!CHECK(token % sampler->seq == 0 && window >= 0 && window < sampler->samples,
                   "sample %lld of %lld begins at token %lld", (long long)i, (long long)sampler->samples,
                   (long long)token)) break;
        if (!CHECK(!seen[window], "window %lld of %lld comes twice in epoch %lld", (long long)window,
                   (long long)sampler->samples, (long long)epoch)) break;
        seen[window] = 1;
    }
    free(seen);
}

static void draws_every_window_once(void)
{
    static const int64_t edges[] = {1, 2, 3, 4, 5, 7, 8, 9, 255, 256, 257, 1000, 4096};

    for (int64_t i = 0; i < DSC_COUNT(edges) + 40; i++) {
        int64_t samples = i < DSC_COUNT(edges) ? edges[i] : tap_random_between(1, 3000);
        dsc_sampler sampler = {samples, tap_random_between(1, 9), tap_random()};

        for (int64_t epoch = 0; epoch < 3; epoch++) check_epoch(&sampler, epoch);
    }
}

static void counts_samples(void)
{
    /* tokens, seq, samples: a window of seq + 1 tokens at stride seq */
    static const int64_t table[][3] = {{33, 32, 1}, {64, 32, 1}, {65, 32, 2}, {20000, 32, 624}, {2, 1, 1}};
    dsc_sampler sampler;

    for (int64_t i = 0; i < DSC_COUNT(table); i++) {
        dsc_source *source = text_of(table[i][0], 'x');

        if (source == NULL) return;
        if (CHECK_OK(dsc_sampler_init(source, table[i][1], 1, 1, &sampler)))
            CHECK(sampler.samples == table[i][2], "%lld samples of %lld", (long long)sampler.samples,
                  (long long)table[i][2]);
        dsc_source_close(source);
    }
}

static void refuses_less_than_a_batch(void)
{
    dsc_source *source = text_of(9, 'x');
    dsc_sampler sampler;

    if (source == NULL) return;
    CHECK(dsc_sampler_init(source, 32, 4, 1, &sampler) == DSC_EINVAL, "9 tokens make a batch");
    CHECK(strstr(dsc_message(), "text.txt: 9 tokens make 0 samples") != NULL && strstr(dsc_message(), " 4") != NULL,
          "%s", dsc_message());
    CHECK_OK(dsc_sampler_init(source, 2, 4, 1, &sampler));
    CHECK(dsc_sampler_init(source, 2, 5, 1, &sampler) == DSC_EINVAL, "4 samples make a batch of 5");
    dsc_source_close(source);
}

static bool draws_alike(const dsc_sampler *a, const dsc_sampler *b, int64_t from_a, int64_t from_b)
{
    int64_t left[64], right[64];

    draw(a, from_a, 64, left);
    draw(b, from_b, 64, right);
    return memcmp(left, right, sizeof left) == 0;
}

static void depends_on_seed_data_and_epoch(void)
{
    dsc_source *source = text_of(10001, 'x'), *other = NULL;
    dsc_sampler one, same, seeded, elsewhere;

    if (source == NULL) return;
    CHECK_OK(dsc_sampler_init(source, 10, 8, 1234, &one));
    CHECK_OK(dsc_sampler_init(source, 10, 100, 1234, &same));
    CHECK_OK(dsc_sampler_init(source, 10, 8, 1235, &seeded));
    dsc_source_close(source);
    other = text_of(10001, 'y');
    if (other == NULL) return;
    CHECK_OK(dsc_sampler_init(other, 10, 8, 1234, &elsewhere));
    dsc_source_close(other);
    CHECK(draws_alike(&one, &same, 5000, 5000), "the batch size changes the order");
    CHECK(!draws_alike(&one, &seeded, 0, 0), "two seeds draw alike");
    CHECK(!draws_alike(&one, &elsewhere, 0, 0), "two data sets draw alike");
    CHECK(!draws_alike(&one, &one, 0, one.samples), "two epochs draw alike");
}

static const tap_case cases[] = {
    {"every epoch draws every window exactly once", draws_every_window_once},
    {"samples are windows of seq + 1 tokens at stride seq", counts_samples},
    {"fewer samples than a batch are refused with both numbers", refuses_less_than_a_batch},
    {"the order depends on seed, data and epoch, and on nothing else", depends_on_seed_data_and_epoch},
};

int main(void)
{
    int status;

    files_begin();
    status = tap_run(cases, DSC_COUNT(cases), NULL);
    files_end();
    return status;
}
