/* Layouts as bits: made, asked, read, printed and drawn. */
#include "model/parts.h"
#include "model/sparsity.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

dsc_status dsc_layout_make_kinds(int64_t block, int64_t blocks, int64_t heads, int64_t kinds, dsc_layout **out)
{
    const int64_t most_words = INT64_C(1) << 26, words = dsc_ceil_div(blocks, 64);
    int64_t rows, all;
    dsc_layout *l;

    if (!dsc_mul(kinds, blocks, &rows) || !dsc_mul(rows, words, &all) || all > most_words)
        return DSC_FAIL(DSC_EINVAL, "%" PRId64 " layouts of %" PRId64 " x %" PRId64 " blocks are more than the %" PRId64
                        " blocks that can be kept: take larger ones", kinds, blocks, blocks, 64 * most_words);
    l = calloc(1, sizeof *l);
    if (l != NULL) *l = (dsc_layout){block, blocks, heads, kinds, words, calloc((size_t)all, sizeof *l->bits)};
    if (l != NULL && l->bits != NULL) {
        *out = l;
        return DSC_OK;
    }
    free(l);
    return DSC_FAIL(DSC_ENOMEM, "sparse attention: no memory for %" PRId64 " layouts of %" PRId64 " x %" PRId64
                    " blocks", kinds, blocks, blocks);
}

dsc_status dsc_layout_make(int64_t block, int64_t blocks, int64_t heads, dsc_layout **out)
{
    return dsc_layout_make_kinds(block, blocks, heads, heads, out);
}

void dsc_layout_destroy(dsc_layout *l)
{
    if (l == NULL) return;
    free(l->bits);
    free(l);
}

dsc_status dsc_layout_copy(const dsc_layout *l, int64_t heads, dsc_layout **out)
{
    dsc_status status = dsc_layout_make_kinds(l->block, l->blocks, heads, l->kinds, out);

    if (status == DSC_OK)
        memcpy((*out)->bits, l->bits, (size_t)(l->kinds * l->blocks * l->words) * sizeof *l->bits);
    return status;
}

static uint64_t *row_of(const dsc_layout *l, int64_t kind, int64_t row)
{
    return l->bits + (kind * l->blocks + row) * l->words;
}

void dsc_layout_set(dsc_layout *l, int64_t kind, dsc_stretch rows, dsc_stretch columns)
{
    for (int64_t r = DSC_MAX(rows.first, 0); r < DSC_MIN(rows.end, l->blocks); r++)
        for (int64_t c = DSC_MAX(columns.first, 0); c < DSC_MIN(columns.end, l->blocks); c++)
            row_of(l, kind, r)[c / 64] |= UINT64_C(1) << (c % 64);
}

void dsc_layout_add(dsc_layout *l, int64_t head, int64_t row, int64_t column)
{
    row_of(l, head, row)[column / 64] |= UINT64_C(1) << (column % 64);
}

static int64_t kind_of(const dsc_layout *l, int64_t head) { return l->kinds > 1 ? head : 0; }

bool dsc_layout_has(const dsc_layout *l, int64_t head, int64_t row, int64_t column)
{
    return row_of(l, kind_of(l, head), row)[column / 64] >> (column % 64) & 1;
}

int64_t dsc_layout_count(const dsc_layout *l, int64_t head)
{
    const uint64_t *words = row_of(l, kind_of(l, head), 0);
    int64_t count = 0;

    for (int64_t i = 0; i < l->blocks * l->words; i++) count += __builtin_popcountll(words[i]);
    return count;
}

double dsc_layout_density(const dsc_layout *l)
{
    double present = 0;

    for (int64_t kind = 0; kind < l->kinds; kind++) present += (double)dsc_layout_count(l, kind);
    return present / (double)l->kinds / (double)l->blocks / (double)l->blocks;
}

void dsc_layout_clear_above(dsc_layout *l, int64_t kind)
{
    for (int64_t r = 0; r < l->blocks; r++) {
        uint64_t *words = row_of(l, kind, r);

        if (r % 64 < 63) words[r / 64] &= (UINT64_C(2) << (r % 64)) - 1;
        for (int64_t w = r / 64 + 1; w < l->words; w++) words[w] = 0;
    }
}

void dsc_layout_make_causal(dsc_layout *l)
{
    for (int64_t kind = 0; kind < l->kinds; kind++) dsc_layout_clear_above(l, kind);
}

/* ---- Lists */

/* The columns of a row, by its words' bits. */
static int32_t list_row(const dsc_layout *l, int64_t kind, int64_t row, int32_t *columns)
{
    const uint64_t *words = row_of(l, kind, row);
    int32_t count = 0;

    for (int64_t w = 0; w < l->words; w++)
        for (uint64_t rest = words[w]; rest != 0; rest &= rest - 1)
            columns[count++] = (int32_t)(64 * w + __builtin_ctzll(rest));
    return count;
}

