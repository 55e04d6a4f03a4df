#!/bin/sh
# The next sitting at full scale: nine minutes on the GPU of this machine, or on its CPU where there is none.
#
#     sh benchmarks/full.sh [FOLDER]
#
# Run it again, on this machine or on another one that sees the folder, until it says that nothing is left. Its order is
# that of value: Ding et al.'s table, Zhang et al.'s figure 1, Sander et al.'s figures, then language models.
set -u
out=${1:-results/full}
minutes=9
begin=$(date +%s)
for claims in \
    "ding2024.prefix-beats-causal-after-training ding2024.prefix-beats-causal-on-shorter-prompts" \
    "zhang2024.decoders-beat-linear-attention" \
    "sander2024.trained-depth-beats-descent sander2024.heads-help-plain-tokens" \
    "ding2024 zhang2024 sander2024 identify" \
    "shen2024 min2022 wei2023 dherin2025"
do
    left=$((minutes * 60 - $(date +%s) + begin))
    [ "$left" -gt 60 ] || exit 75
    # shellcheck disable=SC2086
    insitu reproduce $claims --scale full --out "$out" --budget "${left}s" --workers 1
    code=$?
    if [ "$code" = 75 ]; then
        echo "The sitting is over. Next: sh benchmarks/full.sh $out"
        insitu status "$out"
        exit 75
    fi
    # An error of one claim does not keep the others from running; wrong input or an interruption does.
    [ "$code" -le 1 ] || exit "$code"
done
echo "Nothing is left at full scale in $out."
