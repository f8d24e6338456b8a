# Overlays of kernels/cpu are compiled once for each instruction set that the compiler knows, whatever machine builds
# them; which one runs is chosen at start-up.
AC_DEFUN([DSC_ISA], [
  AC_CACHE_CHECK([whether $CC compiles for x86-64-v3 and x86-64-v4], [dsc_cv_x86_64], [
    dsc_saved_CFLAGS=$CFLAGS
    CFLAGS="$CFLAGS -march=x86-64-v4"
    AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[#include <immintrin.h>]], [[__m512 x = _mm512_setzero_ps(); (void)x;]])],
      [dsc_cv_x86_64=yes], [dsc_cv_x86_64=no])
    CFLAGS=$dsc_saved_CFLAGS])
  AM_CONDITIONAL([X86_64], [test "$dsc_cv_x86_64" = yes])
  AS_IF([test "$dsc_cv_x86_64" = yes],
    [dsc_isa="avx2, avx512"
     AC_DEFINE([HAVE_X86_64], [1], [whether the overlays for AVX2 and AVX-512 are built])],
    [dsc_isa=none])
])
