"""Which classes the literature keeps for meta-validation and meta-test; the others are trained on.

miniimagenet: Ravi and Larochelle (ICLR 2017); cifar-fs: Bertinetto et al. (ICLR 2019); fc100: Oreshkin et
al. (NeurIPS 2018), whole groups of five; cub200: Chen et al. (ICLR 2019). As learners of these sets have
them in their code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_BIRDS = 200
_LISTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "miniimagenet": (
        tuple(
            """n01855672 n02091244 n02114548 n02138441 n02174001 n02950826 n02971356 n02981792 n03075370
            n03417042 n03535780 n03584254 n03770439 n03773504 n03980874 n09256479""".split()
        ),
        tuple(
            """n01930112 n01981276 n02099601 n02110063 n02110341 n02116738 n02129165 n02219486 n02443484
            n02871525 n03127925 n03146219 n03272010 n03544143 n03775546 n04146614 n04149813 n04418357
            n04522168 n07613480""".split()
        ),
    ),
    "cifar-fs": (
        tuple(
            """beaver otter flatfish shark lamp television beetle butterfly sea camel cattle crab crocodile
            maple_tree motorcycle tractor""".split()
        ),
        tuple(
            """whale poppy rose sweet_pepper telephone bed table wardrobe leopard plain chimpanzee fox snail
            worm baby man woman bicycle pickup_truck rocket""".split()
        ),
    ),
    "fc100": (
        tuple(
            """bear leopard lion tiger wolf camel cattle chimpanzee elephant kangaroo crab lobster snail
            spider worm hamster mouse rabbit shrew squirrel""".split()
        ),
        tuple(
            """beaver dolphin otter seal whale bee beetle butterfly caterpillar cockroach fox porcupine
            possum raccoon skunk baby boy girl man woman""".split()
        ),
    ),
}
OFFICIAL = {"cub200": "cub200", "miniimagenet": "miniimagenet", "cifar-fs": "cifar-100", "fc100": "cifar-100"}
"""By preset: the source that it is for."""


def held_back(preset: str, names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the classes of meta-validation and of meta-test; names: of all that the source has.

    Of CUB's 200, which its folders number, every fourth from the second and from the fourth. A name that is
    not among `names` says that the source is another.
    """
    if preset != "cub200":
        return _LISTS[preset]
    birds = sorted(names) if len(names) == _BIRDS else ["of 200 birds"] * 4
    return tuple(birds[1::4]), tuple(birds[3::4])
