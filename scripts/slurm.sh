#!/bin/bash
#SBATCH --job-name=vicinal
#SBATCH --requeue
#SBATCH --signal=USR2@180
#SBATCH --open-mode=append
# One run, or a sweep one run after the other, as a job of Slurm, with the arguments of train.py:
#
#   sbatch --partition=gpu --gpus-per-node=1 --time=4:00:00 scripts/slurm.sh mixup=manifold seed=1
#   sbatch --ntasks=4 --gpus-per-task=1 scripts/slurm.sh mixup=manifold trainer.shards=4    # one run by 4 processes
#
# 180 s before the time is up, or when the job is preempted, the step ends, all is saved, and Slurm puts the job back
# into its queue, where the run goes on. Called without sbatch it submits itself; SBATCH_PARTITION and the like of
# Slurm's own variables are its flags then. PYTHON is the Python of the jobs.
set -euo pipefail

if [[ -z "${SLURM_JOB_ID:-}" ]]; then
    if ! command -v sbatch >/dev/null; then
        echo "error: scripts/slurm.sh: there is no sbatch here; run this on a login node of the cluster" >&2
        exit 1
    fi
    exec sbatch "$0" "$@"
fi

if [[ -n "${SLURM_CPUS_PER_TASK:-}" ]]; then
    export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK" # from Slurm 22.05 on, srun does not take it from the job
fi
exec srun --kill-on-bad-exit=1 "${PYTHON:-python}" -m vicinal "$@"
