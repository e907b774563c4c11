"""A VOC devkit on disk -> samples whose every field has been checked.

<devkit>/<year folder>/JPEGImages/<id>.jpg
                       Annotations/<id>.xml
                       ImageSets/Main/<split>.txt      one id a line
"""

from utils.data.voc.annotation import Annotation
from utils.data.voc.class_names import check_names, read_classes
from utils.data.voc.samples import Sample, check_splits, image_of, images_by_id, read_split
from utils.data.voc.splits import inside, listed_ids, split_file

__all__ = [
    "Annotation",
    "Sample",
    "check_names",
    "check_splits",
    "image_of",
    "images_by_id",
    "inside",
    "listed_ids",
    "read_classes",
    "read_split",
    "split_file",
]
