#!/bin/sh
# Checks ./scx_mine in a Slurm job array. The folder of the job, which all nodes share, has scx_mine and ktstr.lock, and
# cargo-ktstr is on PATH.
#
#   id=$(sbatch --parsable slurm.sh)
#   sbatch --dependency=afterok:"${id}" --array=1 slurm.sh merge
#
#SBATCH --job-name=ktstr
#SBATCH --array=1-3
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
#SBATCH --time=01:00:00
set -eu

if [ "${1:-check}" = merge ]; then
    exec cargo ktstr merge 1.json 2.json 3.json --html check.html --junit junit.xml
fi

# Templates are verified by the timestamps of their files, which a network file system may round, so each node has its own cache.
KTSTR_CACHE_DIR=${KTSTR_CACHE_DIR:-${TMPDIR:-/tmp}/ktstr-$(id -u)}
export KTSTR_CACHE_DIR

status=0
cargo ktstr check ./scx_mine --lock ktstr.lock --kernels 7.0,7.3 --shard "$SLURM_ARRAY_TASK_ID/3" --results "$SLURM_ARRAY_TASK_ID.json" || status=$?
# Exit code 1 means findings, on which the merge decides.
[ "$status" -eq 1 ] && status=0
exit "$status"
