"""The layouts of the public data sets, as their publishers lay them out.

The table of folders in the documentation is made from this one.
"""

from __future__ import annotations

from muhdi.data.public.labels import MAPILLARY_V1, MAPILLARY_V2
from muhdi.data.public.layout import Format, LabelKind, Layout


def _suffixed(pattern: str, ids: str, train_ids: str, colours: str) -> tuple[LabelKind, ...]:
    """Kinds of labels that lie side by side, told apart by how their names end."""
    return (
        LabelKind("ids", f"{pattern}_{ids}.png"),
        LabelKind("train_ids", f"{pattern}_{train_ids}.png"),
        LabelKind("colours", f"{pattern}_{colours}.png"),
    )


def _mapillary(format: Format) -> tuple[LabelKind, ...]:
    v1 = "config_v1.2.json"
    v2 = "config_v2.0.json"
    return (
        LabelKind(
            format, "{split}/labels/{stem}.png", table=MAPILLARY_V1, configs=("config.json", v1, v2)
        ),
        LabelKind(format, "{split}/v1.2/labels/{stem}.png", table=MAPILLARY_V1, configs=(v1,)),
        LabelKind(format, "{split}/v2.0/labels/{stem}.png", table=MAPILLARY_V2, configs=(v2,)),
    )


def _bdd100k(labels: str, colours: str) -> tuple[LabelKind, ...]:
    # Its ids are Cityscapes' train ids.
    return (
        LabelKind("ids", labels),
        LabelKind("train_ids", labels),
        LabelKind("colours", colours),
    )


_FORMATS: tuple[Format, ...] = ("ids", "train_ids", "colours")
_EVERY = {"train": 1, "all": 1, "val": 50}

_GT_FINE = "gtFine/{split}/{parent}/{stem}_gtFine"
_POLYGONS = f"{_GT_FINE}_polygons.json"
_OF_CITYSCAPES = (
    *_suffixed(_GT_FINE, "labelIds", "labelTrainIds", "color"),
    # Their id is -1, which is drawn nowhere: a licence plate is part of its car.
    LabelKind("polygons", _POLYGONS, undrawn=("license plate",)),
)

_POTSDAM_TEST = (
    *("2_13", "2_14", "3_13", "3_14", "4_13", "4_14", "4_15"),
    *("5_13", "5_14", "5_15", "6_13", "6_14", "6_15", "7_13"),
)
_VAIHINGEN_TEST = (2, 4, 6, 8, 10, 12, 14, 16, 20, 22, 24, 27, 29, 31, 33, 35, 38)

