#!/bin/bash
# Trainings whose batches are shared out among the GPUs of several nodes, with torchrun under Slurm.
#
#   sbatch slurm-torchrun.sh
#
# The features must lie in the store already (slurm-ray.sh, or harkback extract). Lines marked CHANGE are yours.

#SBATCH --job-name=harkback-train
#SBATCH --nodes=2                     # CHANGE
#SBATCH --ntasks-per-node=1           # torchrun starts a process for each GPU itself
#SBATCH --gpus-per-node=4             # CHANGE: left out, one process a node on its cores
#SBATCH --cpus-per-task=32            # CHANGE: cores of a node
#SBATCH --time=24:00:00               # CHANGE
#SBATCH --requeue                     # a lost node ends the job; begun again, it goes on at the last session

set -euo pipefail

SHARED=${SHARED:-/shared/$USER}       # CHANGE: a folder that all nodes see
DATA=${DATA:-$SHARED/clips}           # CHANGE: the clips, or NAME:FOLDER of a benchmark
OUT=${OUT:-$SHARED/harkback}          # CHANGE: features, log and report
# shellcheck source=/dev/null
source "${VENV:-$SHARED/venv}/bin/activate"  # CHANGE: where harkback is installed

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((12000 + SLURM_JOB_ID % 1000 * 20))  # Below the ports that systems hand out.
device=cpu
[ "${SLURM_GPUS_ON_NODE:-0}" = 0 ] || device=cuda

# CHANGE: your bench. srun's status is the job's.
srun --nodes="$SLURM_NNODES" --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=1 \
    torchrun --nnodes="$SLURM_NNODES" --nproc-per-node="${SLURM_GPUS_ON_NODE:-1}" \
    --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="${nodes[0]}:$port" \
    -m harkback bench "$DATA" --encoder signal --store "$OUT/features" --out "$OUT/bench-torchrun" \
    --learners l3,avcil --seeds 1 --train-on "$device"
