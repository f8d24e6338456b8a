AC_DEFUN([DSC_JANSSON], [
  DSC_PKG([jansson], [JANSSON], [jansson], [jansson.h], [jansson], [jansson, which reads and writes JSON (needed)])
  DSC_NEED([jansson], [libjansson-dev])
])
