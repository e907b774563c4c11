#!/usr/bin/env bash
# A teacher that knows a fifth of the labels, like its student: what it says of them, and in the other pictures finds; docs/evidence.md.
# Some four hours of one core. Started again it goes on where it was; needs the extra `prune`.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
out=logs/evidence
cp benchmarks/results/fifth_neu_det/fifth.txt benchmarks/results/fifth_neu_det/rest.txt VOCdevkit/neu_det/ImageSets/Main
shared=(--train neu_det/fifth --classes VOCdevkit/neu_det/classes.txt --batch-size 16 --expand 1 --workers 1 --cache ram --amp bf16 --no-pretrained)
shared+=(--backbone 'resnet18(width=0.25)' --recipe scratch)

go_on=(); if [ -e $out/own_teacher/last.pth ]; then go_on=(--resume); fi
python train_teacher.py "${shared[@]}" --val neu_det/val --val-every 50 --epochs 300 --logs $out --name own_teacher "${go_on[@]}"
[ -e $out/own_cut.pth ] || python -m tools.prune --weights $out/own_teacher/best.pth --keep 0.5 --out $out/own_cut.pth

python -m tools.compare --out $out/own --teacher $out/own_teacher/best.pth --seeds 5 --test neu_det/test \
    --variant "unlabelled: --preset soft --unlabelled neu_det/rest --unlabelled-fraction 0.75 --pseudo-doubt 0.2 --teacher-views 30 --epochs 25" \
    "objectness: --preset objectness" "twice as long: --alone --epochs 208" \
    -- "${shared[@]}" --weights $out/own_cut.pth --val-every 0 --epochs 104
