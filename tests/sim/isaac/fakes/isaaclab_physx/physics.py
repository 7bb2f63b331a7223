from isaaclab import Cfg


class PhysxCfg(Cfg):
    pass
