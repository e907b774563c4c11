#!/usr/bin/env bash
# The question of fifth.sh on a second data set, FOD20: docs/evidence.md. Some two hours of one core.
# Started again it goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
out=logs/evidence
cp benchmarks/results/fifth_fod20/fifth.txt benchmarks/results/fifth_fod20/rest.txt VOCdevkit/fod20/ImageSets/Main
shared=(--classes VOCdevkit/fod20/classes.txt --batch-size 16 --expand 1 --workers 1 --cache ram --amp bf16 --no-pretrained)

go_on=(); if [ -e $out/fod_teacher/last.pth ]; then go_on=(--resume); fi
python train_teacher.py --train fod20/train --val fod20/val --val-every 10 "${shared[@]}" \
    --backbone 'resnet18(width=0.25)' --epochs 60 --logs $out --name fod_teacher "${go_on[@]}"

rest="--unlabelled fod20/rest --pseudo-doubt 0.2 --teacher-views 50"
python -m tools.compare --out $out/fod --teacher $out/fod_teacher/best.pth --seeds 3 --test fod20/test \
    --variant "unlabelled: --preset soft $rest --epochs 49" "twice as long: --alone --epochs 200" \
    -- --train fod20/fifth --val-every 0 "${shared[@]}" --backbone 'resnet18(width=0.125)' --epochs 100