static void list_rows(const dsc_layout *l, const int64_t *heads, const dsc_blocks *out)
{
    int32_t at = 0;

    for (int64_t list = 0; list < out->heads * out->n; list++) {
        out->row_start[list] = at;
        at += list_row(l, kind_of(l, heads[list / out->n]), list % out->n, out->columns + at);
    }
    out->row_start[out->heads * out->n] = at;
}

/* Of lists by row those by column: counted, then dealt out in the order of rows. */
static void turn_lists(const dsc_blocks *out)
{
    const int64_t lists = out->heads * out->n;
    int32_t *start = out->column_start, sum = 0;

    for (int64_t list = 0; list < lists; list++)
        for (int32_t i = out->row_start[list]; i < out->row_start[list + 1]; i++)
            start[list / out->n * out->n + out->columns[i]]++;
    for (int64_t list = 0; list < lists; list++) {
        const int32_t count = start[list];

        start[list] = sum;
        sum += count;
    }
    for (int64_t list = 0; list < lists; list++)
        for (int32_t i = out->row_start[list]; i < out->row_start[list + 1]; i++)
            out->rows[start[list / out->n * out->n + out->columns[i]]++] = (int32_t)(list % out->n);
    for (int64_t list = lists; list > 0; list--) start[list] = start[list - 1]; /* each stands at its end now */
    start[0] = 0;
}

/* Longest first, those of equal length as they come. */
static dsc_status order_lists(const dsc_blocks *out)
{
    const int64_t lists = out->heads * out->n;
    int64_t *place = calloc((size_t)out->n + 2, sizeof *place);

    if (place == NULL) return DSC_FAIL(DSC_ENOMEM, "sparse attention: lists of %" PRId64 " rows", lists);
#define SHORTNESS(list) (out->n - (out->row_start[(list) + 1] - out->row_start[list]))
    for (int64_t list = 0; list < lists; list++) place[SHORTNESS(list) + 1]++;
    for (int64_t i = 0; i < out->n; i++) place[i + 1] += place[i];
    for (int64_t list = 0; list < lists; list++) out->order[place[SHORTNESS(list)]++] = (int32_t)list;
#undef SHORTNESS
    free(place);
    return DSC_OK;
}

dsc_status dsc_layout_list(const dsc_layout *l, const int64_t *heads, const dsc_blocks *out)
{
    memset(out->row_start, 0, (size_t)dsc_blocks_elems(out->n, out->heads, out->present) * sizeof *out->row_start);
    list_rows(l, heads, out);
    turn_lists(out);
    return order_lists(out);
}

/* ---- JSON */

static dsc_status read_row(const char *where, const json_t *row, int64_t head, int64_t r, dsc_layout *l)
{
    const json_t *cell;
    size_t c;

    if ((int64_t)json_array_size(row) != l->blocks)
        return DSC_FAIL(DSC_EINVAL, "%s: row %" PRId64 " of head %" PRId64 " has %zu columns, and there are %" PRId64
                        " rows", where, r, head, json_array_size(row), l->blocks);
    json_array_foreach(row, c, cell) {
        int64_t column = (int64_t)c;

        if (!json_is_integer(cell) || json_integer_value(cell) < 0 || json_integer_value(cell) > 1)
            return DSC_FAIL(DSC_EINVAL, "%s: row %" PRId64 ", column %" PRId64 " of head %" PRId64
                            " is neither 0 nor 1", where, r, column, head);
        if (json_integer_value(cell) == 1)
            dsc_layout_set(l, head, (dsc_stretch){r, r + 1}, (dsc_stretch){column, column + 1});
    }
    return DSC_OK;
}

/* All heads are kinds of their own: a file may say what it likes. */
dsc_status dsc_layout_of_json(const char *where, const json_t *object, dsc_layout **out)
{
    static const char *const keys[] = {"block", "layout"};
    const json_t *layout = json_object_get(object, "layout");
    int64_t block = 16, heads = (int64_t)json_array_size(layout);
    int64_t blocks = (int64_t)json_array_size(json_array_get(layout, 0));
    dsc_status status = DSC_OK;
    dsc_layout *l = NULL;

    DSC_TRY(dsc_json_object(where, object));
    DSC_TRY(dsc_json_check_keys(where, object, keys, DSC_COUNT(keys)));
    DSC_TRY(dsc_json_int(where, object, "block", 1, 1 << 16, &block));
    if (heads == 0 || blocks == 0)
        DSC_TRY(DSC_FAIL(DSC_EINVAL, "%s: \"layout\" must be a list of heads, each a list of rows of 0 and 1", where));
    DSC_TRY(dsc_layout_make_kinds(block, blocks, heads, heads, &l));
    for (int64_t h = 0; h < heads; h++) {
        const json_t *head = json_array_get(layout, (size_t)h);

        if ((int64_t)json_array_size(head) != blocks)
            DSC_TRY(DSC_FAIL(DSC_EINVAL, "%s: head %" PRId64 " has %zu rows, head 0 has %" PRId64, where, h,
                             json_array_size(head), blocks));
        for (int64_t r = 0; r < blocks; r++) DSC_TRY(read_row(where, json_array_get(head, (size_t)r), h, r, l));
    }
    *out = l;
    l = NULL;
out:
    dsc_layout_destroy(l);
    return status;
}

