from isaaclab import Cfg


class ContactSensorCfg(Cfg):
    pass
