AC_DEFUN([DSC_XXHASH], [
  DSC_PKG([xxhash], [XXHASH], [libxxhash], [xxhash.h], [xxhash], [xxHash, which hashes plans and checkpoints (needed)])
  DSC_NEED([xxhash], [libxxhash-dev])
])
