# DSC_PKG(NAME, PREFIX, MODULES, HEADER, LIBRARY, DESCRIPTION)
#
# Looks for a library: --with-NAME=DIR takes DIR/include and DIR/lib, otherwise the first of pkg-config's MODULES that
# exists counts, otherwise the compiler's own search path. Sets PREFIX_CFLAGS, PREFIX_LIBS and dsc_have_NAME, which is
# "no" or says where it was found; nothing is fatal here. A caller may set with_NAME_default to "no".
AC_DEFUN([DSC_PKG], [
  AC_REQUIRE([PKG_PROG_PKG_CONFIG])
  AC_ARG_WITH([$1], [AS_HELP_STRING([--with-$1=DIR|no], [$6])], [], [with_$1=yes])
  dsc_have_$1=no
  $2_CFLAGS=
  $2_LIBS=
  AS_CASE([$with_$1],
    [no], [],
    [yes], [
      m4_foreach_w([module], [$3], [
        AS_IF([test "$dsc_have_$1" = no], [
          PKG_CHECK_EXISTS(module, [
            $2_CFLAGS=`$PKG_CONFIG --cflags "module"`
            $2_LIBS=`$PKG_CONFIG --libs "module"`
            dsc_have_$1="module `$PKG_CONFIG --modversion "module"`"])])])
      AS_IF([test "$dsc_have_$1" = no], [$2_LIBS=-l$5 dsc_have_$1=system])],
    [$2_CFLAGS="-I$with_$1/include"
     $2_LIBS="-L$with_$1/lib -Wl,-rpath,$with_$1/lib -l$5"
     dsc_have_$1="$with_$1"])
  AS_IF([test "$dsc_have_$1" != no], [
    dsc_saved_CPPFLAGS=$CPPFLAGS
    dsc_saved_LIBS=$LIBS
    CPPFLAGS="$$2_CFLAGS $CPPFLAGS"
    LIBS="$$2_LIBS $LIBS"
    AC_MSG_CHECKING([whether a program with $4 links with $$2_LIBS])
    AC_LINK_IFELSE([AC_LANG_PROGRAM([[#include <$4>]])],
      [AC_MSG_RESULT([yes])],
      [AC_MSG_RESULT([no])
       dsc_have_$1=no $2_CFLAGS= $2_LIBS=])
    CPPFLAGS=$dsc_saved_CPPFLAGS
    LIBS=$dsc_saved_LIBS])
  AC_SUBST([$2_CFLAGS])
  AC_SUBST([$2_LIBS])
])

# DSC_NEED(NAME, PACKAGE): stops configure when DSC_PKG has not found NAME, with Debian's name for it.
AC_DEFUN([DSC_NEED], [
  AS_IF([test "$dsc_have_$1" = no],
    [AC_MSG_ERROR([$1 is needed: install $2 (Debian), or say where it is by --with-$1=DIR])])
])
