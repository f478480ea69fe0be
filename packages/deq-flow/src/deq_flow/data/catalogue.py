"""Where the data sets are published, on what terms, and where below the folder of the data they go.

No checksum of these files is known to be published. Each address is from the documentation or script named beside it.
"""

from collections.abc import Mapping

from deq_core.experiment.download.fetch import Archive, Source

FREIBURG = "https://lmb.informatik.uni-freiburg.de"
THINGS = f"{FREIBURG}/data/SceneFlowDatasets_CVPR16/Release_april16/data/FlyingThings3D"
RESEARCH_ONLY = "Provided for research purposes only and without any warranty; any commercial use is prohibited."

SOURCES: Mapping[str, Source] = {
    # open-mmlab/mmflow, docs/data_prepare/FlyingChairs/README.md; the terms are those of the README in the archive
    "chairs": Source(
        title="FlyingChairs",
        page=f"{FREIBURG}/resources/datasets/FlyingChairs.en.html",
        licence=f"{RESEARCH_ONLY} Cite Dosovitskiy et al., ICCV 2015.",
        archives=(
            Archive(out="FlyingChairs_release", urls=(f"{FREIBURG}/data/FlyingChairs/FlyingChairs.zip",)),
            Archive(
                out="chairs_split.txt",
                urls=(f"{FREIBURG}/resources/datasets/FlyingChairs/FlyingChairs_train_val.txt",),
            ),
        ),
    ),
    # open-mmlab/mmflow, docs/en/data_prepare/FlyingThings3d/README.md, names the torrents, beside which the archives
    # lie; the terms are those of the publisher's page
    "things": Source(
        title="FlyingThings3D",
        page=f"{FREIBURG}/resources/datasets/SceneFlowDatasets.en.html",
        licence=f"{RESEARCH_ONLY} Cite Mayer et al., CVPR 2016. The clean pass is 37 GB, the flow 311 GB, packed.",
        archives=(
            Archive(
                out="FlyingThings3D/frames_cleanpass",
                urls=(f"{THINGS}/raw_data/flyingthings3d__frames_cleanpass.tar",),
            ),
            Archive(
                out="FlyingThings3D/frames_finalpass",
                urls=(f"{THINGS}/raw_data/flyingthings3d__frames_finalpass.tar",),
            ),
            Archive(
                out="FlyingThings3D/optical_flow",
                urls=(f"{THINGS}/derived_data/flyingthings3d__optical_flow.tar.bz2",),
            ),
        ),
        manual="The page offers the same archives as torrents, which are faster.",
    ),
    # Robust Vision Challenge: ozendelait/rvc_devkit, flow/benchmark_sintel.py; the mirror: open-mmlab/mmflow,
    # docs/data_prepare/Sintel/README.md
    "sintel": Source(
        title="MPI Sintel",
        page="http://sintel.is.tue.mpg.de/downloads",
        licence="Rendered from the open film Sintel, (c) Blender Foundation | durian.blender.org, Creative Commons "
        "Attribution 3.0. Cite Butler et al., ECCV 2012. 5.3 GB packed.",
        archives=(
            Archive(
                out="Sintel",
                urls=(
                    "http://files.is.tue.mpg.de/sintel/MPI-Sintel-complete.zip",
                    "http://sintel.cs.washington.edu/MPI-Sintel-complete.zip",
                ),
            ),
        ),
    ),
    # Robust Vision Challenge: ozendelait/rvc_devkit, flow/benchmark_kitti2015.py
    "kitti": Source(
        title="KITTI 2015 scene flow",
        page="https://www.cvlibs.net/datasets/kitti/eval_scene_flow.php?benchmark=flow",
        licence="Creative Commons Attribution-NonCommercial-ShareAlike 3.0. Cite Menze and Geiger, CVPR 2015.",
        archives=(Archive(out="KITTI", urls=("https://s3.eu-central-1.amazonaws.com/avg-kitti/data_scene_flow.zip",)),),
        manual="Log in and ask for the stereo 2015 / flow 2015 / scene flow 2015 data set, data_scene_flow.zip.",
    ),
    # Robust Vision Challenge: ozendelait/rvc_devkit, flow/benchmark_hd1k.py; the first host: the publisher's message to
    # those who register, as users of the set quote it
    "hd1k": Source(
        title="HD1K",
        page="http://hci-benchmark.iwr.uni-heidelberg.de/",
        licence="The terms are on the publisher's page. Cite Kondermann et al., CVPR workshops 2016.",
        archives=tuple(
            Archive(
                out=f"HD1k/{name}",
                urls=(
                    f"http://hci-benchmark.iwr.uni-heidelberg.de/media/downloads/{name}.zip",
                    f"http://hci-benchmark.org/media/downloads/{name}.zip",
                ),
            )
            for name in ("hd1k_input", "hd1k_flow_gt")
        ),
        manual="Register to be sent the addresses.",
    ),
    "spring": Source(
        title="Spring",
        page="https://spring-benchmark.org/",
        licence="Creative Commons Attribution 4.0. Cite Mehl et al., CVPR 2023.",
        manual="download train_frame_left.zip (12 GB) and train_flow_FW_left.zip (44 GB), for the benchmark also the "
        "test frames, and unpack them so that spring/train/0001/frame_left lies in the folder of the data.",
    ),
}
"""By the name that `check` knows the set by."""
