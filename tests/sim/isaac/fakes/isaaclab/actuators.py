from isaaclab import Cfg


class ImplicitActuatorCfg(Cfg):
    pass
