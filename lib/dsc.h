/* dsc plans the training of large transformers on a described cluster, and runs that very plan. It is one data flow:
 *
 *   model + cluster + config --> plan --> program --+--> executor  (MPI, CPU, CUDA) --> measured trace
 *   (dsc_model) (dsc_cluster)   (who      (what     |                                                   one HDF5 schema
 *               (dsc_config)     holds     each     +--> simulator (events, links)  --> predicted trace
 *                                what)     rank
 *                                          does)
 *
 * Nothing is modelled that is not also run, and nothing that takes time or memory is run that the program does not say:
 * the executor and the simulator interpret the same program and know nothing of each other.
 *
 * Headers follow the layers, lowest first. comm/comm.h, exec/run.h and kernels/kernels.h are there only where the build
 * has MPI, and are included by name. */
#ifndef DSC_H
#define DSC_H

#include "base/array.h"
#include "base/csv.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/rng.h"
#include "base/status.h"
#include "base/text.h"

#include "cluster/cluster.h"
#include "device/device.h"
#include "kernel/kernel.h"
#include "kernel/step.h"
#include "trace/calibration.h"
#include "trace/trace.h"

#include "config/config.h"
#include "data/data.h"
#include "model/model.h"

#include "plan/plan.h"
#include "program/program.h"
#include "store/calibration_file.h"
#include "store/checkpoint.h"
#include "store/plan_folder.h"
#include "store/trace_file.h"

#include "sim/sim.h"

#endif
