from isaaclab import THREE, Cfg

IDENTITY = (0.0, 0.0, 0.0, 1.0) if THREE else (1.0, 0.0, 0.0, 0.0)


class _Asset(Cfg):
    class InitialStateCfg:
        def __init__(self, **given):
            self.rot = IDENTITY
            vars(self).update(given)


class AssetBaseCfg(_Asset):
    pass


class ArticulationCfg(_Asset):
    pass


class RigidObjectCfg(_Asset):
    pass
