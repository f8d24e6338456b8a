AC_DEFUN([DSC_ASAN], [
  AC_ARG_ENABLE([asan],
    [AS_HELP_STRING([--enable-asan], [find memory errors and undefined behaviour at run time])], [], [enable_asan=no])
  AS_IF([test "$enable_asan" != no],
    [ASAN_FLAGS="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"])
  AC_SUBST([ASAN_FLAGS])
])
