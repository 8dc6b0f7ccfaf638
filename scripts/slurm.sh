#!/bin/bash
# A run on one or more machines of a Slurm cluster, in the words of scripts/train.sh: METHOD DATASET TASK SETTING.
#   sbatch --nodes 2 --gpus-per-node 4 --cpus-per-task 32 scripts/slurm.sh RCIL voc 15-1 overlap [run.py options]
# Methods and seeds as an array of jobs, each a run with its files below runs/seedN (OUT/seedN):
#   SEEDS="42 43 44" sbatch --array 0-5 scripts/slurm.sh "MiB RCIL" voc 15-1 overlap
# Options of sbatch stand before the script. Five minutes before the end of its time Slurm sends SIGUSR1 here, and
# SIGTERM to the processes where another job takes the machines. They save and end, and the job is queued again, and
# resumes. Slurm itself queues it again if a node fails. docs/CLUSTERS.md has more.
#SBATCH --job-name=rcil
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

if [ "${1:-}" = --node ]; then # srun starts this script on each node, too, see below
    shift
    TORCHRUN="$TORCHRUN --local-addr $SLURMD_NODENAME --rdzv-conf is_host=$((SLURM_NODEID == 0))"
    exec sh scripts/train.sh "$@"
fi
runs=()
for seed in ${SEEDS:--}; do
    for method in ${1:--}; do runs+=("$method $seed"); done
done
number=${SLURM_ARRAY_TASK_ID:-0}
if [ -z "${SLURM_ARRAY_TASK_ID:-}" ] && [ ${#runs[@]} -gt 1 ] || [ "$number" -ge ${#runs[@]} ]; then
    said="error: slurm.sh $*: each of the ${#runs[@]} methods and seeds is a job: give sbatch --array 0-$((${#runs[@]} - 1))"
    echo "$said${SLURM_ARRAY_TASK_ID:+, and no $SLURM_ARRAY_TASK_ID}" >&2
    exit 2
fi
read -r method seed <<< "${runs[number]}"
shift
set -- "$method" "$@"
if [ "$seed" != - ]; then
    echo "run $number of 0-$((${#runs[@]} - 1)): $method, seed $seed"
    folder=${OUT:-runs}/seed$seed
    set -- "$@" --random_seed "$seed" --checkpoint "$folder/checkpoints" --logdir "$folder/logs" --results_dir "$folder/results"
fi

# Slurm runs a copy of this file, which lies elsewhere: call sbatch in the checkout.
CHECKOUT=$SLURM_SUBMIT_DIR
. "$CHECKOUT/scripts/setup.sh"
processes=${SLURM_GPUS_ON_NODE:-1}
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(((SLURM_CPUS_PER_TASK + processes - 1) / processes))}
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # since Slurm 22.05 srun does not take it over from sbatch
port=$((10000 + SLURM_JOB_ID % 50000))         # two jobs on one machine do not meet

export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 # or processes do not find each other after a restart on several machines
# One torchrun per node, of which the first is where they meet, whatever name it gives itself. torchrun passes the
# signals named here on to its processes, and gives them two minutes to end.
export TORCHRUN="--nnodes $SLURM_JOB_NUM_NODES --nproc_per_node $processes --max-restarts 1
    --rdzv-backend c10d --rdzv-id $SLURM_JOB_ID --rdzv-endpoint $first:${MASTER_PORT:-$port}
    --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout 120"
export GPUS=$((SLURM_JOB_NUM_NODES * processes))

why=
trap 'why="out of time"; kill -USR1 "$running"' USR1
trap : TERM # Slurm tells the processes, too: let them save
srun --kill-on-bad-exit=1 bash scripts/slurm.sh --node "$@" &
running=$!
while # a signal ends the wait, not srun
    wait "$running"
    code=$?
    kill -0 "$running" 2> /dev/null
do :; done
[ "$code" -ne 0 ] || exit 0
# Where the other job gives this one time to end, this is an end like any other to Slurm, which would not queue it again.
[ "$why" ] || ! scontrol show job "$SLURM_JOB_ID" | grep -q "PreemptTime=[0-9]" || why=preempted
[ "$why" ] || exit "$code"
echo "$why: job $SLURM_JOB_ID is queued again, and resumes from its checkpoint"
exec scontrol requeue "$SLURM_JOB_ID"
