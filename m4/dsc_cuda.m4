# Finds the toolkit by its compiler: in --with-cuda=DIR, on PATH, or in its usual place. HAVE_CUDA, CUDA_CFLAGS and
# CUDA_LIBS; the runtime is linked statically, so that a machine without a driver still runs the tools.
AC_DEFUN([DSC_CUDA], [
  AC_ARG_WITH([cuda], [AS_HELP_STRING([--with-cuda=DIR|no], [CUDA toolkit])], [], [with_cuda=auto])
  dsc_have_cuda=no
  AS_CASE([$with_cuda],
    [no], [NVCC=],
    [auto|yes], [AC_PATH_PROG([NVCC], [nvcc], [], [$PATH$PATH_SEPARATOR/usr/local/cuda/bin])],
    [AC_PATH_PROG([NVCC], [nvcc], [], [$with_cuda/bin])])
  AS_IF([test -n "$NVCC"], [
    dsc_have_cuda="`$NVCC --version | sed -n 's/.*release \(@<:@0-9.@:>@*\).*/\1/p'`"
    cuda_dir=`dirname "$NVCC"`/..
    CUDA_CFLAGS="-I$cuda_dir/include"
    CUDA_LIBS="-L$cuda_dir/lib64 -lcudart_static -ldl -lrt -lpthread"
    AC_DEFINE([HAVE_CUDA], [1], [whether devices may be CUDA's])],
    [test "$with_cuda" != no && test "$with_cuda" != auto],
    [AC_MSG_ERROR([no nvcc in $with_cuda/bin: correct --with-cuda=DIR, or give --without-cuda])])
  AC_SUBST([CUDA_CFLAGS])
  AC_SUBST([CUDA_LIBS])
  AM_CONDITIONAL([HAVE_CUDA], [test -n "$NVCC"])
])