_STREETS: dict[str, Layout] = {
    "gta5": Layout(
        root="data/GTA5",
        example="images/00001.png",
        folder="images",
        images="*",
        endings=(".png", ".jpg"),
        labels=tuple(LabelKind(format, "labels/{stem}.png") for format in _FORMATS),
        train=("train", "all"),
        every=_EVERY,
    ),
    "synthia": Layout(
        root="data/SYNTHIA",
        example="RGB/0000000.png",
        folder="RGB",
        images="*",
        endings=(".png", ".jpg"),
        labels=(
            LabelKind("ids", "GT/CLASSES/{stem}.png"),
            LabelKind("ids", "GT/LABELS/{stem}.png", first_channel=True),
            LabelKind("train_ids", "GT/CLASSES/{stem}.png"),
            LabelKind("colours", "GT/COLOR/{stem}.png"),
        ),
        train=("train", "all"),
        every=_EVERY,
    ),
    "cityscapes": Layout(
        root="data/cityscapes",
        example="leftImg8bit/train/aachen/aachen_000004_000019_leftImg8bit.png",
        folder="leftImg8bit/{split}",
        images="*/*",
        endings=("_leftImg8bit.png",),
        labels=_OF_CITYSCAPES,
    ),
    "foggy_cityscapes": Layout(
        root="data/cityscapes",
        example="leftImg8bit_foggy/train/aachen/aachen_000004_000019_leftImg8bit_foggy_beta_0.02.png",
        folder="leftImg8bit_foggy/{split}",
        images="*/*",
        endings=("_leftImg8bit_foggy_beta_{variant}.png",),
        labels=_OF_CITYSCAPES,
    ),
    "rainy_cityscapes": Layout(
        root="data/cityscapes",
        example=(
            "leftImg8bit_rain/train/aachen/aachen_000004_000019_leftImg8bit_rain"
            "_alpha_0.01_beta_0.005_dropsize_0.01_pattern_1.png"
        ),
        folder="leftImg8bit_rain/{split}",
        images="*/*",
        endings=("_leftImg8bit_rain_{variant}.png",),
        labels=_OF_CITYSCAPES,
        shares_labels=True,
    ),
    "idd": Layout(
        root="data/IDD",
        example="leftImg8bit/train/0/005506_leftImg8bit.png",
        folder="leftImg8bit/{split}",
        images="*/*",
        endings=("_leftImg8bit.png", "_leftImg8bit.jpg"),
        labels=(
            *_suffixed(_GT_FINE, "labelids", "labelcsTrainIds", "color"),
            LabelKind("polygons", _POLYGONS),
        ),
    ),
    "mapillary": Layout(
        root="data/mapillary",
        example="train/images/--zbr1Jlbr7ZMgJVHmkPXw.jpg",
        folder="{split}/images",
        images="*",
        endings=(".jpg", ".jpeg", ".png"),
        labels=tuple(kind for format in _FORMATS for kind in _mapillary(format)),
        train=("train", "training"),
        val=("validation", "val"),
        fit="pad",
    ),
    "acdc": Layout(
        root="data/ACDC",
        example="rgb_anon/fog/train/GOPR0475/GOPR0475_frame_000041_rgb_anon.png",
        folder="rgb_anon",
        images="{variant}/{split}/*/*",
        endings=("_rgb_anon.png",),
        labels=_suffixed("gt/{parent}/{stem}_gt", "labelIds", "labelTrainIds", "labelColor"),
    ),
    "dark_zurich": Layout(
        root="data/dark_zurich",
        example="rgb_anon/val/night/GOPR0356/GOPR0356_frame_000321_rgb_anon.png",
        folder="rgb_anon",
        images="{split}/{variant}/*/*",
        endings=("_rgb_anon.png",),
        labels=_suffixed("gt/{parent}/{stem}_gt", "labelIds", "labelTrainIds", "labelColor"),
        val_variant="night",
    ),
    "bdd100k": Layout(
        root="data/bdd100k",
        example="images/10k/train/0004a4c0-d4dff0ad.jpg",
        folder="images/10k/{split}",
        images="*",
        endings=(".jpg",),
        labels=_bdd100k(
            "labels/sem_seg/masks/{split}/{stem}.png", "labels/sem_seg/colormaps/{split}/{stem}.png"
        ),
        older=(
            Layout(
                root="data/bdd100k/seg",
                example="images/train/0004a4c0-d4dff0ad.jpg",
                folder="images/{split}",
                images="*",
                endings=(".jpg",),
                labels=_bdd100k(
                    "labels/{split}/{stem}_train_id.png",
                    "color_labels/{split}/{stem}_train_color.png",
                ),
            ),
        ),
    ),
    "wilddash2": Layout(
        root="data/wd_public_02",
        example="images/aa0001.jpg",
        folder="images",
        images="*",
        endings=(".jpg",),
        labels=(LabelKind("ids", "labels/{stem}.png"),),
        held_out=5,
    ),
    "kitti": Layout(
        root="data/kitti_semantics",
        example="training/image_2/000001_10.png",
        folder="training/image_2",
        images="*",
        endings=(".png",),
        labels=(
            LabelKind("ids", "training/semantic/{stem}.png"),
            LabelKind("colours", "training/semantic_rgb/{stem}.png"),
        ),
        held_out=5,
    ),
    "a2d2": Layout(
        root="data/A2D2",
        example=(
            "camera_lidar_semantic/20180810_142822/camera/cam_front_center"
            "/20180810142822_camera_frontcenter_000000001.png"
        ),
        folder="camera_lidar_semantic",
        images="*/camera/{variant}/*",
        endings=(".png",),
        labels=(
            LabelKind(
                "colours",
                "camera_lidar_semantic/{parent:camera=label}/{stem:_camera_=_label_}.png",
            ),
        ),
        held_out=5,
    ),
    "comma10k": Layout(
        root="data/comma10k",
        example="imgs/0000_0085e9e41513078a_2018-08-19--13-26-08_11_864.png",
        folder=".",
        images="{variant}",
        endings=(".png",),
        labels=(LabelKind("colours", "{parent:imgs=masks}/{stem}.png"),),
        held_out=("*9.png",),
        fit="pad",
    ),
    "railsem19": Layout(
        root="data/railsem19",
        example="jpgs/rs19_val/rs00001.jpg",
        folder="jpgs/rs19_val",
        images="*",
        endings=(".jpg",),
        labels=(LabelKind("ids", "uint8/rs19_val/{stem}.png"),),
        held_out=10,
    ),
}

_AERIAL: dict[str, Layout] = {
    "loveda": Layout(
        root="data/LoveDA",
        example="Train/Urban/images_png/1366.png",
        folder="{split}",
        images="{variant}/images_png/*",
        endings=(".png",),
        labels=(LabelKind("ids", "{split}/{parent:images_png=masks_png}/{stem}.png"),),
        train=("Train", "train"),
        val=("Val", "val"),
    ),
    "potsdam": Layout(
        root="data/Potsdam",
        example="2_Ortho_RGB/top_potsdam_2_10_RGB.tif",
        folder="{variant}",
        images="top_potsdam_*",
        endings=("_RGB.tif", "_IRRG.tif", "_RGBIR.tif"),
        labels=(
            LabelKind("colours", "5_Labels_all/{stem}_label.tif", table="isprs"),
            LabelKind("colours", "5_Labels_for_participants/{stem}_label.tif", table="isprs"),
        ),
        held_out=tuple(f"top_potsdam_{tile}_*" for tile in _POTSDAM_TEST),
    ),
    "vaihingen": Layout(
        root="data/Vaihingen",
        example="top/top_mosaic_09cm_area1.tif",
        folder="top",
        images="top_mosaic_09cm_area*",
        endings=(".tif",),
        labels=(
            LabelKind(
                "colours",
                "ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE/{stem}.tif",
                table="isprs",
            ),
            LabelKind("colours", "gts_for_participants/{stem}.tif", table="isprs"),
        ),
        held_out=tuple(f"top_mosaic_09cm_area{tile}.tif" for tile in _VAIHINGEN_TEST),
    ),
}

LAYOUTS: dict[str, Layout] = {**_STREETS, **_AERIAL}
"""Layout by the data set's name in recipes."""
