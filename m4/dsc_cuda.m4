# Finds the toolkit by its compiler: in --with-cuda=DIR, on PATH, or in its usual place.
AC_DEFUN([DSC_CUDA], [
  AC_ARG_WITH([cuda], [AS_HELP_STRING([--with-cuda=DIR|no], [CUDA toolkit])], [], [with_cuda=auto])
  dsc_have_cuda=no
  AS_CASE([$with_cuda],
    [no], [NVCC=],
    [auto|yes], [AC_PATH_PROG([NVCC], [nvcc], [], [$PATH$PATH_SEPARATOR/usr/local/cuda/bin])],
    [AC_PATH_PROG([NVCC], [nvcc], [], [$with_cuda/bin])])
  AS_IF([test -n "$NVCC"],
    [dsc_have_cuda="`$NVCC --version | sed -n 's/.*release \(@<:@0-9.@:>@*\).*/\1/p'`, found but not used"],
    [test "$with_cuda" != no && test "$with_cuda" != auto],
    [AC_MSG_ERROR([no nvcc in $with_cuda/bin: correct --with-cuda=DIR, or give --without-cuda])])
])
