# Asked for unless --without-mpi is given. The flags are taken from pkg-config, so that no compiler wrapper is needed.
AC_DEFUN([DSC_MPI], [
  DSC_PKG([mpi], [MPI], [mpich], [mpi.h], [mpi], [MPICH, without which dsc-run is not built])
  AS_IF([test "$with_mpi" != no], [
    DSC_NEED([mpi], [libmpich-dev])
    AC_PATH_PROGS([MPIEXEC], [mpiexec.mpich mpiexec.hydra mpiexec], [mpiexec])
    AC_DEFINE([HAVE_MPI], [1], [whether dsc-run is built])])
  AM_CONDITIONAL([HAVE_MPI], [test "$dsc_have_mpi" != no])
])
