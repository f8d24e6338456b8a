#include "tests/plan/make.h"
#include "tests/tap.h"
#include <stdio.h>
#include <string.h>

#define MODEL "layers=16,hidden=1024,heads=16,vocab=50257,seq=1024"
#define CLUSTER "dgx-a100-80g:2" /* 8 devices a node */

/* The axes of degree > 1, fastest first. */
static void write_order(const dsc_plan *plan, char *out)
{
    out[0] = '\0';
    for (int i = 0; i < 4; i++)
        if (dsc_plan_degree(plan, plan->order[i]) > 1)
            sprintf(out + strlen(out), "%s%s", out[0] == '\0' ? "" : ",", DSC_AXIS_NAMES[plan->order[i]]);
}

/* words: what --explain says of it. */
static void check_order(const char *cluster, const dsc_strategy *s, const char *expected, const char *words)
{
    dsc_plan *plan = make_plan(MODEL, cluster, s);
    dsc_text text = {0};
    char order[32];

    if (plan == NULL) return;
    write_order(plan, order);
    dsc_plan_print(plan, &text);
    CHECK(dsc_equal(order, expected), "%s, expected %s", order, expected);
    CHECK(strstr(dsc_text_str(&text), words) != NULL, "no \"%s\" in %s", words, dsc_text_str(&text));
    dsc_text_fini(&text);
    dsc_plan_destroy(plan);
}

static void keeps_talk_inside_nodes(void)
{
    dsc_strategy s = make_strategy(8, 2, 1);

    s.global_batch = 32;
    check_order(CLUSTER, &s, "tp,dp", "dp,tp,pp: ");
    s = make_strategy(1, 8, 2); /* a pipeline sends less than gradients weigh */
    s.global_batch = 16;
    check_order(CLUSTER, &s, "dp,pp", "next tp,cp,pp,dp: ");
}

/* Gradients are summed once a step and activations sent for each micro-batch: with many of them the whole pipeline gets
 * a node for itself. */
static void weighs_volumes(void)
{
    dsc_strategy s = make_strategy(1, 2, 8);

    s.global_batch = 4096;
    check_order(CLUSTER, &s, "pp,dp", "next tp,cp,dp,pp: ");
    s.global_batch = 2;
    check_order(CLUSTER, &s, "dp,pp", "next tp,cp,pp,dp: ");
}

/* Eight tensor ranks' replicas on the other node are eight groups on eight NICs of 25 GB/s; a rank sends its gradients,
 * fp32, around a ring of two. */
static void shares_ports(void)
{
    dsc_strategy s = make_strategy(8, 2, 1);
    dsc_plan *plan = make_plan(MODEL, CLUSTER, &s);
    double expected, ns;

    if (plan == NULL) return;
    expected = (double)dsc_model_parameters(&plan->model) / 8 * 4 / 25;
    ns = plan->order_cost.axis_ns[DSC_AXIS_DP];
    CHECK(ns > expected && ns < 1.1 * expected, "%.4g ns, bytes alone take %.4g", ns, expected);
    CHECK(dsc_equal(plan->order_cost.link[DSC_AXIS_DP], "fabric") &&
              dsc_equal(plan->order_cost.link[DSC_AXIS_TP], "nvswitch"),
          "tp over %s, dp over %s", plan->order_cost.link[DSC_AXIS_TP], plan->order_cost.link[DSC_AXIS_DP]);
    dsc_plan_destroy(plan);
}

/* Nine replicas of 8 are one rack of 18 nodes of 4 GPUs: tensor and data parallel groups stay on its NVLink, pipelines
 * cross to the other rack. */
static void keeps_talk_inside_racks(void)
{
    dsc_strategy s = make_strategy(8, 9, 2);
    dsc_plan *plan;

    s.global_batch = 36;
    plan = make_plan(MODEL, "gb200-nvl72:36", &s);
    if (plan == NULL) return;
    CHECK(dsc_equal(plan->order_cost.link[DSC_AXIS_TP], "nvlink5") &&
              dsc_equal(plan->order_cost.link[DSC_AXIS_DP], "nvlink5") &&
              dsc_equal(plan->order_cost.link[DSC_AXIS_PP], "fabric"),
          "tp over %s, dp over %s, pp over %s", plan->order_cost.link[DSC_AXIS_TP], plan->order_cost.link[DSC_AXIS_DP],
          plan->order_cost.link[DSC_AXIS_PP]);
    dsc_plan_destroy(plan);
}

static void keeps_what_is_given(void)
{
    dsc_strategy s = make_strategy(8, 2, 1);

    strcpy(s.rank_order, "dp,tp");
    check_order(CLUSTER, &s, "dp,tp", "as --rank-order says");
}

static void keeps_the_default_without_links(void)
{
    dsc_strategy s = make_strategy(2, 2, 2);

    check_order(NULL, &s, "tp,dp,pp", "by default");
    check_order("dgx-a100-80g:1", &s, "tp,dp,pp", "by default");
}

/* The cost of an order is arithmetic over degrees: 100000 ranks cost what 16 do. */
static void is_fast_for_many(void)
{
    dsc_strategy s = make_strategy(8, 782, 16);

    check_order("dgx-a100-80g:12512", &s, "tp,dp,pp", "100096 ranks");
}

static const tap_case cases[] = {
    {"the axis that sends most stays inside nodes", keeps_talk_inside_nodes},
    {"the number of micro-batches decides between pipeline and data", weighs_volumes},
    {"groups that leave a node share its ports", shares_ports},
    {"a rack whose NVLink spans nodes is filled before NICs are used", keeps_talk_inside_racks},
    {"a given order is kept", keeps_what_is_given},
    {"one node, or one without links, keeps the default order", keeps_the_default_without_links},
    {"a hundred thousand ranks are placed at once", is_fast_for_many},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
