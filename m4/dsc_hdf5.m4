# Debian's `hdf5` is the serial or a parallel build, as an alternative says: the one that fits is named first. Linking a
# parallel one drags MPI in.
AC_DEFUN([DSC_HDF5], [
  AC_REQUIRE([DSC_MPI])
  AS_IF([test "$dsc_have_mpi" = no],
    [dsc_hdf5_package=libhdf5-dev
     _DSC_HDF5([hdf5-serial hdf5])],
    [dsc_hdf5_package=libhdf5-mpich-dev
     _DSC_HDF5([hdf5-mpich hdf5])])
  DSC_NEED([hdf5], [$dsc_hdf5_package])
])

AC_DEFUN([_DSC_HDF5], [
  DSC_PKG([hdf5], [HDF5], [$1], [hdf5.h], [hdf5], [HDF5, which holds traces and checkpoints (needed)])
])
