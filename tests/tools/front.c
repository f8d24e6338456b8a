/* The page's section of a search: which strategies are its front, and where they stand in the plot. */
#include "tests/tap.h"
#include "tools/plan/html.h"
#include <stdlib.h>
#include <string.h>

enum { POINTS = 60 };

static const int64_t gib = 1 << 30, ms = 1000000;

static int64_t count_of(const char *text, const char *word)
{
    int64_t count = 0;

    for (; (text = strstr(text, word)) != NULL; text += strlen(word)) count++;
    return count;
}

/* Of equal points the first is kept. */
static bool is_beaten(const html_point *p, const html_point *points)
{
    for (int64_t i = 0; i < POINTS; i++)
        if (points[i].feasible && points[i].step_ns <= p->step_ns && points[i].peak_bytes <= p->peak_bytes &&
            (points[i].step_ns < p->step_ns || points[i].peak_bytes < p->peak_bytes || &points[i] < p))
            return true;
    return false;
}

static void front_is_what_nothing_beats(void)
{
    html_point points[POINTS];
    char labels[POINTS][32];
    dsc_text page = {0};
    int64_t best = 0, fastest = 1000 * ms;

    for (int64_t i = 0; i < POINTS; i++) {
        snprintf(labels[i], sizeof labels[i], "strategy %d.", (int)i);
        points[i] = (html_point){labels[i], tap_random_between(300, 1000) * ms, tap_random_between(1, 100) * gib,
                                 false};
        points[i].feasible = points[i].peak_bytes <= 80 * gib;
        if (points[i].feasible) fastest = DSC_MIN(fastest, points[i].step_ns);
    }
    CHECK_OK(html_front(points, POINTS, 80 * gib, &page));
    for (int64_t i = 0; i < POINTS; i++) {
        bool is_best = points[i].feasible && !is_beaten(&points[i], points);
        bool is_drawn = points[i].step_ns <= 2 * fastest;

        best += is_best && is_drawn;
        /* in the table; in the plot, again among the best */
        CHECK(count_of(dsc_text_str(&page), labels[i]) == is_best + is_drawn + (is_best && is_drawn),
              "%s of %d is%s a best one", labels[i], POINTS, is_best ? "" : " not");
    }
    CHECK(count_of(dsc_text_str(&page), "class=\"best\"") == best, "%d are best", (int)best);
    CHECK(count_of(dsc_text_str(&page), "does not fit") == count_of(dsc_text_str(&page), "class=\"out\""), "rings");
    dsc_text_fini(&page);
}

/* Circles lie between the axes, and so does the capacity, however small or large it is. */
static void all_is_in_the_plot(void)
{
    for (int64_t capacity = 1; capacity < INT64_MAX / 64; capacity *= 41) {
        const html_point points[] = {{"a", 1, 2, true}, {"b", tap_random_between(1, (int64_t)1 << 50), 64, true}};
        dsc_text page = {0};

        CHECK_OK(html_front(points, DSC_COUNT(points), capacity, &page));
        for (const char *at = dsc_text_str(&page); (at = strstr(at, " cy=\"")) != NULL; at++)
            CHECK(atof(at + 5) >= 22 && atof(at + 5) <= 336, "a circle is at %.10s", at + 5);
        for (const char *at = dsc_text_str(&page); (at = strstr(at, " cx=\"")) != NULL; at++)
            CHECK(atof(at + 5) >= 76 && atof(at + 5) <= 880, "a circle is at %.10s", at + 5);
        CHECK(count_of(dsc_text_str(&page), "class=\"grid\"") <= 24, "there are too many lines");
        dsc_text_fini(&page);
    }
}

static void what_fits_nowhere_is_shown(void)
{
    const html_point points[] = {{"<b>tp 8</b>", 5 * ms, 90 * gib, false}};
    dsc_text page = {0};

    CHECK_OK(html_front(points, 1, 80 * gib, &page));
    CHECK(strstr(dsc_text_str(&page), "&lt;b&gt;tp 8&lt;/b&gt;: 5.00 ms, 90.0 GiB, does not fit") != NULL, "%s",
          dsc_text_str(&page));
    CHECK(strstr(dsc_text_str(&page), "<b>") == NULL && strstr(dsc_text_str(&page), "class=\"front\"") == NULL,
          "there is a front of nothing");
    dsc_text_fini(&page);
}

static const tap_case cases[] = {
    {"the front is what no other beats in time and memory", front_is_what_nothing_beats},
    {"points of all sizes lie within the plot", all_is_in_the_plot},
    {"where nothing fits there are points and no front", what_fits_nowhere_is_shown}};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
