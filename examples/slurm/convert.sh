#!/bin/sh
# Converts one model by an array of jobs, then joins the parts:
#
#     examples/slurm/convert.sh 8 model.safetensors model_int8.safetensors [flags of a conversion]
#
# Model and output must be on a file system that all nodes see. QUANTSMITH names the program if it is not
# on the PATH; SBATCH_PART and SBATCH_JOIN hold more options of sbatch. Prints the numbers of both jobs.
set -eu

[ "$#" -ge 3 ] || { echo "usage: $0 PARTS MODEL OUTPUT [flags]" >&2; exit 2; }
parts=$1 model=$2 output=$3
shift 3
here=$(dirname "$0")

# shellcheck disable=SC2086
array=$(sbatch --parsable --array="1-$parts" ${SBATCH_PART:-} \
  "$here/part.sbatch" "$model" "$output" --part "auto/$parts" "$@")
# shellcheck disable=SC2086
join=$(sbatch --parsable --dependency="afterok:$array" ${SBATCH_JOIN:-} \
  "$here/join.sbatch" "$output")
echo "$array $join"
