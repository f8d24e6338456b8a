/* XXH3-128 as 32 hexadecimal digits (canonical form), over one range or several. */
#ifndef DSC_BASE_HASH_H
#define DSC_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

typedef struct dsc_hash { char hex[33]; } dsc_hash;

dsc_hash dsc_hash_of(const void *bytes, size_t count);

/* Several ranges as if they lay one behind another. begin / add / end; the state is heap-allocated and freed by end. */
typedef struct dsc_hasher dsc_hasher;
dsc_hasher *dsc_hash_begin(void); /* NULL when memory is out; add and end take NULL */
void dsc_hash_add(dsc_hasher *hasher, const void *bytes, size_t count);
dsc_hash dsc_hash_end(dsc_hasher *hasher);

#endif
