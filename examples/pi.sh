#!/bin/sh
# Estimate pi by throwing darts: one task of an array, each with its own seed.
#SBATCH --job-name=pi
#SBATCH --time=5
#SBATCH --requeue
set -eu
results=${1:-.}
task=${JOBLEDGER_ARRAY_TASK_ID:-0}
echo "pi $JOBLEDGER_JOB_ID.$JOBLEDGER_ATTEMPT" >> "$results/witness"
inside=0
for round in 1 2 3 4 5; do
    hits=$(awk -v seed="$task$round" 'BEGIN {
        srand(seed)
        for (i = 0; i < 100000; i++) { x = rand(); y = rand(); if (x * x + y * y <= 1) n++ }
        print n
    }')
    inside=$((inside + hits))
    echo "round $round: $hits of 100000 darts hit"
    sleep 1
done
awk -v n="$inside" -v task="$task" \
    'BEGIN { printf "task %d: pi is about %.4f\n", task, 4 * n / 500000 }' > "$results/pi-$task.txt"
