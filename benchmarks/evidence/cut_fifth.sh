#!/usr/bin/env bash
# A fifth of the labels for students that are cut out of their teacher: docs/evidence.md. A search among settings,
# judged on validation images, and what it chose, with other seeds on test images of two data sets. After cut.sh
# and fod.sh, whose teachers it takes. Some five hours of one core. Started again it goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
out=logs/evidence
shared=(--batch-size 16 --expand 1 --workers 1 --cache ram --amp bf16 --no-pretrained --val-every 0)
shared+=(--backbone 'resnet18(width=0.25)' --recipe scratch)
chosen="--preset soft --unlabelled-fraction 0.75 --pseudo-doubt 0.2"

neu=(--train neu_det/fifth --classes VOCdevkit/neu_det/classes.txt --weights $out/cut.pth "${shared[@]}" --epochs 104)
rest="--preset soft --unlabelled neu_det/rest --teacher-views 30"
cp benchmarks/results/fifth_neu_det/fifth.txt benchmarks/results/fifth_neu_det/rest.txt VOCdevkit/neu_det/ImageSets/Main
python -m tools.compare --out $out/search --teacher $out/teacher/best.pth --first-seed 100 --seeds 2 --test neu_det/val \
    --variant "both: $rest --pseudo-doubt 0.2 --epochs 50" \
    "no soft: $rest --soft-weight 0 --pseudo-doubt 0.2 --epochs 50" \
    "no doubt: $rest --epochs 50" \
    "soft 2: $rest --soft-weight 2 --pseudo-doubt 0.2 --epochs 50" \
    "three quarters: $rest --unlabelled-fraction 0.75 --pseudo-doubt 0.2 --epochs 25" -- "${neu[@]}"
python -m tools.compare --out $out/confirm --teacher $out/teacher/best.pth --seeds 5 --test neu_det/test \
    --variant "unlabelled: $chosen --unlabelled neu_det/rest --teacher-views 30 --epochs 25" \
    "twice as long: --alone --epochs 208" -- "${neu[@]}"

cp benchmarks/results/fifth_fod20/fifth.txt benchmarks/results/fifth_fod20/rest.txt VOCdevkit/fod20/ImageSets/Main
[ -e $out/fod_cut.pth ] || python -m tools.prune --weights $out/fod_teacher/best.pth --keep 0.5 --out $out/fod_cut.pth
python -m tools.compare --out $out/fod_cut --teacher $out/fod_teacher/best.pth --seeds 5 --test fod20/test \
    --variant "unlabelled: $chosen --unlabelled fod20/rest --teacher-views 15 --epochs 14" \
    "twice as long: --alone --epochs 116" \
    -- --train fod20/fifth --classes VOCdevkit/fod20/classes.txt --weights $out/fod_cut.pth "${shared[@]}" --epochs 58
