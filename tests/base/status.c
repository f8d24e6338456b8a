#include "base/status.h"
#include "tests/tap.h"
#include <pthread.h>
#include <string.h>

static void gives_code_and_message(void)
{
    dsc_status status = DSC_FAIL(DSC_EINFEASIBLE, "stage %d needs %s", 3, "81.2 GiB");

    CHECK(status == DSC_EINFEASIBLE, "status %s", dsc_status_name(status));
    CHECK(strcmp(dsc_message(), "stage 3 needs 81.2 GiB") == 0, "message \"%s\"", dsc_message());
}

static void prefixes(void)
{
    dsc_status status = dsc_fail_in(DSC_FAIL(DSC_EIO, "cannot open"), "rank %d", 7);

    CHECK(status == DSC_EIO, "status %s", dsc_status_name(status));
    CHECK(strcmp(dsc_message(), "rank 7: cannot open") == 0, "message \"%s\"", dsc_message());
}

static void quotes_itself(void)
{
    dsc_fail(DSC_EINVAL, "first");
    dsc_fail(DSC_EINVAL, "second after %s", dsc_message());
    CHECK(strcmp(dsc_message(), "second after first") == 0, "message \"%s\"", dsc_message());
}

static void cuts_long_messages(void)
{
    char word[5000];

    memset(word, 'x', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    dsc_fail(DSC_EINVAL, "%s", word);
    CHECK(strlen(dsc_message()) == 4095, "%zu bytes", strlen(dsc_message()));
    dsc_fail_in(DSC_EINVAL, "prefix");
    CHECK(strncmp(dsc_message(), "prefix: xxx", 11) == 0, "message \"%.20s\"", dsc_message());
}

static void *fail_elsewhere(void *first)
{
    *(bool *)first = dsc_message()[0] == '\0';
    dsc_fail(DSC_EIO, "of the other thread");
    return NULL;
}

static void belongs_to_thread(void)
{
    pthread_t thread;
    bool starts_empty = false;

    dsc_fail(DSC_EINVAL, "of this thread");
    if (!CHECK(pthread_create(&thread, NULL, fail_elsewhere, &starts_empty) == 0, "no thread")) return;
    pthread_join(thread, NULL);
    CHECK(starts_empty, "the other thread saw this one's message");
    CHECK(strcmp(dsc_message(), "of this thread") == 0, "message \"%s\"", dsc_message());
}

static void maps_to_exit_status(void)
{
    static const struct { dsc_status status; int expected; } table[] = {
        {DSC_OK, 0},    {DSC_EINFEASIBLE, 1}, {DSC_EINVAL, 2},    {DSC_ENOTSUP, 2},   {DSC_ENOMEM, 3},
        {DSC_EIO, 3},   {DSC_ECOMM, 3},       {DSC_EINTERNAL, 3}, {DSC_ESTOPPED, 4},
    };

    for (int64_t i = 0; i < DSC_COUNT(table); i++)
        CHECK(dsc_exit_status(table[i].status) == table[i].expected, "%s exits with %d",
              dsc_status_name(table[i].status), dsc_exit_status(table[i].status));
}

static const tap_case cases[] = {
    {"a failure carries its code and its message", gives_code_and_message},
    {"a caller that knows more puts a prefix before the message", prefixes},
    {"a message may quote the one that it replaces", quotes_itself},
    {"a message that is too long is cut, and still takes a prefix", cuts_long_messages},
    {"a message belongs to its thread", belongs_to_thread},
    {"each status has its exit status", maps_to_exit_status},
};

int main(void)
{
    return tap_run(cases, DSC_COUNT(cases), NULL);
}
