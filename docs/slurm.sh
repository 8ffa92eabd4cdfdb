#!/bin/bash
#SBATCH --job-name=bench
#SBATCH --array=1-8
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=4
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --output=slurm-%A_%a.out

# One shard of a suite for each task of the array. Submit it from the folder that the suite's paths are relative to:
#
#     sbatch docs/slurm.sh results/fashion-mnist.yaml
#
# Further words are options of `bench run`. A task that was killed continues when it is submitted again, alone too:
# `sbatch --array=3 docs/slurm.sh ...`. SHARDS is the last number of the array. SLURM_ARRAY_TASK_COUNT would not do,
# for it is 1 when one task is submitted again.

set -euo pipefail

SHARDS=${SHARDS:-8}
STORES=${STORES:-shards}
suite=${1:?usage: sbatch docs/slurm.sh SUITE [OPTION...]}
shift

# BENCH_CACHE, a folder that all nodes see, holds the baselines that were trained before: see docs/cluster.md.
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-4}

# `exec`, so that Slurm's signals reach the program itself.
exec bench run --suite "$suite" --shard "$SLURM_ARRAY_TASK_ID/$SHARDS" --store "$STORES/$SLURM_ARRAY_TASK_ID" \
    --no-tracking "$@"
