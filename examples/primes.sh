#!/bin/sh
# Count the primes below 100000, a slice at a time. It may be restarted: it keeps its progress.
#SBATCH --job-name=primes
#SBATCH --time=10
#SBATCH --requeue
set -eu
results=${1:-.}
echo "primes $JOBLEDGER_JOB_ID.$JOBLEDGER_ATTEMPT" >> "$results/witness"
progress=$results/primes.progress
[ -s "$progress" ] || echo "0 0" > "$progress"
read -r slice count < "$progress"
echo "attempt $JOBLEDGER_ATTEMPT begins at slice $slice of 20"
while [ "$slice" -lt 20 ]; do
    found=$(awk -v low=$((slice * 5000)) 'BEGIN {
        for (n = low; n < low + 5000; n++) {
            if (n < 2) continue
            prime = 1
            for (d = 2; d * d <= n; d++) if (n % d == 0) { prime = 0; break }
            count += prime
        }
        print count + 0
    }')
    slice=$((slice + 1))
    count=$((count + found))
    echo "$slice $count" > "$progress.new"
    mv "$progress.new" "$progress"
    sleep 1
done
echo "there are $count primes below 100000" > "$results/primes.txt"
