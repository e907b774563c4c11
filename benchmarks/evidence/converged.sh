#!/usr/bin/env bash
# All labels, and students that have had their time: docs/evidence.md. After cut.sh, whose teacher and cut
# network it takes. Some three hours of one core. Started again it goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
out=logs/evidence
shared=(--classes VOCdevkit/neu_det/classes.txt --batch-size 16 --expand 1 --workers 1 --cache ram --amp bf16 --val-every 0)
cut="--weights $out/cut.pth --backbone 'resnet18(width=0.25)' --recipe scratch --epochs 60"
python -m tools.compare --out $out/all --teacher $out/teacher/best.pth --seeds 5 --test neu_det/test \
    --variant "cut: --alone $cut" "cut, soft: --preset soft --teacher-views 20 $cut" \
    -- --train neu_det/train "${shared[@]}" --backbone 'resnet18(width=0.125)' --no-pretrained --epochs 120
