AC_DEFUN([DSC_HWLOC], [
  DSC_PKG([hwloc], [HWLOC], [hwloc], [hwloc.h], [hwloc], [hwloc, which describes machines (needed)])
  DSC_NEED([hwloc], [libhwloc-dev])
])
