/* What a search tried: step time against memory, and the front of those that nothing beats in both. */
#include "tools/plan/html.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { DRAWN_TIMES = 2 }; /* the fastest strategy's time: slower ones are not drawn */
enum { LEFT = 76, TOP = 22, WIDTH = 900, HEIGHT = 380, RIGHT = 20, BOTTOM = 44 }; /* of the plot, in its units */

/* Values along one side, from the first tick to the last. */
typedef struct side { double first, every; int ticks; } side;

/* Ticks at 1, 2 or 5 times a power of ten of units, about `wanted` of them from `least` to `most`, which is more. */
static side make_side(double least, double most, double unit, int wanted)
{
    double rough = (most - least) / unit / wanted, power = pow(10, floor(log10(rough)));
    double every = (rough <= power ? power : rough <= 2 * power ? 2 * power : rough <= 5 * power ? 5 * power :
                    10 * power) * unit;
    double first = floor(least / every) * every;

    return (side){first, every, DSC_MAX((int)ceil((most - first) / every * (1 - 1e-12)), 1)};
}

static double place_on(const side *side, int64_t value)
{
    return ((double)value - side->first) / (side->every * side->ticks);
}

static double place_x(const side *x, int64_t ns)
{
    return LEFT + place_on(x, ns) * (WIDTH - LEFT - RIGHT);
}

static double place_y(const side *y, int64_t bytes)
{
    return HEIGHT - BOTTOM - place_on(y, bytes) * (HEIGHT - TOP - BOTTOM);
}

/* The largest power of 1024 in a number of bytes. */
static double unit_of(double bytes)
{
    double unit = 1;

    while (bytes >= 1024 * unit) unit *= 1024;
    return unit;
}

static void add_sides(const side *x, const side *y, dsc_text *out)
{
    for (int i = 0; i <= x->ticks; i++) {
        int64_t ns = llround(x->first + i * x->every);

        dsc_text_add(out, "<path class=\"grid\" d=\"M%.1f %dV%d\"/><text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s"
                     "</text>\n", place_x(x, ns), TOP, HEIGHT - BOTTOM, place_x(x, ns), HEIGHT - BOTTOM + 16,
                     dsc_ns_str(ns).str);
    }
    for (int i = 0; i <= y->ticks; i++) {
        int64_t bytes = llround(y->first + i * y->every);

        dsc_text_add(out, "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s"
                     "</text>\n", LEFT, place_y(y, bytes), WIDTH - RIGHT, LEFT - 6, place_y(y, bytes) + 4,
                     dsc_bytes_str(bytes).str);
    }
    dsc_text_add(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">step time</text>\n"
                 "<text x=\"%d\" y=\"%d\">memory of a device</text>\n", (LEFT + WIDTH) / 2, HEIGHT - 8, LEFT,
                 TOP - 4);
}

static int by_time(const void *a, const void *b)
{
    const html_point *x = *(const html_point *const *)a, *y = *(const html_point *const *)b;

    if (x->step_ns != y->step_ns) return x->step_ns < y->step_ns ? -1 : 1;
    if (x->peak_bytes != y->peak_bytes) return x->peak_bytes < y->peak_bytes ? -1 : 1;
    return (x > y) - (x < y);
}

/* Sorts feasible points by time, and keeps those that need less memory than all faster ones. Returns how many. */
static int64_t find_front(const html_point *points, int64_t count, const html_point **out)
{
    int64_t sorted = 0, kept = 0;

    for (int64_t i = 0; i < count; i++)
        if (points[i].feasible) out[sorted++] = &points[i];
    if (sorted > 0) qsort(out, (size_t)sorted, sizeof *out, by_time);
    for (int64_t i = 0; i < sorted; i++)
        if (kept == 0 || out[i]->peak_bytes < out[kept - 1]->peak_bytes) out[kept++] = out[i];
    return kept;
}

static void add_point(const html_point *p, const char *class_, const side *x, const side *y, dsc_text *out)
{
    dsc_text_add(out, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%s\" data-tip=\"", class_,
                 place_x(x, p->step_ns), place_y(y, p->peak_bytes), class_[0] == '\0' ? "2.5" : "4");
    html_escape(p->label, out);
    dsc_text_add(out, ": %s, %s%s\"/>\n", dsc_ns_str(p->step_ns).str, dsc_bytes_str(p->peak_bytes).str,
                 p->feasible ? "" : ", does not fit");
}