json_t *dsc_layout_json(const dsc_layout *l)
{
    json_t *heads = json_array();

    for (int64_t h = 0; h < l->heads; h++) {
        json_t *rows = json_array();

        for (int64_t r = 0; r < l->blocks; r++) {
            json_t *row = json_array();

            for (int64_t c = 0; c < l->blocks; c++)
                json_array_append_new(row, json_integer(dsc_layout_has(l, h, r, c)));
            json_array_append_new(rows, row);
        }
        json_array_append_new(heads, rows);
    }
    return json_pack("{s:I, s:o}", "block", (json_int_t)l->block, "layout", heads);
}

/* ---- Seen */

static double density(const dsc_layout *l, int64_t head)
{
    return 100 * (double)dsc_layout_count(l, head) / (double)l->blocks / (double)l->blocks;
}

static void name_kind(const dsc_layout *l, int64_t kind, dsc_text *out)
{
    if (l->kinds > 1) dsc_text_add(out, "head %" PRId64, kind);
    else if (l->heads == 1) dsc_text_add(out, "1 head");
    else dsc_text_add(out, "all %" PRId64 " heads", l->heads);
}

void dsc_layout_print(const dsc_layout *l, dsc_text *out)
{
    for (int64_t kind = 0; kind < l->kinds; kind++) {
        name_kind(l, kind, out);
        dsc_text_add(out, ": %" PRId64 " x %" PRId64 " blocks of %" PRId64 ", %" PRId64 " present, %.1f %%\n",
                     l->blocks, l->blocks, l->block, dsc_layout_count(l, kind), density(l, kind));
        for (int64_t r = 0; r < l->blocks; r++) {
            for (int64_t c = 0; c < l->blocks; c++) dsc_text_add(out, dsc_layout_has(l, kind, r, c) ? "#" : ".");
            dsc_text_add(out, "\n");
        }
    }
}

/* The runs of a row as bars. */
static void draw_row(const dsc_layout *l, int64_t kind, int64_t r, int64_t left, int64_t side, dsc_text *out)
{
    for (int64_t c = 0, end; c < l->blocks; c = end) {
        for (end = c; end < l->blocks && dsc_layout_has(l, kind, r, end) == dsc_layout_has(l, kind, r, c);) end++;
        if (dsc_layout_has(l, kind, r, c))
            dsc_text_add(out, "<rect x='%" PRId64 "' y='%" PRId64 "' width='%" PRId64 "' height='%" PRId64 "'/>\n",
                         left + c * side, 20 + r * side, (end - c) * side - 1, side - 1);
    }
}

void dsc_layout_svg(const dsc_layout *l, dsc_text *out)
{
    int64_t side = DSC_MAX(512 / l->blocks, 3), width = l->blocks * side + 12;

    dsc_text_add(out, "<svg xmlns='http://www.w3.org/2000/svg' width='%" PRId64 "' height='%" PRId64
                 "' font-family='sans-serif' font-size='12'>\n", l->kinds * width, l->blocks * side + 24);
    for (int64_t kind = 0; kind < l->kinds; kind++) {
        int64_t left = kind * width;

        dsc_text_add(out, "<text x='%" PRId64 "' y='14'>", left);
        name_kind(l, kind, out);
        dsc_text_add(out, ", blocks of %" PRId64 ", %.1f %% present</text>\n", l->block, density(l, kind));
        dsc_text_add(out, "<rect x='%" PRId64 "' y='20' width='%" PRId64 "' height='%" PRId64 "' fill='#eee'/>\n", left,
                     l->blocks * side, l->blocks * side);
        dsc_text_add(out, "<g fill='#357'>\n");
        for (int64_t r = 0; r < l->blocks; r++) draw_row(l, kind, r, left, side, out);
        dsc_text_add(out, "</g>\n");
    }
    dsc_text_add(out, "</svg>\n");
}
