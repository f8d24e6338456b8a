/* Under the address sanitizer, an op that touches a buffer past its life is found. The run is a child process, which is
 * to die of it. */
#include "tests/exec/trainer.h"
#include "tests/tap.h"
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Lets the update read a transient of the backward pass where it read gradients. Transients are dead in every other use
 * of a template, and the update has none of its own. */
static bool spoil(dsc_program *program)
{
    int32_t dead = -1;

    for (int32_t b = 0; b < program->buffer_count; b++)
        if (program->buffers[b].life == DSC_LIFE_TRANSIENT && program->buffers[b].bytes > 1000) dead = b;
    for (int64_t t = 0; t < program->template_count; t++)
        for (int64_t c = 0; c < program->templates[t].call_count; c++) {
            dsc_call *call = &program->templates[t].calls[c];

            if (call->shape.kernel != DSC_K_ADAM || dead < 0) continue;
            for (int operand = 0; operand < DSC_KERNEL_OPERANDS; operand++)
                if (call->operands[operand].buffer == program->kept[DSC_KEPT_GRADIENTS][DSC_SPACE_DEVICE])
                    call->operands[operand].buffer = dead;
            return true;
        }
    return false;
}

/* A step of a whole program (status 0), or of a spoilt one. Streamed: of buckets that come and go in pieces of an
 * arena, between both spaces. */
static int train(bool is_spoilt, bool is_streamed)
{
    dsc_config config = DSC_CONFIG_DEFAULT;
    dsc_step_report report;
    dsc_comm *comm = NULL;
    trainer t = {0};
    dsc_status status;
    char bytes[2000];

    memset(bytes, 'a', sizeof bytes);
    config.strategy.global_batch = config.strategy.micro_batch = 4;
    if (is_streamed) {
        config.strategy.offload = DSC_OFFLOAD_PARAMS;
        config.strategy.precision = DSC_BF16;
        config.strategy.micro_batch = 2;
        config.strategy.bucket_elems = 3000;
    }
    status = dsc_comm_create(NULL, NULL, &comm);
    if (status == DSC_OK)
        status = trainer_init(comm, "layers=2,hidden=40,heads=5,vocab=131,seq=24", &config, bytes, sizeof bytes, &t);
    if (status == DSC_OK && is_spoilt && !spoil((dsc_program *)t.programs[0]))
        status = DSC_FAIL(DSC_EINVAL, "no such op");
    if (status == DSC_OK) status = dsc_run_step(t.run, 1, false, false, &report, NULL);
    if (status != DSC_OK) fprintf(stderr, "%s\n", dsc_message());
    trainer_fini(&t);
    dsc_comm_exit(comm, status == DSC_OK ? 0 : 3);
}

/* Runs it in a child; what that wrote on stderr is in text[size]. Returns how it ended. */
static int train_in_child(bool is_spoilt, bool is_streamed, char *text, size_t size)
{
    int pipe_ends[2], how = -1;
    size_t length = 0;
    ssize_t count;
    pid_t child;

    fflush(stdout);
    if (pipe(pipe_ends) != 0 || (child = fork()) < 0) return -1;
    if (child == 0) {
        dup2(pipe_ends[1], STDERR_FILENO);
        close(pipe_ends[0]);
        close(pipe_ends[1]);
        _exit(train(is_spoilt, is_streamed));
    }
    close(pipe_ends[1]);
    while ((count = read(pipe_ends[0], text + length, size - 1 - length)) > 0) length += (size_t)count;
    text[length] = '\0';
    close(pipe_ends[0]);
    waitpid(child, &how, 0);
    return how;
}

static void finds_use_past_life(void)
{
    char text[1 << 16];
    int how;

#ifndef __SANITIZE_ADDRESS__
    tap_skip("asan", "built without the address sanitizer");
    return;
#endif
    how = train_in_child(true, false, text, sizeof text);
    CHECK(!WIFEXITED(how) || WEXITSTATUS(how) != 0, "the run ended well");
    CHECK(strstr(text, "use-after-poison") != NULL, "%.2000s", text);
}

static void leaves_good_programs_alone(void)
{
    for (int is_streamed = 0; is_streamed < 2; is_streamed++) {
        char text[1 << 16];
        int how = train_in_child(false, is_streamed, text, sizeof text);

        CHECK(WIFEXITED(how) && WEXITSTATUS(how) == 0, "%.2000s", text);
    }
}

static const tap_case cases[] = {
    {"a whole program runs", leaves_good_programs_alone},
    {"a buffer that is used past its life is found", finds_use_past_life},
};

int main(void) { return tap_run(cases, DSC_COUNT(cases), NULL); }