/* The sides of a plot of all points that take no longer than `last`. */
static void fit_sides(const html_point *points, int64_t count, int64_t capacity_bytes, int64_t last, side *x, side *y)
{
    int64_t shortest = last, longest = 0, most = DSC_MAX(capacity_bytes, 1);

    for (int64_t i = 0; i < count; i++) {
        if (points[i].step_ns > last) continue;
        shortest = DSC_MIN(shortest, points[i].step_ns);
        longest = DSC_MAX(longest, points[i].step_ns);
        most = DSC_MAX(most, points[i].peak_bytes);
    }
    *x = make_side((double)shortest, (double)DSC_MAX(longest, shortest + shortest / 10 + 1), 1, 8);
    *y = make_side(0, (double)most, unit_of((double)most), 6);
}

/* The front is drawn over the others. */
static void add_plot(const html_point *points, int64_t count, const html_point *const *front, int64_t kept,
                     int64_t capacity_bytes, int64_t last, dsc_text *out)
{
    side x, y;

    while (kept > 0 && front[kept - 1]->step_ns > last) kept--;
    fit_sides(points, count, capacity_bytes, last, &x, &y);
    dsc_text_add(out, "<svg class=\"plot\" viewBox=\"0 0 %d %d\" role=\"img\" "
                 "aria-label=\"memory of a device against step time\">\n", WIDTH, HEIGHT);
    add_sides(&x, &y, out);
    dsc_text_add(out, "<path class=\"limit-line\" d=\"M%d %.1fH%d\" data-tip=\"capacity, %s\"/>\n", LEFT,
                 place_y(&y, capacity_bytes), WIDTH - RIGHT, dsc_bytes_str(capacity_bytes).str);
    for (int64_t i = 0; i < count; i++)
        if (points[i].step_ns <= last) add_point(&points[i], points[i].feasible ? "" : "out", &x, &y, out);
    for (int64_t i = 0; i < kept; i++)
        dsc_text_add(out, "%s%.1f %.1f", i == 0 ? "<path class=\"front\" d=\"M" : "L", place_x(&x, front[i]->step_ns),
                     place_y(&y, front[i]->peak_bytes));
    if (kept > 0) dsc_text_add(out, "\"/>\n");
    for (int64_t i = 0; i < kept; i++) add_point(front[i], "best", &x, &y, out);
    dsc_text_add(out, "</svg>\n");
}

dsc_status html_front(const html_point *points, int64_t count, int64_t capacity_bytes, dsc_text *out)
{
    const html_point **front = malloc((size_t)(count + 1) * sizeof *front);
    int64_t kept, last, slower = 0;

    if (front == NULL) return DSC_FAIL(DSC_ENOMEM, "front of %" PRId64 " strategies", count);
    kept = find_front(points, count, front);
    last = kept == 0 || front[0]->step_ns > INT64_MAX / DRAWN_TIMES ? INT64_MAX : DRAWN_TIMES * front[0]->step_ns;
    for (int64_t i = 0; i < count; i++) slower += points[i].step_ns > last;
    dsc_text_add(out, "<section id=\"front\">\n<h2>What was searched</h2>\n<p class=\"note\">%" PRId64 " strategies; "
                 "rings do not fit. The line, the Pareto front, joins those of which no other is as fast with less "
                 "memory.", count);
    if (slower > 0)
        dsc_text_add(out, " %" PRId64 " that take over %d times as long as the fastest are not drawn.", slower,
                     DRAWN_TIMES);
    dsc_text_add(out, "</p>\n<div class=\"scroll\">");
    add_plot(points, count, front, kept, capacity_bytes, last, out);
    dsc_text_add(out, "</div>\n");
    html_table_begin("fronts", "strategy|#step|#memory of a device|#of capacity", out);
    for (int64_t i = 0; i < kept; i++) {
        dsc_text_add(out, "<tr><td>");
        html_escape(front[i]->label, out);
        dsc_text_add(out, "</td><td class=\"n\">");
        html_ns(front[i]->step_ns, out);
        dsc_text_add(out, "</td><td class=\"n\">");
        html_bytes(front[i]->peak_bytes, out);
        dsc_text_add(out, "</td><td class=\"n\">");
        html_percent((double)front[i]->peak_bytes / (double)DSC_MAX(capacity_bytes, 1), out);
        dsc_text_add(out, "</td></tr>\n");
    }
    html_table_end(out);
    dsc_text_add(out, "</section>\n");
    free(front);
    return DSC_OK;
}
