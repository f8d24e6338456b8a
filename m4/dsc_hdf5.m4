# Debian's `hdf5` is the serial or a parallel build, as an alternative says: the one that fits is named first. Linking a
# parallel one drags MPI in.
AC_DEFUN([DSC_HDF5], [
  AC_REQUIRE([DSC_MPI])
  AS_IF([test "$dsc_have_mpi" = no],
    [dsc_hdf5_package=libhdf5-dev
     DSC_PKG([hdf5], [HDF5], [hdf5-serial hdf5], [hdf5.h], [hdf5], [HDF5, which holds traces and checkpoints (needed)])],
    [dsc_hdf5_package=libhdf5-mpich-dev
     DSC_PKG([hdf5], [HDF5], [hdf5-mpich hdf5], [hdf5.h], [hdf5], [HDF5, which holds traces and checkpoints (needed)])])
  DSC_NEED([hdf5], [$dsc_hdf5_package])
])
