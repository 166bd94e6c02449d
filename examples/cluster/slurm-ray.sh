#!/bin/bash
# A Ray cluster inside one Slurm job: features are extracted, then learners are compared, on all of its nodes.
#
#   sbatch slurm-ray.sh
#
# Stopped or lost at any moment, submitted again, it goes on where it was. What lines marked CHANGE say is yours.

#SBATCH --job-name=harkback
#SBATCH --nodes=4                     # CHANGE: the first has the head and the command itself
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16            # CHANGE: cores of a node
#SBATCH --exclusive
#SBATCH --time=24:00:00               # CHANGE
##SBATCH --gpus-per-node=1            # CHANGE: one # less, if the encoder has a model
#SBATCH --no-kill                     # a lost node is not the end of the job
#SBATCH --requeue                     # nor is a lost first node: it begins again, and goes on
#SBATCH --signal=B:TERM@120           # two minutes before the time is up, to end in order

set -euo pipefail

SHARED=${SHARED:-/shared/$USER}       # CHANGE: a folder that all nodes see
DATA=${DATA:-$SHARED/clips}           # CHANGE: the clips, or NAME:FOLDER of a benchmark
OUT=${OUT:-$SHARED/harkback}          # CHANGE: features, log and report
# shellcheck source=/dev/null
source "${VENV:-$SHARED/venv}/bin/activate"  # CHANGE: where harkback[ray] is installed

export RAY_USAGE_STATS_ENABLED=0
# Whoever reaches a Ray cluster runs what he likes on it, as you: a word that only this job knows keeps others out.
RAY_AUTH_TOKEN=$(python -c 'import secrets; print(secrets.token_hex(32))')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
read -r ip _ < <(srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address)
port=$((12000 + SLURM_JOB_ID % 1000 * 20))  # Below the ports that systems hand out; twenty for each job.
RAY_ADDRESS=$ip:$port
export RAY_ADDRESS

steps=()    # srun of the workers, then of the head
running=    # the command that is at work

finish() {
    status=$?
    trap - EXIT
    trap '' TERM
    echo "the job ends with status $status" >&2
    for step in $running "${steps[@]:1}" "${steps[@]:0:1}"; do  # The head, which was started first, goes last.
        kill -TERM "$step" 2> /dev/null || true
        wait "$step" || true
    done
    exit "$status"
}
trap finish EXIT
trap 'exit 143' TERM

start() {  # on a node: ray start with these arguments
    local node=$1
    shift
    srun --overlap --no-kill --nodes=1 --ntasks=1 --nodelist="$node" --cpus-per-task="$SLURM_CPUS_PER_TASK" \
        ray start "$@" --block --disable-usage-stats \
        --num-cpus="$SLURM_CPUS_PER_TASK" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" \
        --node-manager-port=$((port + 1)) --object-manager-port=$((port + 2)) \
        --dashboard-agent-listen-port=$((port + 3)) --dashboard-agent-grpc-port=$((port + 4)) \
        --runtime-env-agent-port=$((port + 5)) --metrics-export-port=$((port + 6)) \
        --min-worker-port=0 --max-worker-port=0 &
    steps+=($!)
}

run() {  # so that the end of the job's time is noticed while it works
    "$@" &
    running=$!
    wait "$running"
    running=
}

start "$head" --head --node-ip-address="$ip" --port="$port" --ray-client-server-port=$((port + 7)) \
    --include-dashboard=false --temp-dir="/tmp/ray-$SLURM_JOB_ID"
for try in {1..60}; do
    ray status --address="$RAY_ADDRESS" > /dev/null 2>&1 && break
    [ "$try" -lt 60 ] || { echo "the head at $RAY_ADDRESS does not answer" >&2; exit 1; }
    sleep "${PAUSE:-2}"
done
for node in "${nodes[@]:1}"; do  # Whoever comes late, or is lost and comes again, joins in.
    start "$node" --address="$RAY_ADDRESS"
done

# CHANGE: your commands. With a model: --encoder sam-audio --model "$SHARED/sam-audio-small", in both.
run harkback extract "$DATA" --encoder signal --store "$OUT/features" --on ray
run harkback bench "$DATA" --encoder signal --store "$OUT/features" --out "$OUT/bench" \
    --learners hark,l3,finetune,joint --seeds 3 --on ray
