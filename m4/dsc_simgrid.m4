# SimGrid, with which a test compares the simulator; no program of ours needs it. --with-simgrid=DIR, no, or auto: if it is
# there.
AC_DEFUN([DSC_SIMGRID], [
  AS_IF([test "$with_simgrid" = auto], [with_simgrid=yes])
  AC_LANG_PUSH([C++])
  DSC_PKG([simgrid], [SIMGRID], [simgrid], [simgrid/s4u.hpp], [simgrid], [SimGrid, for one test of the simulator])
  AC_LANG_POP([C++])
  AS_CASE([$with_simgrid], [yes|no], [],
    [AS_IF([test "$dsc_have_simgrid" = no],
      [AC_MSG_ERROR([no SimGrid in $with_simgrid: correct --with-simgrid=DIR, or give --without-simgrid])])])
  AS_IF([test "$dsc_have_simgrid" != no], [AC_DEFINE([HAVE_SIMGRID], [1], [whether a test may ask SimGrid])])
  AM_CONDITIONAL([HAVE_SIMGRID], [test "$dsc_have_simgrid" != no])
])
