"""Where the data sets are published, on what terms, and where below the folder of the data they go.

Each address and checksum is from the page named beside it.
"""

from collections.abc import Mapping

from deq_core.experiment.download.fetch import Archive, Source

SOURCES: Mapping[str, Source] = {
    "cifar10": Source(
        title="CIFAR-10, binary version",
        page="https://www.cs.toronto.edu/~kriz/cifar.html",
        licence="No licence is stated; the page asks to cite Krizhevsky, Learning multiple layers of features from "
        "tiny images, 2009. 162 MB packed.",
        archives=(
            Archive(
                out="cifar-10-batches-bin",
                urls=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
                checksum="md5:c32a1d4ab5d03f1284b67883e8d87530",  # stated on the page
            ),
        ),
    ),
    "imagenet": Source(
        title="ImageNet, ILSVRC 2012",
        page="https://www.image-net.org/download.php",
        licence="For non-commercial research and education, on terms to be accepted. Cite Russakovsky et al., IJCV "
        "2015. 145 GB packed.",
        manual="log in and download ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar. Unpack the first, and in it "
        "the archive of each class as a folder of its name, to imagenet/train; sort the 50,000 validation images into "
        "folders of the same names in imagenet/val, by the list in the development kit.",
    ),
    "cityscapes": Source(
        title="Cityscapes",
        page="https://www.cityscapes-dataset.com/downloads/",
        licence="On terms to be accepted at registration, https://www.cityscapes-dataset.com/license/. Cite Cordts et "
        "al., CVPR 2016. 11 GB and 0.3 GB packed.",
        manual="log in and download leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip; unpack both in the "
        "folder cityscapes, so that it holds leftImg8bit and gtFine.",
    ),
    "cityscapes-videos": Source(
        title="Cityscapes, the videos around its annotated frames",
        page="https://www.cityscapes-dataset.com/downloads/",
        licence="On terms to be accepted at registration, https://www.cityscapes-dataset.com/license/. Cite Cordts et "
        "al., CVPR 2016. 324 GB packed.",
        manual="log in and download leftImg8bit_sequence_trainvaltest.zip; unpack it in the folder cityscapes, beside "
        "leftImg8bit and gtFine, so that it holds leftImg8bit_sequence. For evaluation the validation split alone "
        "suffices.",
    ),
    "vid": Source(
        title="ImageNet VID, ILSVRC 2015",
        page="https://image-net.org/challenges/LSVRC/2015/",
        licence="For non-commercial research and education, on terms to be accepted. Cite Russakovsky et al., IJCV "
        "2015. 86 GB packed.",
        manual="log in and download ILSVRC2015_VID.tar.gz; unpack it, and name its folder ILSVRC, so that ILSVRC/Data/"
        "VID lies in the folder of the data.",
    ),
    "det": Source(
        title="ImageNet DET, ILSVRC 2015: the images with classes of VID",
        page="https://image-net.org/challenges/LSVRC/2015/",
        licence="For non-commercial research and education, on terms to be accepted. Cite Russakovsky et al., IJCV "
        "2015. 50 GB packed.",
        manual="log in and download ILSVRC2015_DET.tar.gz; unpack it, and name its folder ILSVRC, beside VID's. The "
        "list of the images, DET_train_30classes.txt, is published with FGFA (Zhu et al., ICCV 2017) and with the "
        "detectors that followed it; put it into ILSVRC/ImageSets.",
    ),
}
"""By the name that `check` knows the set by."""
