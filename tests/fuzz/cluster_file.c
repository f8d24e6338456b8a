/* Any bytes as the JSON of a cluster: refused with a message of one line, or a cluster whose JSON reads back as itself
 * and whose first devices are joined, or not, without a crash. For libFuzzer; cluster_file.sh builds and runs it. */
#include "cluster/parts.h"
#include "sim/fabric.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static dsc_cluster *read_text(const char *text, size_t size)
{
    json_t *object = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
    dsc_cluster *cluster = NULL;

    if (object == NULL) return NULL;
    if (dsc_cluster_of_json("input", object, &cluster) != DSC_OK &&
        (cluster != NULL || strncmp(dsc_message(), "input", 5) != 0))
        abort();
    json_decref(object);
    return cluster;
}

static void check_reads_back(const dsc_cluster *cluster)
{
    char *text = dsc_cluster_json(cluster), *text_again;
    dsc_cluster *again = text == NULL ? NULL : read_text(text, strlen(text));

    if (again == NULL) abort();
    text_again = dsc_cluster_json(again);
    if (!dsc_equal(text, text_again)) abort();
    free(text);
    free(text_again);
    dsc_cluster_destroy(again);
}

/* Each of the first devices to every third of them. */
static void check_paths(const dsc_cluster *cluster)
{
    enum { MOST = 64 };
    const int64_t ranks = DSC_MIN(dsc_cluster_devices(cluster), MOST);
    dsc_links *links = NULL;
    dsc_fabric *fabric = NULL;
    dsc_load load = {0};
    int64_t latency = 0;

    if (dsc_links_create(&links) == DSC_OK &&
        dsc_fabric_create(cluster, dsc_stack_find("dsc", NULL, NULL), ranks, links, &fabric) == DSC_OK) {
        for (int64_t a = 0; a < ranks; a++)
            for (int64_t b = 0; b < ranks; b += 3)
                if (a != b) (void)dsc_fabric_path(fabric, a, b, &load, &latency);
        if (load.count > 0 && !(dsc_links_alone(links, load.demands, load.count, 1e30) > 0)) abort();
    }
    dsc_load_fini(&load);
    dsc_fabric_destroy(fabric);
    dsc_links_destroy(links);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dsc_cluster *cluster = read_text((const char *)data, size);

    if (cluster == NULL) return 0;
    check_reads_back(cluster);
    check_paths(cluster);
    dsc_cluster_destroy(cluster);
    return 0;
}
