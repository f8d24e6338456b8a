/* Any bytes as DeepSpeed's JSON: refused with a message that names the file, or a configuration whose JSON reads back
 * as itself and from which rates, scales and intervals follow without a crash. For libFuzzer; config_file.sh builds
 * and runs it. */
#include "config/config.h"
#include "model/attention.h"
#include "tests/fuzz/file.h"
#include <math.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_reads_back(const dsc_config *config)
{
    char *text = dsc_config_json(config), *text_again;
    dsc_config again = DSC_CONFIG_DEFAULT;

    if (text == NULL || dsc_config_load(path_of(text, strlen(text)), &again) != DSC_OK) abort();
    text_again = dsc_config_json(&again);
    if (!dsc_equal(text, text_again)) abort();
    free(text);
    free(text_again);
}

static void check_schedules(const dsc_config *config)
{
    static const int64_t updates[] = {0, 1, 2, 7, 1000, INT64_C(1) << 40};
    dsc_freezer freezer;
    dsc_intervals intervals;
    dsc_scaler scaler;

    for (int64_t i = 0; i < DSC_COUNT(updates); i++) {
        double beta1 = config->beta1, beta2 = config->beta2;

        if (isnan(dsc_lr_at(config, updates[i], &beta1, &beta2)) || isnan(beta1) || isnan(beta2)) abort();
    }
    dsc_scaler_init(config, &scaler);
    for (int i = 0; i < 64; i++)
        if (dsc_scaler_update(&scaler, i % 3 == 0) != DSC_OK) break;
    dsc_freezer_init(config, &freezer);
    dsc_intervals_init(config, &intervals);
    for (int64_t i = 0; i < 64; i++) {
        bool is_frozen = dsc_freezer_is_frozen(&freezer, i);

        dsc_freezer_look(&freezer, i, 1 + (double)i);
        (void)dsc_intervals_is_exact(&intervals, i);
        (void)dsc_intervals_syncs(&intervals, i);
        dsc_intervals_count(&intervals, i, is_frozen);
    }
}

static void check_batch(const dsc_config *config)
{
    int64_t train = config->strategy.global_batch, micro = config->strategy.micro_batch, steps = 0;

    if (dsc_batch_resolve(&train, &micro, &steps, 4) == DSC_OK && train / 4 / micro != steps) abort();
}

/* Patterns that name no file. */
static void check_attention(const dsc_config *config)
{
    const char *words = config->strategy.attention;
    dsc_attention *attention = NULL;
    dsc_layout *layout = NULL;

    if (strpbrk(words, "./") != NULL) return;
    if (dsc_attention_create(words, "input", config->sparse_attention, NULL, &attention) != DSC_OK) return;
    for (int i = 0; i < attention->count; i++) {
        if (attention->patterns[i].kind != DSC_ATTENTION_SPARSE) continue;
        if (dsc_pattern_layout(&attention->patterns[i], 4, 512, &layout) == DSC_OK) dsc_layout_destroy(layout);
    }
    dsc_attention_destroy(attention);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = path_of(data, size);
    dsc_config config = DSC_CONFIG_DEFAULT;
    dsc_status status = dsc_config_load(path, &config);

    if (status == DSC_OK) status = dsc_config_check(&config);
    else if (strncmp(dsc_message(), path, strlen(path)) != 0) abort();
    if (status != DSC_OK) return 0;
    check_reads_back(&config);
    check_schedules(&config);
    check_batch(&config);
    check_attention(&config);
    return 0;
}
