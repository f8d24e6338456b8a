AC_DEFUN([DSC_DNNL], [
  DSC_PKG([dnnl], [DNNL], [dnnl], [dnnl.h], [dnnl], [oneDNN, without which matrix products are slow])
  AS_IF([test "$dsc_have_dnnl" != no], [AC_DEFINE([HAVE_DNNL], [1], [whether products may use oneDNN])])
  AM_CONDITIONAL([HAVE_DNNL], [test "$dsc_have_dnnl" != no])
])
