/* Prints the op table for doc/program.md. */
#include "program/program.h"
#include <stdio.h>

int main(void)
{
    dsc_text text = {0};

    dsc_op_table_print(&text);
    fputs(dsc_text_str(&text), stdout);
    dsc_text_fini(&text);
    return 0;
}
