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
    CUDA_LIBDIR=`cd "$cuda_dir/lib64" && pwd`
    AC_DEFINE_UNQUOTED([CUDA_LIBDIR], ["$CUDA_LIBDIR"], [where CUDA's libraries were at build time])
    AC_DEFINE([HAVE_CUDA], [1], [whether devices may be CUDA's])],
    [test "$with_cuda" != no && test "$with_cuda" != auto],
    [AC_MSG_ERROR([no nvcc in $with_cuda/bin: correct --with-cuda=DIR, or give --without-cuda])])
  AC_ARG_VAR([DSC_CUDA_ARCH], [compute capabilities to compile for, the newest for later ones too (80 90)])
  AC_ARG_VAR([NVCCFLAGS], [flags for nvcc])
  for cuda_arch in ${DSC_CUDA_ARCH:-80 90}; do
    NVCC_ARCH="$NVCC_ARCH -gencode arch=compute_$cuda_arch,code=sm_$cuda_arch"
  done
  NVCC_ARCH="$NVCC_ARCH -gencode arch=compute_$cuda_arch,code=compute_$cuda_arch"
  AC_SUBST([NVCC_ARCH])
  AC_SUBST([CUDA_LIBDIR])
  AC_SUBST([CUDA_CFLAGS])
  AC_SUBST([CUDA_LIBS])
  AM_CONDITIONAL([HAVE_CUDA], [test -n "$NVCC"])
])
