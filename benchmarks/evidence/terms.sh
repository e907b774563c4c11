#!/usr/bin/env bash
# A search among terms: each beside a fifth of the labels and nothing else, for a student that is cut out of its teacher and done
# learning, judged on validation images; then the best with fresh seeds on test images, also beside pictures without labels, and
# on a second data set: docs/evidence.md. After cut.sh and cut_fifth.sh, whose teachers and cut networks it takes. Some nine hours
# of one core. Started again it goes on where it was.
set -euo pipefail
cd "$(dirname "$0")/../.."
export OMP_NUM_THREADS=1
out=logs/evidence
shared=(--batch-size 16 --expand 1 --workers 1 --cache ram --amp bf16 --no-pretrained --val-every 0)
shared+=(--backbone 'resnet18(width=0.25)' --recipe scratch)
soft="--preset soft"
only="--preset soft --soft-weight 0"
objectness="$only --distill objectness --share objectness=0.2"
rest="--unlabelled neu_det/rest --unlabelled-fraction 0.75 --pseudo-doubt 0.2 --teacher-views 30 --epochs 25"

student=(--train neu_det/fifth --classes VOCdevkit/neu_det/classes.txt --weights $out/cut.pth "${shared[@]}" --epochs 104)

cp benchmarks/results/fifth_neu_det/fifth.txt benchmarks/results/fifth_neu_det/rest.txt VOCdevkit/neu_det/ImageSets/Main
python -m tools.compare --out $out/terms --teacher $out/teacher/best.pth --first-seed 100 --seeds 1 --test neu_det/val \
    --variant "soft, T 2: $soft" "soft, T 1: $soft --temperature 1" "soft, T 4: $soft --temperature 4" \
    "soft, neg_w 1.5: $soft --neg-w 1.5" "soft 3: $soft --soft-weight 3" "soft 3, fading: $soft --soft-weight 3 --kd-schedule linear" \
    "tutorial: --preset tutorial" "l2: $only --l2-weight 0.5" \
    "objectness: $objectness" "cwd: $only --distill cwd --share cwd=0.2" \
    "imitation: $only --distill imitation --share imitation=0.2" "mgd: $only --distill mgd --share mgd=0.2" \
    "pkd: $only --distill pkd --share pkd=0.2" "crosskd: $only --distill crosskd --share crosskd=0.2" \
    "patience: $soft --soft-weight 3 --expand 4 --epochs 208" \
    -- "${student[@]}"

python -m tools.compare --out $out/terms_confirmed --teacher $out/teacher/best.pth --seeds 5 --test neu_det/test \
    --variant "objectness: $objectness" "twice as long: --alone --epochs 208" \
    "pictures: $soft $rest" "pictures, objectness: --preset objectness $rest" \
    -- "${student[@]}"

cp benchmarks/results/fifth_fod20/fifth.txt VOCdevkit/fod20/ImageSets/Main
python -m tools.compare --out $out/fod_terms --teacher $out/fod_teacher/best.pth --seeds 5 --test fod20/test \
    --variant "objectness: --preset objectness" "twice as long: --alone --epochs 116" \
    -- --train fod20/fifth --classes VOCdevkit/fod20/classes.txt --weights $out/fod_cut.pth "${shared[@]}" --epochs 58
