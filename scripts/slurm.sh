#!/bin/bash
# A run on several machines of a Slurm cluster. When its time is up, the job is queued again, and resumes:
#   sbatch --nodes 2 --gpus-per-node 4 scripts/slurm.sh --task 15-1 --overlap --method RCIL --batch_size 3 --name mine
# Options of sbatch stand before the script, those of run.py behind it. Five minutes before the end of its time Slurm
# sends SIGUSR1 here. All processes then save and end, and the job is queued again. Slurm also does so if a node fails.
#SBATCH --job-name=rcil
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log

# Slurm runs a copy of this file, which lies elsewhere: call sbatch in the checkout.
CHECKOUT=$SLURM_SUBMIT_DIR
. "$CHECKOUT/scripts/setup.sh"
processes=${SLURM_GPUS_ON_NODE:-1}
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((SLURM_CPUS_PER_TASK / processes))}
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # since Slurm 22.05 srun does not take it over from sbatch
port=$((10000 + SLURM_JOB_ID % 50000))         # two jobs on one machine do not meet

export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 # or processes do not find each other after a restart on several machines

warned=
trap 'warned=yes; kill -USR1 "$running"' USR1

# One torchrun per node. It passes the signals named here on to its processes, and gives them two minutes to end.
srun --kill-on-bad-exit=1 torchrun \
    --nnodes "$SLURM_JOB_NUM_NODES" --nproc_per_node "$processes" --max-restarts 1 \
    --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$first:${MASTER_PORT:-$port}" \
    --signals-to-handle SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1 --shutdown-timeout 120 \
    run.py "$@" &
running=$!
wait "$running"
code=$?
if [ "$warned" ]; then
    # The signal ended the first wait.
    wait "$running"
    echo "out of time: job $SLURM_JOB_ID is queued again, and resumes from its checkpoint"
    exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
