#!/bin/sh
# A job that must not be started twice: without --requeue it is started at most once, whatever dies.
#SBATCH --job-name=counter
#SBATCH --time=5
set -eu
results=${1:-.}
echo "counter $JOBLEDGER_JOB_ID.$JOBLEDGER_ATTEMPT" >> "$results/witness"
i=0
while [ "$i" -lt 12 ]; do
    i=$((i + 1))
    echo "$i"
    sleep 1
done
echo "counted to $i, once" > "$results/counter.txt"
