#!/usr/bin/env bash
# A fifth of the labels, and a teacher that has seen all of them: docs/evidence.md. After cut.sh, whose
# teacher it takes. Some seven hours of one core. Started again it goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
out=logs/evidence
lists=VOCdevkit/neu_det/ImageSets/Main
cp benchmarks/results/fifth_neu_det/fifth.txt benchmarks/results/fifth_neu_det/rest.txt $lists

listen="--preset soft"
rest="--unlabelled neu_det/rest --pseudo-doubt 0.2"
shared=(--train neu_det/fifth --val-every 0 --classes VOCdevkit/neu_det/classes.txt --batch-size 16 --expand 1)
shared+=(--workers 1 --cache ram --amp bf16 --backbone 'resnet18(width=0.125)' --no-pretrained)
python -m tools.compare --out $out/fifth --teacher $out/teacher/best.pth --seeds 5 --test neu_det/test \
    --variant "unlabelled: $listen $rest --teacher-views 60 --epochs 174" \
    "twice as long: --alone --epochs 720" \
    "float32: --alone --amp off" \
    -- "${shared[@]}" --epochs 360

# How many views are enough, in 60 epochs.
python -m tools.compare --out $out/views --teacher $out/teacher/best.pth --seeds 3 --test neu_det/test \
    --variant "10: $listen --teacher-views 10" "20: $listen --teacher-views 20" \
    "50: $listen --teacher-views 50" "live: $listen" \
    -- "${shared[@]}" --epochs 60
