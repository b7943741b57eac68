#!/bin/sh
# Converts one model by an array of jobs, then joins the parts:
#
#     examples/slurm/convert.sh 8 model.safetensors model_int8.safetensors [flags of a conversion]
#
# Model and output must be on a file system that all nodes see. QUANTSMITH names the program if it is not
# on the PATH; SBATCH_PART and SBATCH_JOIN hold more options of sbatch. With --fit or --max-error, a job
# before the array chooses the formats once, into OUTPUT.layers.json. Prints the numbers of the jobs.
set -eu

[ "$#" -ge 3 ] || { echo "usage: $0 PARTS MODEL OUTPUT [flags]" >&2; exit 2; }
parts=$1 model=$2 output=$3
shift 3
here=$(dirname "$0")

first=""
case " $* " in
*" --fit "* | *" --fit="* | *" --max-error "* | *" --max-error="*)
  layers="${output%.safetensors}.layers.json"
  # shellcheck disable=SC2086
  first=$(sbatch --parsable ${SBATCH_PART:-} \
    "$here/choose.sbatch" "$model" -o "$layers" "$@")
  # The parts take what was chosen: all flags but those of the choice.
  left=$#
  while [ "$left" -gt 0 ]; do
    flag=$1
    shift
    left=$((left - 1))
    case "$flag" in
    --fit | --max-error | --fit-formats) shift; left=$((left - 1)) ;;
    --fit=* | --max-error=* | --fit-formats=*) ;;
    *) set -- "$@" "$flag" ;;
    esac
  done
  set -- "$@" --layer-config "$layers"
  ;;
esac

# shellcheck disable=SC2086
array=$(sbatch --parsable --array="1-$parts" ${first:+--dependency="afterok:$first"} ${SBATCH_PART:-} \
  "$here/part.sbatch" "$model" "$output" --part "auto/$parts" "$@")
# shellcheck disable=SC2086
join=$(sbatch --parsable --dependency="afterok:$array" ${SBATCH_JOIN:-} \
  "$here/join.sbatch" "$output")
echo "${first:+$first }$array $join"
