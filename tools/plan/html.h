/* The page of --html, section by section; what its writers share. The page is whole in itself: style and script stand
 * in it, nothing is loaded, and whatever a user can name goes through html_escape. Numbers are shown as the tool
 * prints them, in <data> elements that hold them exactly, in the units of --json. */
#ifndef TOOLS_PLAN_HTML_H
#define TOOLS_PLAN_HTML_H

#include "tools/plan/plan.h"

/* tools/plan/page.css and page.js, made C by the build. */
extern const char html_style[], html_script[];

/* Adds text as content of elements and of quoted attributes. What is no UTF-8, and control characters, become
 * U+FFFD. */
void html_escape(const char *text, dsc_text *out);

void html_bytes(int64_t bytes, dsc_text *out);
void html_ns(int64_t ns, dsc_text *out); /* the value in seconds */
void html_percent(double share, dsc_text *out); /* the value is the share; "-" for what is not finite */

/* Something that is coloured by its class of page.css. */
typedef struct html_part { const char *class_, *name; int64_t amount; } html_part;
void html_legend(const html_part *parts, int64_t count, dsc_text *out);

/* The stacked parts of a bar, of a scale from 0 to `whole`; a number is written by `print`, and exactly in `unit`.
 * limit > 0: a mark there. */
typedef struct html_scale { int64_t whole, limit; dsc_short (*print)(int64_t); const char *unit; } html_scale;
void html_track(const char *name, const html_part *parts, int64_t count, const html_scale *scale, dsc_text *out);

/* A table: its opening tags and head, from names apart by '|' (one that begins with '#' is of numbers), and its closing
 * tags. `id` is for its button, by which it is copied. */
void html_table_begin(const char *id, const char *names, dsc_text *out);
void html_table_end(dsc_text *out);

/* ---- Sections */

dsc_status html_memory(const evaluation *e, dsc_text *out);                        /* html_bars.c */
void html_time(const evaluation *e, dsc_text *out);
dsc_status html_timeline(const evaluation *e, dsc_text *out);                      /* html_timeline.c */
/* Ranks whose rows the timeline needs: one of each stage, of fewer stages where these would be too many. *list, where
 * there is one, is the caller's to free. */
dsc_status html_ranks(const evaluation *e, int64_t **list, dsc_sim_options *out);
dsc_status html_cluster(const evaluation *e, dsc_text *out);                       /* html_cluster.c */
/* Step time against memory of a device, and the points of which no other is as fast with less memory (html_front.c). */
dsc_status html_front(const html_point *points, int64_t count, int64_t capacity_bytes, dsc_text *out);

#endif
